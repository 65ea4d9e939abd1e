"""`MultiPrompter-v0`: several agents make one prompt, and are paid together (PettingZoo).

Both scenarios are views of the single-agent MDPs: `TokenTurns` of `PromptToken`, `EditorCritic` of
`PromptEdit`. They say whose turn it is; edits, scoring, rewards and budget are those of the MDP.
"""

from __future__ import annotations

from typing import Any, Literal

from promptgym.envs.editor_critic import EditorCritic
from promptgym.envs.factory import parts, rebuilder
from promptgym.envs.shell import PromptEnv
from promptgym.envs.team import ParallelTeamEnv, TeamEnv
from promptgym.envs.token_turns import TokensTogether, TokenTurns
from promptgym.errors import ConfigError

Scenario = Literal["turns", "editor-critic"]
SCENARIOS = ("turns", "editor-critic")
DEFAULTS: dict[str, dict[str, Any]] = {
    "turns": {"shaping": "sparse", "reward_scale": None},  # as PromptToken-v0
    "editor-critic": {"shaping": "delta", "reward_scale": 4.0},  # as PromptEdit-v0
}


def shell(
    *,
    scenario: Scenario = "turns",
    parallel: bool = False,
    render_mode: str | None = None,
    **arguments: Any,
) -> PromptEnv:
    """Return the single-agent environment that a team drives.

    Args:
        scenario: "turns" or "editor-critic".
        parallel: for agents that act at once.
        render_mode: as of `PromptEnv`.
        arguments: of the problem, the shell and the MDP, see `MultiPrompter`.

    Raises:
        ConfigError: for a scenario that does not exist, or that has no parallel form.
    """
    if scenario not in SCENARIOS:
        raise ConfigError(f"scenario must be one of {SCENARIOS}, got {scenario!r}")
    if parallel and scenario == "editor-critic":
        raise ConfigError(
            "an editor and its critic cannot act at once: the critic sees the proposal first; use "
            "the AEC form, or pettingzoo.utils.conversions.turn_based_aec_to_parallel of it"
        )
    whole = {"scenario": scenario, "parallel": parallel, "render_mode": render_mode, **arguments}
    mdp = EditorCritic if scenario == "editor-critic" else TokenTurns
    return PromptEnv(
        *parts(TokensTogether if parallel else mdp, arguments, DEFAULTS[scenario]),
        render_mode=render_mode,
        rebuild=rebuilder(__name__, "shell", whole),
    )


class MultiPrompter(TeamEnv):
    """Several agents make one prompt and share its reward.

    ## Description

    A PettingZoo environment in two scenarios, made by `pettingzoo.make("aec", "MultiPrompter-v0")`
    after `import promptgym`.

    - `scenario="turns"`: N prompters take turns; each appends a sub-prompt of n units to the shared
      prompt, which is scored once, when all are done (MultiPrompter, Kim et al. 2023). With one
      prompter this is `PromptToken-v0` with `length=tokens`, step by step.
    - `scenario="editor-critic"`: an editor proposes one edit of the prompt, a critic accepts or
      rejects it. A proposal is not scored before it is accepted, so that rejecting costs no query;
      accepting everything is `PromptEdit-v0`.

    `pettingzoo.make("parallel", "MultiPrompter-v0")` is the first scenario with all prompters at
    work at once: step i writes the i-th unit of every sub-prompt, and nobody sees more than the
    others' earlier units. The second has no such form.

    Agents are `prompter_0` ... `prompter_{N-1}`, or `editor_0` and `critic_0`. One agent is asked
    for several actions in a row while it writes its sub-prompt.

    ## Action Space

    Prompters: `Discrete(V)`, as in `PromptToken-v0` (with `early_stop=True`, AEC only,
    `Discrete(V + 1)`, and any prompter may end the whole prompt). Editor: that of `PromptEdit-v0`.
    Critic: `Discrete(2)`, 0 rejects and 1 accepts. To stop is a proposal like others. An illegal
    action changes nothing and is flagged; an illegal proposal ends the round, an illegal verdict
    rejects.

    ## Observation Space

    All agents see the same: in "turns" what `PromptToken-v0` shows (in the parallel form each
    sub-prompt stands at its own place, with gaps where it goes on); in "editor-critic" what
    `PromptEdit-v0` shows, and

    | key | space | what |
    |---|---|---|
    | `proposal` | `Box(0, n_ids - 1, (max_words,), int32)` | the proposed prompt; 0 without one |
    | `proposal_mask` | `MultiBinary(max_words)` | where it holds a unit |
    | `proposed` | `MultiBinary(2)` | whether a proposal waits, and whether it is to stop |
    | `proposal_demonstrations` | `Box(0, pool, (max,), int32)` | with a pool |

    `state()` is the shared prompt as ids, shape (N n,); of editor and critic both prompts, shape
    (2 max_words,). `state_space` is its space.

    ## Starting State

    That of `PromptToken-v0` (empty) or `PromptEdit-v0`; `reset(options={"prompt": ...})` starts at
    a given prompt, and the turns go on from there.

    ## Rewards

    A team reward: every agent is paid the same. "turns": 0 until the end, then the problem's reward
    in its own units. "editor-critic": the change of the prompt's value, 0 for proposals and
    rejections, so that at discount 1 the return is what the last prompt is worth above the first.

    ## Episode End

    For all agents at once.

    - Termination: that of the single-agent environment; for editor and critic after `horizon`
      rounds, or when a stop is accepted.
    - Truncation: the budget is spent (`info["budget_exhausted"]`) or each call for the prompt
      failed (`info["score_failed"]`), and the reward 0.0 of that step is not a score; or each
      prompter has had `max_cycles` actions. A `max_cycles` below `tokens` shortens the turns to it;
      then the prompt is never finished, and not scored.

    ## Information

    As in `PromptToken-v0` or `PromptEdit-v0`, for every agent; `action_mask` only for the agent
    whose turn it is (in the parallel form for each), as int8 for `action_space(agent).sample(mask)`
    (a tuple of masks for the editor's MultiDiscrete).

    ## Arguments

    | argument | default | what |
    |---|---|---|
    | `scenario` | "turns" | "turns" or "editor-critic" |
    | `prompters` | 2 | how many (turns) |
    | `tokens` | 5 | units of each sub-prompt (turns) |
    | `max_cycles` | None | actions an agent has (turns); None for no limit |

    and those of `PromptToken-v0` but `length`, or of `PromptEdit-v0`, of the problem and the shell
    (see `promptgym.envs.factory`).

    ## References

    - Kim et al. 2023, "MultiPrompter: Cooperative Prompt Optimization with Multi-Agent
      Reinforcement Learning", arXiv:2310.16730.
    - Terry et al. 2021, "PettingZoo: Gym for Multi-Agent Reinforcement Learning", NeurIPS (the AEC
      and the parallel API).

    ## Version History

    - v0: first version.
    """

    def __init__(self, **arguments: Any) -> None:
        """Make the environment from plain arguments; see the class.

        Raises:
            ConfigError: for arguments that mean nothing.
        """
        super().__init__(shell(**arguments))


class ParallelMultiPrompter(ParallelTeamEnv):
    """`MultiPrompter` whose prompters write at the same time."""

    def __init__(self, **arguments: Any) -> None:
        """Make the environment from plain arguments; see `MultiPrompter`.

        Raises:
            ConfigError: for arguments that mean nothing, or the scenario "editor-critic".
        """
        super().__init__(shell(parallel=True, **arguments))


env, parallel_env = MultiPrompter, ParallelMultiPrompter  # PettingZoo's names for entry points
