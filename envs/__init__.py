"""Environments: prompt optimization as a Markov decision process."""

from promptgym.envs.episode import Episode, ShellOptions
from promptgym.envs.factory import entry_points
from promptgym.envs.mdp import PromptMDP, PromptState, head_sizes, sample_action
from promptgym.envs.outcome import Outcome, ask
from promptgym.envs.prompt_edit import PromptEdit
from promptgym.envs.prompt_token import PromptToken
from promptgym.envs.shell import PromptEnv
from promptgym.envs.vector import PromptVectorEnv
from promptgym.envs.vocabulary import Vocabulary

__all__ = [
    "Episode",
    "Outcome",
    "PromptEdit",
    "PromptEnv",
    "PromptMDP",
    "PromptState",
    "PromptToken",
    "PromptVectorEnv",
    "ShellOptions",
    "Vocabulary",
    "ask",
    "entry_points",
    "head_sizes",
    "sample_action",
]
