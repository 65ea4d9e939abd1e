"""What runs were made with: versions of what scores depend on, the machine, the commit."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from promptgym import __version__
from promptgym.types import JSON

PACKAGES = (
    *("numpy", "torch", "transformers", "tokenizers", "gymnasium", "pettingzoo"),
    *("stable-baselines3", "sb3-contrib", "trl", "peft", "datasets", "accelerate", "ray", "vllm"),
)
"""Packages that scores or methods depend on."""


def describe_environment() -> JSON:
    """Return versions of promptgym, Python and packages, the platform, and the commit.

    The commit is that of the checkout promptgym is imported from, with "+changed" behind it where
    files that git knows differ; None for an installed package.
    """
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "promptgym": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": packages,
        "git": _commit(Path(__file__).resolve().parent),
    }


def _commit(folder: Path) -> str | None:
    """Return the commit that a folder's own files are of; None if they are of none."""
    own = _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
    commit = _git(folder, "rev-parse", "HEAD")
    if own is None or commit is None:
        return None
    return commit + ("+changed" if _git(folder, "status", "--porcelain", "-uno") else "")


def _git(folder: Path, *command: str) -> str | None:
    """Return what git prints; None if it fails, or there is none."""
    try:
        done = subprocess.run(
            ["git", *command], cwd=folder, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
