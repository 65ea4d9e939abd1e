"""Environments: prompt optimization as a Markov decision process."""

from promptgym.envs.episode import Episode, ShellOptions
from promptgym.envs.factory import entry_points
from promptgym.envs.instance_rewrite import InstanceRewrite
from promptgym.envs.mdp import PromptMDP, PromptState, head_sizes, sample_action
from promptgym.envs.multi_prompter import MultiPrompter, ParallelMultiPrompter
from promptgym.envs.outcome import Outcome, Question, ask
from promptgym.envs.prompt_edit import PromptEdit
from promptgym.envs.prompt_rewrite import PromptRewrite
from promptgym.envs.prompt_table import PromptTable
from promptgym.envs.prompt_token import PromptToken
from promptgym.envs.shell import PromptEnv
from promptgym.envs.table_vector import TableVectorEnv
from promptgym.envs.team import ParallelTeamEnv, TeamEnv, TeamMDP
from promptgym.envs.vector import PromptVectorEnv
from promptgym.envs.vocabulary import Vocabulary

__all__ = [
    "Episode",
    "InstanceRewrite",
    "MultiPrompter",
    "Outcome",
    "ParallelMultiPrompter",
    "ParallelTeamEnv",
    "PromptEdit",
    "PromptEnv",
    "PromptMDP",
    "PromptRewrite",
    "PromptState",
    "PromptTable",
    "PromptToken",
    "PromptVectorEnv",
    "Question",
    "ShellOptions",
    "TableVectorEnv",
    "TeamEnv",
    "TeamMDP",
    "Vocabulary",
    "ask",
    "entry_points",
    "head_sizes",
    "sample_action",
]
