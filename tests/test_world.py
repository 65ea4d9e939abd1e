"""The text world: what its generator promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from promptgym.llms.tiny import posterior
from promptgym.llms.tiny.grammar import FRAMES, PHRASES
from promptgym.rewards.formulas import gap_reward, margin_reward
from promptgym.tasks.world import (
    DEMONSTRATION,
    MASKED_TEMPLATE,
    TEMPLATE,
    WORLD_TASKS,
    cues,
    generate,
)
from promptgym.tasks.world.generate import MISLEADING, generate_items
from promptgym.tasks.world.inputs import QUESTIONS
from promptgym.types import FloatArray

CLASSIFICATION = [name for name, task in WORLD_TASKS.items() if task.labels]


@pytest.mark.parametrize("name", WORLD_TASKS)
def test_examples_are_distinct_and_repeatable(name: str) -> None:
    first = generate(name, 80, seed=3)
    assert first == generate(name, 80, seed=3)
    assert first != generate(name, 80, seed=4)
    inputs = [text for text, _ in first]
    assert len(set(inputs)) == 80
    again = generate(name, 80, seed=3, exclude=inputs)
    assert not set(inputs) & {text for text, _ in again}


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_labels_and_misleading_inputs_are_balanced(name: str) -> None:
    labels = WORLD_TASKS[name].labels
    assert labels is not None
    counts = Counter(target for _, target in generate(name, 101, seed=1))
    assert set(counts) == set(labels)
    assert max(counts.values()) - min(counts.values()) <= 1
    items = generate_items(name, 200, seed=2)
    question = WORLD_TASKS[name].question
    misleading = sum(item.answers[question][0] != item.answers[question][1] for item, _ in items)
    assert abs(misleading / 200 - MISLEADING) < 0.02


def test_there_is_no_unknown_task() -> None:
    with pytest.raises(KeyError, match="review-author"):
        generate("review-authors", 1, 0)


def test_table_covers_what_is_promised() -> None:
    tiers = Counter(task.tier for task in WORLD_TASKS.values())
    assert len(WORLD_TASKS) >= 6
    assert tiers["hard"] >= 2
    assert tiers["generation"] >= 1
    assert len({task.family for task in WORLD_TASKS.values()}) >= 3
    assert any(len(task.labels or ()) == 4 for task in WORLD_TASKS.values())
    for task in WORLD_TASKS.values():
        assert len(task.vocabulary) >= 800
        assert set(task.manual_prompt.split()) <= set(task.vocabulary)
        assert set(task.best_known_prompt.split()) <= set(task.vocabulary)
        assert set(task.labels or ()) <= set(task.vocabulary)
        assert (task.metric == "accuracy") == (task.labels is not None)


def test_templates_name_their_fields() -> None:
    assert TEMPLATE.format(input="x", prompt="p") == "<text> x <instruction> p <answer>"
    assert MASKED_TEMPLATE.format(input="x", prompt="p", mask="<mask>").endswith("<answer> <mask>")
    assert DEMONSTRATION.format(input="x", answer="y") == "<text> x <answer> y <eos> "


def test_every_word_of_the_grammar_is_in_the_vocabulary() -> None:
    known = set(cues.vocabulary())
    written = {word for frame in FRAMES for word in frame.replace("{}", "").split()}
    written |= {
        word for phrases in PHRASES.values() for phrase in phrases for word in phrase.split()
    }
    assert written <= known
    assert set(PHRASES) == {question for family in QUESTIONS.values() for question in family}


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_reader_weighs_words_as_the_table_says(name: str) -> None:
    """For the oracle the best known prompt is right nearly always, the empty one far from it."""
    task = WORLD_TASKS[name]
    pairs = generate_items(name, 200, seed=7)
    items = [item for item, _ in pairs]
    targets = np.array([(task.labels or ()).index(target) for _, target in pairs])
    prompts = [[], task.manual_prompt.split(), task.best_known_prompt.split()]
    shares = posterior.label_probabilities(
        task.family, posterior.strengths(prompts), items, task.labels or ()
    )
    empty, manual, best = (shares.argmax(axis=2) == targets).mean(axis=1)
    assert best >= 0.95
    assert max(empty, manual) <= 0.8


def test_answer_distributions_sum_to_one() -> None:
    for name, task in WORLD_TASKS.items():
        item = generate_items(name, 1, seed=0)[0][0]
        beliefs = posterior.believe(
            task.family, posterior.strengths([task.manual_prompt.split(), []]), [item]
        )
        for prompt in range(2):
            distribution = posterior.answer_distribution(beliefs, prompt, 0, item)
            assert sum(distribution.values()) == pytest.approx(1.0)
            assert min(distribution.values()) > 0.0


@pytest.mark.parametrize(
    "name", [n for n, t in WORLD_TASKS.items() if posterior.READINGS[t.question].pair]
)
def test_words_that_count_in_pairs_do_harm_alone(name: str) -> None:
    """For the oracle no single helpful word leads anywhere, whatever is climbed; pairs do."""
    task = WORLD_TASKS[name]
    pairs = generate_items(name, 200, seed=7)
    labels = task.labels or ()

    def values(prompts: Sequence[list[str]]) -> list[FloatArray]:
        """Accuracy, gap and margin of every prompt, as the oracle answers."""
        items = [item for item, _ in pairs]
        shares = posterior.label_probabilities(
            task.family, posterior.strengths(prompts), items, labels
        )
        logs, target = np.log(shares), np.array([labels.index(target) for _, target in pairs])
        right = (logs.argmax(axis=2) == target).mean(axis=1)
        return [right, gap_reward(logs, target), margin_reward(logs, target)]

    base = [task.question]
    alone = [[*base, word] for word in (*cues.CARE, *cues.SCOPE)]
    accuracy, reward, margin = (found[1:] - found[0] for found in values([base, *alone]))
    assert max(accuracy.max(), margin.max(), reward.max()) < 0
    words = ["carefully", "context", "closely", "clause"]
    accuracy, reward, margin = values([[*base, *words[:n]] for n in (0, 2, 4)])
    assert accuracy[0] < accuracy[1] < accuracy[2] - 0.1
    assert reward[0] < reward[1] < reward[2] - 50
    assert margin[2] > margin[0] + 0.2


def test_flips_turn_round_the_next_word() -> None:
    plain, flipped = posterior.strengths([["carefully"], ["not", "carefully"]])
    assert plain[posterior.CARE] == -flipped[posterior.CARE] > 0
