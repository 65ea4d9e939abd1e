"""The baselines that learn nothing: the generators of random strings, and random edits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from additive import make

from promptgym.agents import make_optimizer
from promptgym.baselines.random_edits import RandomEdits
from promptgym.baselines.random_tokens import RandomTokens
from promptgym.errors import ConfigError, PromptGymError
from promptgym.problem import Problem, make_problem
from promptgym.prompts import Prompt
from promptgym.runs import ListSink
from promptgym.search import Ask
from promptgym.search.driver import IDLE
from promptgym.testing import RuleProposer


def asked(method: Any, problem: Problem, seed: int = 0) -> list[Prompt]:
    """Return the first batch that a method asks."""
    ask = next(method.search(problem, np.random.default_rng(seed)))
    return list(ask.prompts if isinstance(ask, Ask) else ask)


def test_words_come_as_often_as_the_training_inputs_use_them() -> None:
    # "minus" and "plus" stand in half of the inputs each, "hard2" in a fifth, "alpha" in none.
    problem = make(vocabulary=("alpha", "plus", "hard2"))
    prompts = asked(RandomTokens(batch=3000, generator="frequency"), problem)
    counts = Counter(w for p in prompts for w in p.words)
    assert counts["alpha"] == 0
    assert counts["plus"] / counts["hard2"] == pytest.approx(10 / 4, rel=0.1)


def test_a_vocabulary_that_no_text_uses_has_no_frequencies() -> None:
    with pytest.raises(ConfigError, match="no word of the vocabulary"):
        make_optimizer("random_tokens", generator="frequency").optimize(make())


def test_the_proposer_writes_on_where_the_prompt_stands() -> None:
    def rule(text: str, rng: np.random.Generator) -> str:
        return rng.choice(["a b c d e", "too short", ""])

    proposer = RuleProposer(rule)
    problem = make(20_000, initial_prompt="unused", proposer=proposer)
    result = RandomTokens(3, 3, batch=12, generator="model").optimize(problem)
    inputs = {e.input for e in problem.task.train}
    assert {text.strip() for text in proposer.asked} == inputs
    assert result.best.prompt == Prompt("a b c"), "what is too short is no candidate"
    assert result.spent["proposer"]["calls"] == len(proposer.asked) > 12
    assert result.spent["queries"] <= 20_000 and result.stats["proposals"] == len(proposer.asked)


def test_a_proposer_that_writes_too_little_ends_random_strings() -> None:
    mute = RuleProposer(lambda text, rng: "word")
    problem = make(20_000, proposer=mute)
    with pytest.raises(PromptGymError, match="asked the proposer 'rule' 50 times in a row"):
        RandomTokens(2, 3, generator="model").optimize(problem)
    assert len(mute.asked) == 16 * IDLE and problem.ledger.queries == 0


def test_samples_of_the_embedded_model_are_not_the_words_of_chance() -> None:
    sizes = {"train": 8, "dev": 8, "test": 1}
    options: dict[str, Any] = {"task_options": {"sizes": sizes}, "budget": 8 * 40 + 40}
    sink = ListSink()
    problem = make_problem("author", "tiny", proposer="tiny", events=sink, **options)
    method = RandomTokens(batch=40, generator="model")
    method.optimize(problem)
    scored = next(e for e in sink.events if e["kind"] == "scores")
    prompts = [Prompt(p["instruction"]) for p in scored["prompts"]]
    assert len(set(prompts)) > 20
    assert all(1 <= len(p.words) <= 8 for p in prompts)
    drawn = asked(RandomTokens(batch=40), problem)
    assert nats_a_word(problem, prompts) > nats_a_word(problem, drawn) + 1


def nats_a_word(problem: Problem, prompts: list[Prompt]) -> float:
    """Return how likely the target model finds prompts before an input, nats a word."""
    context = problem.template.render(Prompt(), problem.task.train[0]).rpartition("<")[0]
    texts = [" " + p.instruction for p in prompts]
    total = problem.model.loglikelihood([context] * len(texts), texts).sum()
    return float(total) / sum(len(p.words) for p in prompts)


def test_a_model_that_does_not_generate_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"tiny-masked.* is a masked model and writes no prompts"):
        make_problem("author", "tiny-masked", proposer="tiny-masked", budget=10_000)
    with pytest.raises(ConfigError, match=r"the problem has none; .*proposer='tiny'"):
        make_optimizer("random_tokens", generator="model").optimize(make())


@pytest.mark.parametrize("wrong", [{"generator": "markov"}, {"batch": 0}])
def test_random_tokens_refuses_unknown_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="random_tokens"):
        RandomTokens(**wrong)


def test_random_edits_stay_near_the_start_whatever_they_score() -> None:
    events: list[Prompt] = []
    problem = make(8000, initial_prompt="one two three")
    search = RandomEdits(most=2).search(problem, np.random.default_rng(0))
    from promptgym.search import Answer

    ask = next(search)
    assert list(ask) == [Prompt("one two three")]  # type: ignore[arg-type]
    for _ in range(12):
        scores = problem.score(list(ask))  # type: ignore[arg-type]
        ask = search.send(Answer(scores, problem.rewards(scores)))
        events += list(ask)  # type: ignore[arg-type]
    assert len(events) == len(set(events))
    for prompt in events:
        lost = Counter(("one", "two", "three")) - Counter(prompt.words)
        new = Counter(prompt.words) - Counter(("one", "two", "three"))
        assert max(lost.total(), new.total()) <= 2
    assert any("alpha" in p.words for p in events)


def test_random_edits_end_where_nothing_is_new() -> None:
    problem = make(100_000, vocabulary=("one",), initial_prompt="one")
    result = RandomEdits(longest=3).optimize(problem)
    assert result.stats["prompts"] == 4  # of 0 to 3 words


@pytest.mark.parametrize("wrong", [{"most": 0}, {"batch": 0}, {"longest": 0}])
def test_random_edits_refuses_numbers_below_one(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="random_edits"):
        RandomEdits(**wrong)
