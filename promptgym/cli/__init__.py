"""The command line: `promptgym train | evaluate | bench | report | leaderboard | envs | ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from promptgym.errors import PromptGymError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit status.

    0 is success, 1 an evaluation that failed throughout, 2 an error of the user (one line, no
    traceback), 130 an interruption.

    Args:
        arguments: what stands after `promptgym`; None takes the process's own.
    """
    from promptgym.cli.app import app
    from promptgym.cli.common import complain

    try:
        app(args=None if arguments is None else list(arguments), prog_name="promptgym")
    except PromptGymError as error:
        complain(str(error))
        sys.exit(2)


__all__ = ["main"]
