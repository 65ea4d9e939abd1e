"""The dry run: it counts what the loop would ask, and asks nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest

from promptgym.agents import AGENTS
from promptgym.errors import ConfigError
from promptgym.evaluation.experiment import Experiment
from promptgym.evaluation.projection import StandIn, project
from promptgym.llms import LabelLogprobs, Sampling, forget_models
from promptgym.llms.registry import LOADERS
from promptgym.testing import TransparentModel


class Silent(TransparentModel):
    """Must not be asked."""

    options = SimpleNamespace(price_in=2.0, price_out=None)

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Fail."""
        raise AssertionError("a dry run asked the model")


class Plain(TransparentModel):
    """Has some opinion on any text."""

    def logit(self, text: str) -> float:
        """Look at its length."""
        return len(text) % 7 - 3.0


@pytest.fixture
def _models(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(LOADERS, "silent", lambda name, **_: Silent())
    monkeypatch.setitem(LOADERS, "plain", lambda name, **_: Plain())
    yield
    forget_models()


def experiment(model: str, method: str = "hill_climbing", **budget: float) -> Experiment:
    return Experiment(method=method, task="author", model=model, budget=budget)


@pytest.mark.usefixtures("_models")
@pytest.mark.parametrize("method", ["hill_climbing", "random_tokens"])
def test_a_dry_run_counts_what_the_run_then_spends(method: str) -> None:
    found = project(experiment("silent:x", method, queries=6400))
    real = experiment("plain:x", method, queries=6400)
    problem = real.problem(*real.load())
    spent = real.build().optimize(problem, real.seed).spent
    assert found["search"]["queries"] == pytest.approx(spent["queries"], rel=0.1)
    assert found["search"]["tokens"] == pytest.approx(spent["tokens"], rel=0.3)
    assert found["search"]["queries"] <= 6400 and found["measured"] == 1.0
    for part in ("search", "held_out", "total"):
        assert found[part]["usd"] == pytest.approx(found[part]["tokens"] * 2.0 / 1e6)
    assert found["total"]["queries"] == found["search"]["queries"] + found["held_out"]["queries"]


@pytest.mark.usefixtures("_models")
def test_a_long_loop_is_extrapolated_and_money_of_no_price_is_unknown() -> None:
    found = project(experiment("plain:x", queries=64_000), seconds=0.0)
    assert 0 < found["measured"] < 1
    assert found["search"]["queries"] == pytest.approx(64_000, rel=0.1)
    assert found["total"]["usd"] is None


@pytest.mark.usefixtures("_models")
def test_a_budget_of_time_alone_cannot_be_projected() -> None:
    with pytest.raises(ConfigError, match="seconds alone cannot be projected"):
        project(experiment("silent:x", seconds=5.0))


def test_the_stand_in_says_the_same_to_the_same() -> None:
    model = StandIn(Silent(), 60.0)
    first, again = (model.label_logprobs(["a", "b"], ["x", "y"]).logprobs for _ in range(2))
    assert (first == again).all() and (first < 0).all() and first[0, 0] != first[1, 0]
    assert model.weights, "what else the model has is lent"
    assert model.generate(["a"], Sampling(max_new_tokens=7))[0].tokens == 7
    assert model.loglikelihood(["a"], ["b"])[0] < 0


@pytest.mark.parametrize("method", sorted({*AGENTS} - {"dpo_rewriter", "prewrite"}))
def test_agents_are_projected_on_a_model_of_transformers(method: str) -> None:
    found = project(experiment("tiny", method, queries=3200), seconds=1.0)
    assert found["search"]["queries"] == pytest.approx(3200, rel=0.3)
