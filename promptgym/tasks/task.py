"""`Task`: a dataset with a template, labels, a metric and three disjoint splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from promptgym.errors import TaskError
from promptgym.prompts import Example, Prompt, Template
from promptgym.tasks.metrics import Metric, get_metric

Examples = tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be solved; immutable.

    Attributes:
        name: identity, part of run folders and tables.
        template: how prompt and input are laid out for causal and encoder-decoder models.
        masked_template: the same for masked models, with a `{mask}`; None if the task has none.
        labels: gold labels in index order, or None for a task answered by generation.
        verbalizers: label -> the words a model answers with, in the order of `labels`.
        metric: how a prediction is paid against the target.
        train: what an optimizer is rewarded on.
        dev: what it selects on.
        description: one sentence for people and proposers.
        manual_prompts: prompts a person would write; the first is the default start.
        reference_prompts: the best prompts known, for floors and ceilings in tables.
        vocabulary: words a searcher may use; empty to derive them from model and data.
        pool: solved examples that may serve as demonstrations (default: none).
        max_new_tokens: generation length for tasks without labels.
        stop: strings at which a generated answer ends.
        test_split: the held-out examples, or None once closed (see `closed`).
        dropped: a line for each row left out because its input stands elsewhere, too.
        decided: a line on what was decided about labels where the caller left it to the data.
    """

    name: str
    template: Template
    train: Examples
    dev: Examples
    metric: Metric = field(default_factory=lambda: get_metric("accuracy"))
    labels: tuple[str, ...] | None = None
    verbalizers: Mapping[str, str] = field(default_factory=dict)
    masked_template: Template | None = None
    description: str = ""
    manual_prompts: tuple[Prompt, ...] = (Prompt(""),)
    reference_prompts: tuple[Prompt, ...] = ()
    vocabulary: tuple[str, ...] = ()
    pool: Examples = ()
    max_new_tokens: int = 16
    stop: tuple[str, ...] = ("\n",)
    test_split: Examples | None = ()
    dropped: tuple[str, ...] = ()
    decided: str = ""

    def __post_init__(self) -> None:
        """Check labels and splits: a task that exists can be scored. Lists become tuples."""
        from promptgym.tasks.splits import check_labels, check_splits

        if not isinstance(self.template, Template):
            raise TaskError(f"task {self.name!r}: expected a Template, got {self.template!r}")
        for name in ("train", "dev", "pool", "test_split", "labels", "manual_prompts"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.labels is not None and not self.verbalizers:
            object.__setattr__(self, "verbalizers", {name: name for name in self.labels})
        check_labels(self)
        if self.labels is not None:
            ordered = {name: self.verbalizers[name] for name in self.labels}
            object.__setattr__(self, "verbalizers", ordered)
        check_splits(self)

    @property
    def test(self) -> Examples:
        """The held-out examples.

        Raises:
            TaskError: on a task that an optimizer holds.
        """
        if self.test_split is None:
            raise TaskError(
                f"task {self.name!r}: the test split cannot be reached from a Problem; "
                "load the task anew and use promptgym.evaluate"
            )
        return self.test_split

    def closed(self) -> Task:
        """Return this task without its test split: what a `Problem` holds."""
        return self if self.test_split is None else replace(self, test_split=None)

    def words_for(self, label: str) -> str:
        """Return the verbalizer of a label (the label itself when it has none)."""
        return self.verbalizers.get(label, label)

    def target_index(self, examples: Examples) -> list[int]:
        """Return the label index of each example (classification only)."""
        if self.labels is None:
            raise TaskError(f"task {self.name!r} has no labels")
        index = {name: i for i, name in enumerate(self.labels)}
        return [index[e.target] for e in examples]
