"""The vLLM adapter: its requests and what it reads, before a stand-in with vLLM's own names.

vLLM needs a GPU; `Engine` takes the same requests, refuses what vLLM would refuse and answers in
vLLM's shapes, computing with transformers. So scores must equal those of `hf:` exactly.
"""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from promptgym import load_model
from promptgym.errors import ExtraMissingError, ModelError
from promptgym.llms import LanguageModel, Sampling, forget_models
from promptgym.problem import make_problem
from promptgym.prompts import Prompt
from promptgym.testing.transparent import transparent_task

LABELS = ["great", "terrible story", "quite a dull plot"]
TEXTS = ["the movie was", "a boring script but the acting was", "it is not", "scene with a lovely"]


@dataclass
class SamplingParams:
    """Those fields of vLLM's that the adapter sets; another one is an error, as there."""

    max_tokens: int = 16
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop: list[str] = field(default_factory=list)
    seed: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None


@dataclass
class OldSamplingParams:
    """A release without `logprob_token_ids`."""

    max_tokens: int = 16
    temperature: float = 1.0
    top_k: int = -1
    top_p: float = 1.0
    stop: list[str] = field(default_factory=list)
    seed: int | None = None
    prompt_logprobs: int | None = None


@dataclass
class Logprob:
    """One entry of a position."""

    logprob: float
    rank: int = 1
    decoded_token: str = ""


@dataclass
class CompletionOutput:
    """What was written."""

    text: str
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None = None


@dataclass
class RequestOutput:
    """The answer to one request."""

    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]


@dataclass
class ModelConfig:
    """What an engine says of its model."""

    max_model_len: int


class Engine:
    """Answers as `vllm.LLM` does, from a model of transformers."""

    made: Engine

    def __init__(self, model: str, **arguments: Any) -> None:
        """Load the model."""
        import transformers

        if not arguments.pop("enable_prefix_caching", False):
            raise ValueError("the adapter relies on prefix caching")
        self.arguments = arguments
        self.requests: list[tuple[list[list[int]], Any]] = []
        self.hf = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        self.model_config = ModelConfig(arguments.get("max_model_len", 96))
        Engine.made = self

    def get_tokenizer(self) -> Any:
        """Return the tokenizer."""
        return self.tokenizer

    def generate(self, prompts: Sequence[Any], params: Any, use_tqdm: bool) -> list[RequestOutput]:
        """Answer requests of token ids."""
        rows = [p["prompt_token_ids"] for p in prompts]
        each = params if isinstance(params, list) else [params] * len(rows)
        self.requests.append((rows, params))
        assert len(each) == len(rows) and not use_tqdm
        return [self.answer(row, p) for row, p in zip(rows, each, strict=True)]

    def answer(self, row: list[int], params: Any) -> RequestOutput:
        """Answer one request."""
        import torch

        assert all(type(token) is int for token in row)
        if len(row) + params.max_tokens > self.model_config.max_model_len:
            raise ValueError("the request is longer than max_model_len")
        with torch.inference_mode():
            logprobs = self.hf(torch.tensor([row])).logits[0].double().log_softmax(-1)
        read = None
        if params.prompt_logprobs is not None:
            read = [None] + [
                {t: Logprob(float(logprobs[i, t])), int(logprobs[i].argmax()): Logprob(0.5, 1)}
                | {t: Logprob(float(logprobs[i, t]))}
                for i, t in enumerate(row[1:])
            ]
        wanted = getattr(params, "logprob_token_ids", None)
        named = wanted and [{t: Logprob(float(logprobs[-1, t])) for t in wanted}]
        return RequestOutput(read, [self.write(row, params, named or None)])

    def write(self, row: list[int], params: Any, named: Any) -> CompletionOutput:
        """Write greedily."""
        import torch

        assert params.temperature == 0, "the stand-in is greedy"
        tokens: list[int] = []
        for _ in range(params.max_tokens):
            with torch.inference_mode():
                logits = self.hf(torch.tensor([[*row, *tokens]])).logits[0, -1]
            tokens.append(int(logits.argmax()))
            text = self.tokenizer.decode(tokens, skip_special_tokens=True)
            cuts = [text.index(s) for s in params.stop if s in text]
            if cuts:
                return CompletionOutput(text[: min(cuts)], tokens, named)
            if tokens[-1] == self.tokenizer.eos_token_id:
                break
        return CompletionOutput(
            self.tokenizer.decode(tokens, skip_special_tokens=True), tokens, named
        )


class Confused(Engine):
    """A release in which the new field means something else."""

    def answer(self, row: list[int], params: Any) -> RequestOutput:
        """Answer one request."""
        out = super().answer(row, params)
        if out.outputs[0].logprobs:
            for entry in out.outputs[0].logprobs[0].values():
                entry.logprob += 1.0
        return out


class Silent(Engine):
    """One that forgets the log-probabilities of a prompt."""

    def answer(self, row: list[int], params: Any) -> RequestOutput:
        """Answer one request."""
        return RequestOutput(None, super().answer(row, params).outputs)


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what puts a release of vLLM in place."""

    def put(engine: type = Engine, params: type = SamplingParams) -> None:
        module = ModuleType("vllm")
        parts = {"LLM": engine, "SamplingParams": params, "TokensPrompt": dict}
        for name, part in parts.items():
            setattr(module, name, part)
        monkeypatch.setitem(sys.modules, "vllm", module)
        forget_models()

    return put


@pytest.mark.parametrize(
    ("engine", "params", "candidates"),
    [
        (Engine, SamplingParams, True),
        (Engine, OldSamplingParams, False),
        (Confused, SamplingParams, False),
    ],
)
@pytest.mark.parametrize("normalize", ["none", "tokens"])
def test_labels_score_as_on_transformers(
    release: Callable[..., None],
    built: Any,
    engine: type,
    params: type,
    candidates: bool,
    normalize: str,
) -> None:
    release(engine, params)
    spec = built("causal", "llama").removeprefix("hf:")
    model: Any = load_model(f"vllm:{spec}", normalize=normalize)
    assert isinstance(model, LanguageModel) and model.engine.candidates is candidates
    want = load_model(f"hf:{spec}", normalize=normalize).label_logprobs([*TEXTS, ""], LABELS)
    got = model.label_logprobs([*TEXTS, ""], LABELS)
    np.testing.assert_allclose(got.logprobs, want.logprobs, atol=1e-4)
    np.testing.assert_array_equal(got.tokens, want.tokens)


def test_one_request_a_context_names_the_candidates(
    release: Callable[..., None], built: Any
) -> None:
    release()
    model: Any = load_model("vllm:" + built("causal", "llama").removeprefix("hf:"))
    Engine.made.requests.clear()
    model.label_logprobs(TEXTS, ["great", "bad"])
    ((rows, params),) = Engine.made.requests
    assert len(rows) == 4 and len(params.logprob_token_ids) == 2
    assert (params.max_tokens, params.temperature, params.prompt_logprobs) == (1, 0.0, None)
    Engine.made.requests.clear()
    model.engine.candidates = False
    model.label_logprobs(TEXTS, ["great", "bad"])
    ((rows, params),) = Engine.made.requests
    assert len(rows) == 8 and params.prompt_logprobs == 1


def test_likelihoods_answers_and_lengths_are_those_of_transformers(
    release: Callable[..., None], built: Any
) -> None:
    release()
    spec = built("causal", "gpt2").removeprefix("hf:")
    model, plain = load_model(f"vllm:{spec}"), load_model(f"hf:{spec}")
    pairs = TEXTS, [" great", " plot and story", " a", " dull movie"]
    np.testing.assert_allclose(model.loglikelihood(*pairs), plain.loglikelihood(*pairs), atol=1e-4)
    sampling = Sampling(max_new_tokens=6, stop=("y",))
    assert model.generate(TEXTS, sampling) == plain.generate(TEXTS, sampling)
    params = Engine.made.requests[-1][1]
    assert [p.top_k for p in params] == [-1] * 4 and len({p.seed for p in params}) == 4
    long = "the movie was great " * 40
    got = model.label_logprobs([TEXTS[0], long], LABELS)
    assert list(got.failures) == [1] and "tokens" in got.failures[1]
    assert np.isnan(got.logprobs[1]).all() and np.isfinite(got.logprobs[0]).all()
    first, second = model.generate([TEXTS[0], long], sampling)
    assert first.error is None and second.error is not None and "for the answer" in second.error
    assert model.generate([], sampling) == []
    np.testing.assert_array_equal(model.count_tokens(TEXTS), plain.count_tokens(TEXTS))


def test_a_problem_is_scored_through_it(release: Callable[..., None], built: Any) -> None:
    release()
    spec = built("causal", "llama").removeprefix("hf:")
    task = transparent_task(6)
    scores = [
        make_problem(task, f"{scheme}:{spec}").score([Prompt("one two"), Prompt("great")])
        for scheme in ("vllm", "hf")
    ]
    np.testing.assert_array_equal(scores[0].values, scores[1].values)


def test_options_reach_the_engine_and_those_that_mean_nothing_are_refused(
    release: Callable[..., None], built: Any
) -> None:
    release()
    spec = "vllm:" + built("causal", "llama").removeprefix("hf:")
    model: Any = load_model(
        spec, dtype="bfloat16", max_model_len=40, tensor_parallel_size=2, engine={"swap_space": 0}
    )
    given = Engine.made.arguments
    assert given["dtype"] == "bfloat16" and given["tensor_parallel_size"] == 2
    assert given["max_model_len"] == 40 and given["swap_space"] == 0
    assert "revision" not in given and "trust_remote_code" not in given
    assert model.max_length == 39 and model.name.endswith(":bfloat16")
    assert pickle.loads(pickle.dumps(model)) is model and copy.deepcopy(model) is model
    for options, message in (
        ({"colour": 1}, "unknown options"),
        ({"engine": {"trust_remote_code": True}}, "engine holds .*never run"),
        ({"engine": {"dtype": "half"}}, "engine holds"),
        ({"engine": 3}, "engine must be an object"),
        ({"normalize": "words"}, "is not none, tokens"),
    ):
        with pytest.raises(ModelError, match=message):
            load_model(spec, **options)


def test_a_model_that_is_not_causal_and_an_answer_that_lacks_a_token_are_errors(
    release: Callable[..., None], built: Any
) -> None:
    release()
    with pytest.raises(ModelError, match="is masked; vLLM scores causal models"):
        load_model("vllm:" + built("masked", "roberta").removeprefix("hf:"))
    with pytest.raises(ModelError, match="cannot be loaded by vLLM"):
        load_model("vllm:no/such-model-anywhere")
    release(Silent, OldSamplingParams)
    model = load_model("vllm:" + built("causal", "llama").removeprefix("hf:"))
    with pytest.raises(ModelError, match=r"log-probabilities of 0 prompt tokens, expected \d+"):
        model.label_logprobs(TEXTS, LABELS)


def test_without_vllm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ExtraMissingError, match=r"pip install 'promptgym\[vllm\]'"):
        load_model("vllm:some/model")
