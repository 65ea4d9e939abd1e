"""What every test may use."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_shared = Path(__file__).resolve().parents[2] / "shared"
SHARED: Path | None = _shared if (_shared / "parity").is_dir() else None
"""Real data and reference values that lie beside a developer's checkout; users have none."""


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and reference values; skips the test where there is none."""
    if SHARED is None:
        pytest.skip("the folder of real data lies beside a developer's checkout only")
    return SHARED


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes a person's score cache, or that of another test."""
    folder = tmp_path_factory.getbasetemp() / "caches" / uuid.uuid4().hex
    monkeypatch.setenv("PROMPTGYM_CACHE", str(folder))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Small models are fastest on one thread, and tests may run side by side."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what builds a model of `llm_models` once and returns its spec."""
    from llm_models import build

    made: dict[tuple[str, str], str] = {}

    def get(kind: str, name: str) -> str:
        if (kind, name) not in made:
            made[kind, name] = build(tmp_path_factory.mktemp(name), kind, name)
        return made[kind, name]

    return get


@pytest.fixture(scope="session")
def policy_lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A policy language model for RLPrompt (see `rlprompt_models`)."""
    from rlprompt_models import build_policy

    return build_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def openai_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A key is in the environment, retries wait milliseconds, no model outlives its server."""
    from openai_server import SECRET

    from promptgym.llms import forget_models
    from promptgym.llms.openai import retry

    monkeypatch.setattr(retry, "FIRST_WAIT", 0.004)
    monkeypatch.setenv("PROMPTGYM_API_KEY", SECRET)
    yield
    forget_models()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL cluster of the tests' own; skips where there is none."""
    from databases import Missing, cluster

    try:
        with cluster() as socket:
            yield socket
    except Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for a cache: a SQLite file, then a PostgreSQL database."""
    from databases import new_database

    if request.param == "sqlite":
        return str(tmp_path / "cache" / "scores.sqlite")
    return new_database(request.getfixturevalue("postgresql"), tmp_path.name)
