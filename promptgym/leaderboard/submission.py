"""What `submission.json` holds: who, what and how, and what is claimed to have come of it.

Names are checked here: they become parts of pages and of file names. Numbers are claims, which
`promptgym.leaderboard.check` recomputes from the log; nothing of them is shown as it stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from promptgym.leaderboard.files import MANIFEST, Refused
from promptgym.types import JSON

FORMAT, VERSION = "promptgym-submission", 1
SEEDS = 5
"""Fewest seeds of every task (protocol, point 5)."""

MOST_CELLS = 10_000
"""Runs of a submission, at most."""


def _visible(text: str) -> str:
    """Refuse signs that cannot be seen, with which one name looks like another or backwards."""
    if not text.isprintable():
        hidden = next(c for c in text if not c.isprintable())
        raise ValueError(f"String should have no sign that cannot be seen (U+{ord(hidden):04X})")
    return text


Line = Annotated[
    str,
    StringConstraints(max_length=300, pattern=r"^[^\x00-\x1f\x7f<>]*$"),
    AfterValidator(_visible),
]
"""One line of text without angle brackets."""
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f<>/\\]+$"),
    AfterValidator(_visible),
]
Url = Annotated[
    str, StringConstraints(max_length=300, pattern=r"^(https?://[^\x00-\x20\x7f<>\"'\\]+)?$")
]
Text = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00-\x09\x0b-\x1f<>]*$")]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16,64}$")]
Count = Annotated[int, Field(ge=0, le=10**15)]
Cap = Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(allow_inf_nan=False)]


class Record(BaseModel):
    """A part of a manifest: its keys, no others, of their types, not changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Method(Record):
    """The method, as a suite names it.

    Attributes:
        name: as tables show it.
        spec: what `--method` takes.
        options: beside its defaults.
        track: who writes the prompts; recomputed where the method is one of the package.
    """

    name: Name
    spec: Name
    options: dict[str, Any]
    track: Literal["search", "proposer", "policy"]


class Environment(Record):
    """What the runs were made with.

    Attributes:
        promptgym: version of the environments.
        python: version.
        platform: operating system and processor.
        packages: version of what scores may depend on.
        git: commit of the checkout, with "+changed" where files differed from it; None outside one.
    """

    promptgym: Line
    python: Line
    platform: Line
    packages: dict[Line, Line]
    git: Line | None


class Suite(Record):
    """What was asked of the method, without the method.

    Attributes:
        name: of the suite.
        content: all of it but its methods (`promptgym.evaluation.suite.Suite.to_json`).
    """

    name: Name
    content: dict[str, Any]


class Claim(Record):
    """What is claimed to have come of a run.

    Attributes:
        prompt: that was chosen.
        train, dev, test: its metric on the splits; None where the task has no such split.
        queries, tokens, proposer_tokens: what was spent.
    """

    prompt: dict[str, Any]
    train: Fraction
    dev: Fraction | None
    test: Fraction | None
    queries: Count
    tokens: Count
    proposer_tokens: Count


class Identity(Record):
    """Which data and which model a run met: the model's name with its revision, hashes of splits.

    Attributes:
        model: its name.
        train, dev, test: hashes of the splits.
    """

    model: Line
    train: Hash
    dev: Hash
    test: Hash


class Cell(Record):
    """One run.

    Attributes:
        task, model, start: as the suite names them.
        seed: of the run.
        budget: caps by kind.
        config: what the run was started with (`promptgym.evaluation.experiment.Experiment`).
        identity: of data and model.
        claim: what came of it.
    """

    task: Name
    model: Name
    start: Name
    seed: Annotated[int, Field(ge=0, le=2**63)]
    budget: dict[Name, Cap]
    config: dict[str, Any]
    identity: Identity
    claim: Claim

    @property
    def title(self) -> str:
        """Return how messages call the run."""
        return f"{self.task}, {self.model}, seed {self.seed}"


class Log(Record):
    """The log that belongs to a manifest.

    Attributes:
        sha256: of the file.
        rows: lines in it.
    """

    sha256: Hash
    rows: Count


class Manifest(Record):
    """The content of `submission.json`.

    Attributes:
        format, version: of the manifest.
        method: the method.
        suite: what was asked of it.
        authors: who submits it.
        url: of a paper or of code; "" without.
        description: in their words.
        command: that made the runs.
        environment: what they were made with.
        cells: the runs, in the order of the log.
        log: which log belongs to it.
    """

    format: Literal["promptgym-submission"]
    version: Literal[1]
    method: Method
    suite: Suite
    authors: Line
    url: Url
    description: Text
    command: Line
    environment: Environment
    cells: Annotated[list[Cell], Field(min_length=1, max_length=MOST_CELLS)]
    log: Log


def read(value: Any) -> Manifest:
    """Return a manifest.

    Raises:
        Refused: naming the first keys that are not what they should be.
    """
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        found = [
            f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}, got {_short(e['input'])}"
            for e in error.errors(include_url=False)
        ]
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise Refused(f"{MANIFEST}: {'; '.join(found[:3])}{more}") from None


def check_said(said: Mapping[str, str]) -> None:
    """Refuse what people say of a submission, by the manifest's keys, if no manifest holds it.

    Raises:
        Refused: naming the key.
    """
    for name, text in said.items():
        what: Any = {"authors": Line, "url": Url, "description": Text}[name]
        try:
            TypeAdapter(what).validate_python(text)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"]
            raise Refused(f"{name}: {message}, got {_short(text)}") from None


def _short(value: Any) -> str:
    """Return a value as messages may show it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def suite_content(suite: JSON) -> JSON:
    """Return a suite without its methods and without what is said of it."""
    return {k: v for k, v in suite.items() if k not in ("name", "methods", "description")}
