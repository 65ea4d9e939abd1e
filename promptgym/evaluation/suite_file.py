"""Suites read from TOML files and checked: strictly, and before anything runs.

What can be checked without loading a model or asking the Hub is.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from promptgym.agents import make_optimizer
from promptgym.arguments import check_arguments, fits, hints, type_name
from promptgym.errors import ConfigError, PromptGymError, TaskError
from promptgym.evaluation.suite import Part, Suite, proposes
from promptgym.llms.registry import LOADERS, TINY
from promptgym.llms.writers import check_writer_name
from promptgym.rewards import make_reward
from promptgym.scoring import Budget
from promptgym.tasks import load_task
from promptgym.tasks.definitions import ALIASES, DEFINITIONS
from promptgym.types import JSON


def suites() -> dict[str, Path]:
    """Return the suites that come with the package: name -> file."""
    folder = Path(str(resources.files("promptgym"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_suite(name_or_path: str | Path) -> Suite:
    """Read and check a suite.

    Args:
        name_or_path: a suite of the package (see `suites`), or a TOML file.

    Raises:
        ConfigError: naming file, key, what was found and what is allowed.
    """
    known = suites()
    path = known.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise ConfigError(
            f"there is no suite {str(name_or_path)!r}; give a TOML file or one of: "
            f"{', '.join(known)}"
        )
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML ({error})") from None
    file = path.name if path in known.values() else str(path)
    return _Reader(file).suite(path.stem, raw)


_KEYS: dict[str, Any] = {
    "description": str,
    "seeds": int | list[int],
    "budgets": list[Any],
    "tasks": list[Any],
    "models": list[Any],
    "methods": list[Any],
    "starts": list[Any],
    "reward": str | dict[str, Any],
    "proposer": str | dict[str, Any],
    "split_by_seed": bool,
}
LONGEST = 250
"""Bytes of a cell's name: file systems take 255, and `.txt` goes behind it."""
_NEEDED = ("budgets", "tasks", "methods")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Checks what stands in a file, and names file and key in what it refuses."""

    file: str

    def suite(self, name: str, raw: JSON) -> Suite:
        """Return the suite."""
        self.keys("", raw, _KEYS, _NEEDED)
        tasks = self.parts(raw, "task", more=("model",))
        owned = {task.model for task in tasks}
        if not raw.get("models") and None in owned:
            raise self.refuse("models", "is missing or empty, and not every task names its own")
        models = self.parts({"models": [], **raw}, "model")
        methods = self.parts(raw, "method")
        for i, task in enumerate(tasks):
            self.blame(f"tasks[{i}]", check_task, task.spec, task.options)
            if task.model is not None:
                self.blame(f"tasks[{i}]", check_model, task.model)
        for i, model in enumerate(models):
            self.blame(f"models[{i}]", check_model, model.spec)
        for i, method in enumerate(methods):
            self.blame(f"methods[{i}]", make_optimizer, method.spec, **method.options)
            self.check_proposer(f"methods[{i}]", method, "proposer" in raw)
        proposer: Part | None = None
        if "proposer" in raw:
            (proposer,) = self.parts({"models": [raw["proposer"]]}, "model", at="proposer")
            self.blame("proposer", check_model, proposer.spec)
            self.blame("proposer", check_writer_name, proposer.spec, proposer.options)
        self.blame("reward", make_reward, raw.get("reward", "gap"))
        suite = Suite(
            name=name,
            tasks=tasks,
            models=models,
            methods=methods,
            budgets=self.budgets(raw["budgets"]),
            seeds=self.seeds(raw.get("seeds", 1)),
            starts=self.starts(raw.get("starts", [])),
            proposer=proposer,
            **{k: raw[k] for k in ("reward", "split_by_seed", "description") if k in raw},
        )
        self.folders([cell.name for cell in suite.cells()])
        return suite

    def refuse(self, key: str, what: str) -> ConfigError:
        """Return an error that names file and key."""
        return ConfigError(f"{self.file}: {key}: {what}")

    def keys(
        self, where: str, raw: Any, known: Mapping[str, Any], needed: Sequence[str] = ()
    ) -> None:
        """Refuse keys that are unknown, missing, or of the wrong type, and empty lists."""
        allowed = f"allowed: {', '.join(known)}"
        if not isinstance(raw, dict):
            raise self.refuse(where, f"expected a table, got {raw!r}; {allowed}")
        prefix = f"{where}." if where else ""
        for key, value in raw.items():
            if key not in known:
                raise self.refuse(prefix + key, f"there is no such key; {allowed}")
            if not fits(value, known[key]):
                raise self.refuse(prefix + key, f"expected {type_name(known[key])}, got {value!r}")
        for key in needed:
            if key not in raw or raw[key] == []:
                raise self.refuse(prefix + key, f"is missing or empty; {allowed}")

    def parts(
        self, raw: JSON, kind: str, more: tuple[str, ...] = (), at: str = ""
    ) -> tuple[Part, ...]:
        """Return the tasks, models or methods (or the one that stands `at` a key)."""
        key = f"{kind}s"
        known: JSON = {kind: str, "name": str, "options": dict[str, Any]} | dict.fromkeys(more, str)
        out = []
        for i, entry in enumerate(raw[key]):
            where = at or f"{key}[{i}]"
            table = {kind: entry} if isinstance(entry, str) else entry
            self.keys(where, table, known, (kind,))
            rest: JSON = {k: table[k] for k in ("options", *more) if k in table}
            out.append(Part(table.get("name", table[kind]), table[kind], **rest))
        self.distinct(key, [part.name for part in out])
        return tuple(out)

    def check_proposer(self, key: str, method: Part, given: bool) -> None:
        """Refuse a method that asks a proposer in a suite that has none."""
        if proposes(method) and not given:
            raise self.refuse(
                key,
                f"{method.spec} asks a proposer for its prompts; give the suite one, e.g. "
                'proposer = "tiny-rewriter", or leave the method out',
            )

    def starts(self, raw: list[Any]) -> dict[str, str | None]:
        """Return the start prompts by name."""
        for i, entry in enumerate(raw):
            self.keys(f"starts[{i}]", entry, {"name": str, "prompt": str}, ("name",))
        self.distinct("starts", [entry["name"] for entry in raw])
        return {entry["name"]: entry.get("prompt") for entry in raw} or {"manual": None}

    def seeds(self, raw: int | list[int]) -> tuple[int, ...]:
        """Return the seeds."""
        seeds = tuple(range(raw)) if isinstance(raw, int) else tuple(raw)
        if not seeds or min(seeds) < 0:
            raise self.refuse("seeds", f"expected how many, or a list of seeds from 0, got {raw}")
        self.distinct("seeds", list(map(str, seeds)), "name each seed once")
        return seeds

    def budgets(self, raw: list[Any]) -> tuple[JSON, ...]:
        """Return the caps of each budget."""
        out = []
        for i, entry in enumerate(raw):
            budget = asdict(self.blame(f"budgets[{i}]", Budget.of, entry))
            caps = {kind: cap for kind, cap in budget.items() if cap is not None}
            if not caps:
                raise self.refuse(f"budgets[{i}]", "names no cap, so that searches would not end")
            out.append(caps)
        return tuple(out)

    def folders(self, names: list[str]) -> None:
        """Refuse names of cells that cannot be folders of their own."""
        self.distinct("cells", names)
        longest = max(names, key=lambda name: len(name.encode()))
        if (size := len(longest.encode())) > LONGEST:
            raise self.refuse(
                "cells",
                f"{longest[:60] + '...'!r} has {size} bytes, and a folder's name at most "
                f"{LONGEST}; give its parts shorter names (name = ...)",
            )

    def distinct(
        self, key: str, names: list[str], mend: str = "give each a name of its own"
    ) -> None:
        """Refuse a name that stands twice."""
        name, count = next(iter(Counter(names).most_common(1)), ("", 0))
        if count > 1:
            raise self.refuse(key, f"{name!r} stands twice; {mend}")

    def blame(self, key: str, check: Any, /, *args: Any, **options: Any) -> Any:
        """Return what a check returns; name file and key in what it raises."""
        try:
            return check(*args, **options)
        except PromptGymError as error:
            raise self.refuse(key, str(error)) from None


def check_task(spec: str, options: JSON) -> None:
    """Refuse a task that cannot be; one that would come from the Hub is only looked up by name.

    Raises:
        TaskError: see `load_task`.
    """
    named = ALIASES.get(spec.lower(), spec.lower()) in DEFINITIONS and "data_dir" not in options
    if named or spec.startswith("hub:"):
        known = {name: kind for name, kind in hints(load_task).items() if name != "name_or_path"}
        check_arguments("load_task", known, options, TaskError)
    else:
        load_task(spec, **options)


def check_model(spec: str) -> None:
    """Refuse a model of no known kind; it is not loaded.

    Raises:
        ConfigError: naming the kinds.
    """
    scheme, colon, name = spec.partition(":")
    if spec not in TINY and not (colon and name and scheme in LOADERS):
        known = [*TINY, *(f"{s}:NAME" for s in LOADERS)]
        raise ConfigError(f"unknown model {spec!r}; known: {', '.join(known)}")
