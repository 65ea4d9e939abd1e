"""`Problem`: task + target model + reward + budget + search space. What every method is given."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptgym.arguments import checked
from promptgym.errors import BudgetExhausted, ConfigError, TaskError, TemplateError
from promptgym.llms import LanguageModel, Sampling, load_model
from promptgym.prompts import Example, Prompt, PromptsLike, Template
from promptgym.rewards import Reward, RewardSpec, describe_reward, make_reward
from promptgym.runs import EventSink, NullSink
from promptgym.scoring import Budget, Ledger, Proposals, Proposer, Scorer, Scores
from promptgym.scoring.store import CacheSpec, ScoreStore, open_store
from promptgym.tasks import Task, load_task, split_hash
from promptgym.types import JSON, FloatArray


class Problem:
    """One optimization problem; environments, agents and baselines share it.

    Attributes:
        task: the task, its test split closed.
        model: the frozen target model.
        template: how prompts meet examples for this model.
        reward: scores -> training reward.
        scorer: the single path to the model.
        proposer: the model that writes prompts for methods that want one, or None.
        vocabulary: words a searcher may write.
        initial_prompt: where editing starts.
        events: where everything that happens is said.
    """

    @checked(ConfigError)
    def __init__(
        self,
        task: Task,
        model: LanguageModel,
        *,
        reward: RewardSpec | Reward = "gap",
        budget: Budget | int | JSON | None = None,
        template: Template | str | None = None,
        vocabulary: Sequence[str] | None = None,
        initial_prompt: Prompt | str | None = None,
        events: EventSink | None = None,
        cache: CacheSpec = None,
        max_failures: float = 0.5,
        proposer: LanguageModel | None = None,
    ) -> None:
        """Put the parts together and refuse those that do not fit.

        Args:
            task: what is to be solved.
            model: the frozen target model.
            reward: how scores are paid.
            budget: caps on what may be spent.
            template: instead of the task's own.
            vocabulary: words a searcher may write, instead of the task's.
            initial_prompt: where editing starts, instead of the task's first manual prompt.
            events: where everything that happens is said.
            cache: the cache that outlives this run (see `promptgym.scoring.store`): None uses it
                for models asked over a network and not for those of this machine; True or False; or
                its place, a folder, a .sqlite file or a postgresql:// URL.
            max_failures: share of failed evaluations above which scoring stops.
            proposer: a model that writes prompts, for methods that ask one.

        Raises:
            TaskError, TemplateError, ModelError, RewardError, ConfigError: the part that does not
                fit.
        """
        if not 0 <= max_failures <= 1:
            raise ConfigError(f"max_failures is a share from 0 to 1, got {max_failures}")
        self.task = task.closed()
        if not task.train:
            raise TaskError(f"task {task.name!r} has no training examples")
        self.model = model
        self.events: EventSink = events if events is not None else NullSink()
        self.reward = make_reward(reward if task.labels or reward != "gap" else "accuracy")
        self.template = choose_template(task, model, template)
        if not self.template.has_prompt:
            raise TemplateError(
                f"template {self.template.text!r} has no {{prompt}}: whatever is learned would "
                "change nothing; say where the prompt stands"
            )
        caps = Budget.of(budget)
        self.proposer = None if proposer is None else Proposer(proposer, caps)
        self.scorer = Scorer(
            self.task,
            model,
            self.template,
            ledger=Ledger(caps, proposer=None if self.proposer is None else self.proposer.ledger),
            store=open_store(cache, model),
            max_failures=max_failures,
        )
        if vocabulary is not None and not len(vocabulary):
            raise ConfigError("the vocabulary is empty; leave it out to take the task's own")
        self.vocabulary = tuple(vocabulary or task.vocabulary or words_of(task))
        check_words(self.vocabulary)
        start = task.manual_prompts[0] if initial_prompt is None else initial_prompt
        self.initial_prompt = Prompt.of(start)
        if self.reward.needs_labels and task.labels is None:
            raise TaskError(
                f"reward {self.reward.name!r} needs labels, task {task.name!r} is answered by "
                "generation; use reward='accuracy'"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Problem:
        """Return this very problem: one ledger, one model.

        Gymnasium copies the arguments of an environment into its spec; a second budget there would
        be a mistake, and a model may not be copyable.
        """
        return self

    @property
    def ledger(self) -> Ledger:
        """What was spent."""
        return self.scorer.ledger

    @property
    def store(self) -> ScoreStore | None:
        """The cache that outlives this run; None without one."""
        return None if self.scorer.shelf is None else self.scorer.shelf.store

    def examples(self, split: str) -> tuple[Example, ...]:
        """Return the examples of "train" or "dev", the splits that an optimizer may ask about.

        Raises:
            ConfigError: for another split.
        """
        if split not in ("train", "dev"):
            raise ConfigError(f"split must be 'train' or 'dev', got {split!r}")
        return self.task.train if split == "train" else self.task.dev

    def score(
        self,
        prompts: PromptsLike,
        examples: Sequence[Example] | None = None,
        *,
        split: str = "train",
    ) -> Scores:
        """Score prompts (or their texts) on a split, or some of its examples, within the budget.

        Raises:
            BudgetExhausted: if not even one prompt fits.
            ConfigError: for a split that an optimizer may not ask about.
            TooManyFailures: if too large a share of all evaluations failed.
        """
        examples = self.examples(split) if examples is None else examples
        scores = self.scorer.score(prompts, examples)
        self.events.emit(
            "scores",
            split=split,
            prompts=[p.to_json() for p in scores.prompts],
            values=scores.mean,
            rewards=self.reward(scores),
            complete=scores.complete,
            failures=len(scores.failures),
            statuses=scores.counts(),
            examples=len(examples),
            spent=self.ledger.snapshot(),
        )
        return scores

    def propose(
        self, texts: Sequence[str], sampling: Sampling, *, tag: str | None = None
    ) -> Proposals:
        """Have the proposer continue texts, within the budget.

        Args:
            texts: what it is asked.
            sampling: how completions are drawn.
            tag: proposals stand between `<tag>` and `</tag>`; None takes whole completions.

        Raises:
            BudgetExhausted: if not all of it fits; nothing is spent.
            ConfigError: without a proposer.
            TooManyFailures: if every call failed.
        """
        if self.proposer is None:
            raise ConfigError("the problem has no proposer; give proposer='tiny-rewriter'")
        if self.ledger.exhausted:
            raise BudgetExhausted(f"budget spent: {self.ledger.snapshot()}")
        found = self.proposer.ask(texts, sampling, tag)
        self.events.emit(
            "proposals",
            texts=list(texts),
            completions=list(found.completions),
            parsed=list(found.parsed),
            failures=dict(found.failures),
            spent=self.ledger.snapshot(),
        )
        return found

    def rewards(self, scores: Scores) -> FloatArray:
        """Return the training reward of every prompt, shape (P,)."""
        return self.reward(scores)


def choose_template(task: Task, model: LanguageModel, template: Template | str | None) -> Template:
    """Return the template for a model's kind: the one given, else the task's own."""
    if isinstance(template, str):
        return Template(template, task.template.demonstration)
    if isinstance(template, Template):
        return template
    if template is not None:
        raise ConfigError(f"template must be a Template or its text, got {template!r}")
    if model.kind == "masked":
        if task.masked_template is None:
            raise TaskError(
                f"task {task.name!r} has no template with {{mask}} and {model.name!r} is a masked "
                "model; give template='{input} {prompt} {mask} .'"
            )
        return task.masked_template
    return task.template


def check_words(vocabulary: Sequence[str]) -> None:
    """Refuse words that no prompt can be cut into again, or that stand twice.

    Raises:
        ConfigError: for a duplicate, an empty word, or one with whitespace.
    """
    for word in vocabulary:
        if word.split() != [word]:
            raise ConfigError(f"the vocabulary holds {word!r}; a unit has no whitespace in it")
    if len(set(vocabulary)) != len(vocabulary):
        word = next(w for i, w in enumerate(vocabulary) if w in vocabulary[:i])
        raise ConfigError(f"the vocabulary holds a unit twice, {word!r}; remove duplicates")


def words_of(task: Task, limit: int = 1000) -> tuple[str, ...]:
    """Return a vocabulary from the data: its most frequent words, then the prompts' own."""
    from collections import Counter

    counts: Counter[str] = Counter()
    for example in task.train:
        counts.update(w for w in example.input.lower().split() if any(c.isalpha() for c in w))
    words = [w for w, _ in counts.most_common(limit)]
    extra = [w for p in task.manual_prompts for w in p.words]
    extra += [w for label in task.labels or () for w in task.words_for(label).split()]
    return tuple(dict.fromkeys([*extra, *words]))


@checked(ConfigError)
def make_problem(
    task: str | Path | Task = "author",
    model: str | LanguageModel = "tiny",
    *,
    task_options: JSON | None = None,
    model_options: JSON | None = None,
    proposer: str | LanguageModel | None = None,
    proposer_options: JSON | None = None,
    **options: Any,
) -> Problem:
    """Build a problem from names (`load_task`, `load_model`) or live objects.

    Args:
        task: a task, or what `load_task` takes.
        model: a model, or what `load_model` takes.
        task_options: further arguments of `load_task`.
        model_options: further arguments of `load_model`.
        proposer: a model that writes prompts, or what `load_model` takes.
        proposer_options: further arguments of `load_model` for it.
        options: further arguments of `Problem`.

    Raises:
        TaskError, TemplateError, ModelError, RewardError, ConfigError: the part that does not fit.
    """
    if proposer is None and proposer_options:
        raise ConfigError(f"proposer_options {proposer_options} are given without a proposer")
    return Problem(
        the_task(task, **(task_options or {})),
        the_model(model, **(model_options or {})),
        proposer=None if proposer is None else the_model(proposer, **(proposer_options or {})),
        **options,
    )


def the_task(task: str | Path | Task, **options: Any) -> Task:
    """Return a task: the one given, or what `load_task` makes of a name or path and options.

    Raises:
        ConfigError: for something else, or options beside a task.
        TaskError: see `load_task`.
    """
    if isinstance(task, (str, Path)):
        return load_task(task, **options)
    if not isinstance(task, Task):
        raise ConfigError(f"task must be a Task or what load_task takes, got {task!r}")
    if options:
        raise ConfigError(f"task {task.name!r} is loaded already and takes no {sorted(options)}")
    return task


def the_model(model: str | LanguageModel, **options: Any) -> LanguageModel:
    """Return a model: the one given, or what `load_model` makes of a name and options.

    Raises:
        ConfigError: for something else, or options beside a model.
        ModelError: see `load_model`.
    """
    if isinstance(model, str):
        return load_model(model, **options)
    if not hasattr(model, "label_logprobs"):
        raise ConfigError(f"model must be a model or what load_model takes, got {model!r}")
    if options:
        raise ConfigError(f"model {model.name!r} is loaded already and takes no {sorted(options)}")
    return model


def describe_problem(problem: Problem) -> JSON:
    """Return all that scores and rewards of a problem depend on, as plain JSON."""
    task = problem.task
    words = "\n".join(problem.vocabulary).encode("utf-8", "surrogatepass")
    return {
        "task": task.name,
        "train": split_hash(task.train),
        "dev": split_hash(task.dev),
        "pool": split_hash(task.pool),
        "metric": task.metric.name,
        "verbalizers": dict(task.verbalizers),
        "answers": {"max_new_tokens": task.max_new_tokens, "stop": task.stop},
        "model": problem.model.name,
        "proposer": None if problem.proposer is None else problem.proposer.model.name,
        "template": problem.template.text,
        "demonstration": problem.template.demonstration,
        "reward": describe_reward(problem.reward),
        "initial_prompt": problem.initial_prompt.to_json(),
        "vocabulary": hashlib.blake2b(words, digest_size=8).hexdigest(),
    }
