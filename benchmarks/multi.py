"""Does it help to split a prompt between prompters? MultiPrompter and RLPrompt at equal queries.

Prompts of 5 and of 10 words: RLPrompt (repaired), several prompters (MAPPO with a centralized
critic, and with a critic each) and one agent with the whole horizon. The claim (Kim et al. 2023) is
that splitting helps long prompts. Cells, command line and report are those of
`benchmarks/learning.py`; the reference of a difference is RLPrompt with as many words.

    python benchmarks/multi.py run --out runs/multi --jobs 2
    python benchmarks/multi.py report --out runs/multi
"""

from __future__ import annotations

from learning import Against, Methods, main

TEAMS = {5: (5,), 10: (2, 5)}  # words of a prompt -> prompters that share them equally
TASKS = ("review-author", "review-staff")


def methods() -> tuple[Methods, Against]:
    """Return what is compared, by name in tables, and with what."""
    table: Methods = {}
    against: Against = {}
    for length, teams in TEAMS.items():
        rlprompt = f"rlprompt of {length}"
        table[rlprompt], against[rlprompt] = ("rlprompt:repaired", {"length": length}), ()
        rows: Methods = {f"one agent of {length}": team(1, length)}
        for count in teams:
            tokens = length // count
            rows[f"{count} x {tokens} central"] = team(count, tokens)
            rows[f"{count} x {tokens} independent"] = team(count, tokens, critic="independent")
        table |= rows
        against |= dict.fromkeys(rows, (rlprompt,))
    return table, against


def team(prompters: int, tokens: int, **options: object) -> tuple[str, dict[str, object]]:
    """Return a MultiPrompter with its options."""
    return "multi_prompter", {"prompters": prompters, "tokens": tokens, **options}


if __name__ == "__main__":
    compared, references = methods()
    main(__doc__, "runs/multi", compared, references, TASKS)
