"""APE's reverse generation: the instruction is filled in where the template has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from llm_models import SEQ2SEQ, byte_level_bpe
from rule_models import events, make, method, rule_proposer

from promptgym.baselines.ape import with_gap
from promptgym.llms import Sampling, load_model
from promptgym.llms.base import FillsGaps
from promptgym.problem import Problem, make_problem
from promptgym.prompts import Prompt
from promptgym.runs import ListSink
from promptgym.testing import RuleProposer, TransparentModel, transparent_task

SENTINELS = ["<extra_id_0>", "<extra_id_1>"]
TEXTS = ["the plot <extra_id_0> and the script", "a film <extra_id_0> with"]
FILLED = ["was great", "not boring"]


class Filler(RuleProposer):
    """Fills gaps by rule."""

    gap_token = "<extra_id_0>"


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A T5 with sentinels that was taught two fillings by span corruption; its spec."""
    import torch
    import transformers

    tokenizer = byte_level_bpe("seq2seq")
    tokenizer.add_special_tokens({"additional_special_tokens": SENTINELS})
    config = transformers.T5Config(
        **SEQ2SEQ["t5"][1],
        vocab_size=len(tokenizer),
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
        dropout_rate=0.0,
    )
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(config)
    read = tokenizer(TEXTS, return_tensors="pt", padding=True)
    spans = [f"<extra_id_0> {words}<extra_id_1> the" for words in FILLED]
    target = tokenizer(spans, return_tensors="pt", padding=True)["input_ids"]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(80):
        loss = model(
            input_ids=read["input_ids"],
            attention_mask=read["attention_mask"],
            labels=target.masked_fill(target == 0, -100),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    folder = tmp_path_factory.mktemp("t5")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"hf:{folder}"


def test_a_t5_writes_what_stands_at_the_gap_and_no_more(t5: str) -> None:
    model: Any = load_model(t5)
    assert isinstance(model, FillsGaps) and model.gap_token == "<extra_id_0>"
    written = model.generate(TEXTS, Sampling(max_new_tokens=12))
    assert [c.text.strip() for c in written] == FILLED
    assert all(c.tokens < 12 for c in written), "the second sentinel ends a filling"


def test_a_model_without_sentinels_fills_no_gap(built: Any) -> None:
    assert getattr(load_model(built("seq2seq", "bart")), "gap_token", "") == ""
    assert not isinstance(load_model(built("causal", "gpt2")), FillsGaps)


def test_ape_has_a_t5_fill_gaps(t5: str) -> None:
    sink = ListSink()
    budget = {"queries": 3000, "proposer_calls": 25}
    problem = make(budget, load_model(t5), events=sink)
    ape = method("ape", generation="reverse", per_subset=2, max_tokens=8)
    result = ape.optimize(problem, seed=0)
    asked = [text for row in events(sink, "proposals") for text in row["texts"]]
    assert all(text.count("<extra_id_0>") == 1 and "<instruction>" not in text for text in asked)
    assert any("In other words: <extra_id_0>" in text for text in asked)
    assert result.stats["prompts"] > 1, "what it writes is taken whole"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{input} {prompt}", "in0 minus\nin1 plus\nin2 [GAP] minus"),
        ("{prompt}\n{demonstrations}{input}:", "[GAP]\nin0 minus\nin1 plus\nin2: minus"),
        ("{input} {prompt} {mask} .", "in0 minus\nin1 plus\nin2 [GAP] minus ."),
    ],
)
def test_the_gap_stands_where_the_template_has_the_prompt(template: str, text: str) -> None:
    model = TransparentModel()
    if "{mask}" in template:
        model.kind, model.mask_token = "masked", "<mask>"
    problem = Problem(transparent_task(), model, template=template)
    cases = [type(e)(f"in{i}", e.target) for i, e in enumerate(problem.task.train[:3])]
    assert with_gap(problem, cases) == text


def test_a_proposer_that_fills_gaps_gets_the_text_itself() -> None:
    filler = Filler(lambda text, rng: str(rng.choice(["alpha", "alpha beta", "gamma one"])))
    problem = make(4000, filler)
    result = method("ape", generation="reverse").optimize(problem, seed=0)
    guesses, variants = filler.asked[:90], filler.asked[90:]
    assert all(text.count("<extra_id_0>") == 1 for text in filler.asked)
    assert len(set(guesses)) == 3 and all(text.count("hard") == 5 for text in guesses)
    assert "alpha beta In other words: <extra_id_0>" in variants
    assert result.best.prompt == Prompt("alpha beta") and result.stats["unparsable"] == 0
    forward = Filler(filler.rule)
    method("ape", race=False).optimize(make(3000, forward), seed=0)
    assert not any("<extra_id_0>" in text for text in forward.asked)


def test_any_other_proposer_is_asked_in_words_what_stood_there() -> None:
    proposer = rule_proposer()
    result = method("ape", generation="reverse").optimize(make(9000, proposer), seed=0)
    guesses = proposer.asked[:90]
    assert len(set(guesses)) == 3 and all(text.count("[GAP]") == 2 for text in guesses)
    assert all("between <instruction> and </instruction>" in text for text in proposer.asked)
    assert {"alpha", "beta"} <= set(result.best.prompt.words)


def test_reverse_generation_runs_on_the_embedded_rewriter_and_resumes(tmp_path: Path) -> None:
    def go(folder: Path, resume: bool = False) -> tuple[Any, ...]:
        sizes = {"sizes": {"train": 8, "dev": 8}}
        problem = make_problem(
            "author", "tiny", task_options=sizes, proposer="tiny-rewriter", budget=300
        )
        ape = method("ape", generation="reverse", per_subset=4)
        result = ape.optimize(problem, 0, checkpoint_dir=folder, resume=resume)
        return result.best, result.spent["queries"], result.spent["proposer"], result.stats

    whole = go(tmp_path)
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]))
    assert go(tmp_path, resume=True) == whole
