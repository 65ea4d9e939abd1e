"""Ctrl-C in a real process."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import promptgym

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(promptgym.__file__).parents[1])}
"""For a process that is to import the package that is tested."""


def interrupted(run: subprocess.Popen[str]) -> str:
    """Press Ctrl-C, again where Python loses it (in a `__del__` it is only printed)."""
    for _ in range(5):
        run.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return run.communicate(timeout=20)[1]
    return run.communicate(timeout=20)[1]


def test_ctrl_c_in_a_real_process_leaves_a_resumable_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "promptgym.cli", "train", "random_tokens", "--task", "author"]
    command += ["--budget", "2000000", "--out", "run"]
    command += ["--task-options", json.dumps({"sizes": {"train": 8, "dev": 8, "test": 8}})]
    run = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    log = tmp_path / "run" / "events.jsonl"
    while run.poll() is None and not (log.exists() and log.read_text().count("scores") > 2):
        time.sleep(0.05)
    error = interrupted(run)
    assert run.returncode == 130, error
    assert error.rstrip().endswith("continue with: promptgym train --resume run")
    for line in log.read_text().splitlines():
        json.loads(line)
    assert (tmp_path / "run" / "checkpoints" / "journal.jsonl").exists()
