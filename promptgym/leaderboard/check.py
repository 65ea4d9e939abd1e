"""`check_submission`: everything a submission claims, worked out again from its log.

The log is read once, row by row. What is kept of it: the chosen prompts, and a sample of the others
(Vitter 1985, algorithm R) that the model is asked about again.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from promptgym import __version__
from promptgym.errors import PromptGymError
from promptgym.evaluation.regret import regrets
from promptgym.leaderboard import submission
from promptgym.leaderboard.entries import Entry, Run
from promptgym.leaderboard.files import (
    LOG,
    MANIFEST,
    Refused,
    check_folder,
    log_digest,
    read_log,
    read_manifest,
)
from promptgym.leaderboard.known import Asked
from promptgym.leaderboard.leaks import leaks
from promptgym.leaderboard.pools import side_by_side
from promptgym.leaderboard.probes import check_robustness, probe
from promptgym.leaderboard.recount import Recount
from promptgym.leaderboard.rescore import disagreements, robustness_differences
from promptgym.leaderboard.submission import Cell, Manifest
from promptgym.leaderboard.tracks import is_known, track_of
from promptgym.leaderboard.trust import Shelf, check_suite, counter
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.tasks import Task
from promptgym.types import JSON

MOST_PARTS = 1000
"""Rows of a run about its chosen prompt that are asked again, at most."""
MOST_AGAIN = 5_000_000
"""Pairs that the models are asked about again, at most."""
LONGEST = 1000
"""Characters of a problem that are shown."""
SAMPLE = 32
"""Prompts that are asked again, beside the chosen ones."""
PROBED = 2
"""Runs whose robustness is measured again."""


@dataclass(frozen=True, slots=True)
class Check:
    """What came of a check.

    Attributes:
        path: the folder.
        problems: what does not match; none if the submission passed.
        entry: what the leaderboard shows; None if there are problems.
        rows: of the log that were read.
        queries: that the log holds.
        rescored: prompts that the model was asked about again.
        seed: of the sample.
        seconds: that the check took.
    """

    path: Path
    problems: tuple[str, ...]
    entry: Entry | None
    rows: int
    queries: int
    rescored: int
    seed: int
    seconds: float


@dataclass
class _Checking:
    """A check under way.

    Attributes:
        manifest: what is claimed.
        shelf: tasks and models.
        sample: how many prompts to keep.
        rng: draws them.
        kept: those, with the number of their run.
        final: number of a run -> what the log says of its chosen prompt, and of others on test.
        transfer: number of a run -> other models that its prompt was asked of.
        problems: that were found.
        rows: of the log so far.
        few: whether a prompt held demonstrations.
    """

    manifest: Manifest
    shelf: Shelf
    sample: int
    rng: np.random.Generator
    kept: list[tuple[int, Asked]] = field(default_factory=list)
    final: dict[int, list[Asked]] = field(default_factory=dict)
    transfer: dict[int, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    rows: int = 0
    seen: int = 0
    few: bool = False
    queries: int = 0

    @property
    def asked(self) -> list[tuple[int, Asked]]:
        """Return what the model is asked about again, with the number of its run."""
        final = [(number, one) for number, own in self.final.items() for one in own]
        return [*final, *self.kept]


def check_submission(
    path: str | Path,
    *,
    sample: int = SAMPLE,
    seed: int | None = None,
    allowed: Collection[str] = (),
) -> Check:
    """Check a submission: format, hashes, suite, budget, choices, claims, leaks, and the model.

    Nothing of it is executed or unpickled, and no path of it is followed.

    Args:
        path: the folder.
        sample: prompts that the model is asked about again, beside the chosen ones.
        seed: of the sample; by default taken from the log, so that a check can be repeated. Whoever
            decides about a submission gives one that its sender cannot know.
        allowed: tasks and models beside those of the package that may be loaded.
    """
    began = time.monotonic()
    folder = Path(path)
    doing: _Checking | None = None
    runs: list[Run] = []
    problems: list[str] = []
    called = ""
    try:
        check_folder(folder)
        manifest = submission.read(read_manifest(folder))
        if (digest := log_digest(folder)) != manifest.log.sha256:
            raise Refused(
                f"{LOG} has the SHA-256 {digest}, {MANIFEST} says {manifest.log.sha256}: one of "
                "them was changed"
            )
        seed = int(digest[:8], 16) if seed is None else seed
        called = _check_about(manifest)
        doing = _Checking(manifest, Shelf(allowed), sample, np.random.default_rng(seed))
        runs = list(_runs(folder, doing))
        problems += [*doing.problems, *_half_measured(runs)]
        if not problems:
            problems += _ask_again(doing, runs)
    except PromptGymError as error:
        problems += [*(doing.problems if doing else ()), str(error)]
    except (
        Exception
    ) as error:  # a stranger's data; the next submission is to be checked all the same
        problems.append(f"it cannot be read: {type(error).__name__}: {error}")
    asked = [] if doing is None else doing.asked
    entry = None
    if not problems and doing is not None:
        again = [sum(n == number for n, _ in asked) for number in range(len(runs))]
        runs = [replace(run, rescored=n) for run, n in zip(runs, again, strict=True)]
        entry = _entry(doing, called, tuple(runs))
    return Check(
        path=folder,
        problems=tuple(map(shown, problems)),
        entry=entry,
        rows=doing.rows if doing else 0,
        queries=doing.queries if doing else 0,
        rescored=len(asked),
        seed=seed or 0,
        seconds=time.monotonic() - began,
    )


def check_submissions(
    folder: str | Path, *, allowed: Collection[str] = (), seed: int | None = None, jobs: int = 1
) -> tuple[list[Entry], dict[str, tuple[str, ...]]]:
    """Check all submissions below a folder.

    Args:
        folder: that holds them, at any depth.
        allowed: see `check_submission`.
        seed: see `check_submission`.
        jobs: how many are checked at a time, each in a process of one thread.

    Returns:
        The entries of those that passed; and for the others, by their path, why they did not.

    Raises:
        Refused: if there are none.
    """
    root = Path(folder)
    found = sorted({file.parent for name in (MANIFEST, LOG) for file in root.rglob(name)})
    if not found:
        raise Refused(f"{root} holds no submissions: there is no {MANIFEST} in it")
    doing = partial(check_submission, allowed=allowed, seed=seed)
    checks = side_by_side(doing, found, jobs)
    refused = {
        done.path.relative_to(root).as_posix(): done.problems
        for done in checks
        if done.entry is None
    }
    return [done.entry for done in checks if done.entry is not None], refused


def shown(text: str) -> str:
    """Return a problem as a terminal may show it: whole, but for signs that are not to be seen."""
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _check_about(manifest: Manifest) -> str:
    """Check what stands in the manifest alone; return how boards call the suite."""
    version = manifest.environment.promptgym
    if version != __version__:
        raise Refused(
            f"the runs were made with promptgym {version}, and this is {__version__}: check them "
            "with that version"
        )
    method = manifest.method
    if is_known(method.spec) and (track := track_of(method.spec, method.options)) != method.track:
        raise Refused(f"{method.spec} is of the track {track!r}, not {method.track!r}")
    seeds: dict[str, set[int]] = {}
    for cell in manifest.cells:
        seeds.setdefault(cell.task, set()).add(cell.seed)
    if (fewest := min(map(len, seeds.values()))) < submission.SEEDS:
        raise Refused(f"{fewest} seeds of a task; at least {submission.SEEDS} are needed")
    return check_suite(manifest)


def _runs(folder: Path, doing: _Checking) -> Iterator[Run]:
    """Follow the log; yield the runs that can be worked out."""
    cells = doing.manifest.cells
    expected = 0
    for number, rows in groupby(read_log(folder), key=lambda row: row.get("cell")):
        if type(number) is not int or number != expected or number >= len(cells):
            raise Refused(f"{LOG}, line {doing.rows + 1}: run {number!r}, expected run {expected}")
        expected += 1
        run = _run(doing, number, cells[number], rows)
        if run is not None:
            yield run
    if expected != len(cells):
        raise Refused(f"the log has {expected} runs, the manifest {len(cells)}")
    if doing.rows != doing.manifest.log.rows:
        raise Refused(f"the log has {doing.rows} rows, the manifest says {doing.manifest.log.rows}")


def _run(doing: _Checking, number: int, cell: Cell, rows: Iterator[JSON]) -> Run | None:
    """Work out one run; None if something in it does not match."""
    task, problem = doing.shelf.problem(cell)
    proposes = doing.manifest.method.track != "search"
    recount = Recount(cell, task, proposes=proposes, count=counter(cell))
    chosen = _claimed(cell)
    run, why = None, None
    for row in rows:
        doing.rows += 1
        if why is not None:
            continue  # read to its end, so that the next run begins where it does
        try:
            asked = recount.take(row)
        except PromptGymError as error:
            why = f"{cell.title}, log line {doing.rows}: {error}"
            continue
        for one in asked:
            if one.told and (one.prompt == chosen or one.split == "test"):
                doing.final.setdefault(number, []).append(one.alone())
            else:
                _maybe_keep(doing, number, one)
        if len(doing.final.get(number, ())) > MOST_PARTS:
            why = f"{cell.title}: the prompt was asked about in more than {MOST_PARTS:,} parts"
    if why is None:
        try:
            run = recount.finish(_regrets(recount, task, problem))
            doing.queries += run.queries
            if run.robustness is not None:
                prompt = Prompt.of(run.prompt)
                on_test = recount.known["test", prompt].values
                doing.transfer[number] = check_robustness(run.robustness, prompt, task, on_test)
        except PromptGymError as error:
            why = f"{cell.title}: {error}"
    found = [] if why is None else [why]
    found += [f"{cell.title}: {text}" for text in leaks(recount.prompts, task)]
    doing.problems += found
    doing.few |= any(prompt.demonstrations for prompt in recount.prompts)
    return run


def _claimed(cell: Cell) -> Prompt | None:
    """Return the prompt that a run claims to have chosen; None if it is none."""
    try:
        return Prompt.of(cell.claim.prompt)
    except PromptGymError:
        return None


def _maybe_keep(doing: _Checking, number: int, one: Asked) -> None:
    """Keep it with the chance that leaves a uniform sample of everything seen so far."""
    doing.seen += 1
    if len(doing.kept) < doing.sample:
        doing.kept.append((number, one.alone()))
    elif (place := int(doing.rng.integers(doing.seen))) < doing.sample:
        doing.kept[place] = number, one.alone()


def _half_measured(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the tasks of which some runs only have robustness: their mean would be of the best."""
    for task in dict.fromkeys(run.task for run in runs):
        own = [run.robustness is not None for run in runs if run.task == task]
        if any(own) and not all(own):
            yield f"{task}: robustness was measured in {sum(own)} of {len(own)} runs"
        found = [r.robustness for r in runs if r.task == task and r.robustness is not None]
        if len({tuple(sorted(record["transfer"])) for record in found}) > 1:
            yield f"{task}: other models were asked about some of its runs than about others"


def _regrets(recount: Recount, task: Task, problem: Problem) -> list[float] | None:
    """Return the regret of a run's incumbents, where the best prompt is known."""
    return regrets([prompt.to_json() for _, prompt in recount.incumbents], task, problem)


def _ask_again(doing: _Checking, runs: Sequence[Run]) -> Iterator[str]:
    """Ask the models again; yield what they do not say."""
    cells = doing.manifest.cells
    if (pairs := sum(len(one.examples) for _, one in doing.asked)) > MOST_AGAIN:
        yield f"{pairs:,} pairs would have to be asked again; at most {MOST_AGAIN:,} are"
        return
    groups: dict[int, tuple[Problem, list[Asked], str]] = {}
    for number, cell in enumerate(cells):
        own = [*doing.final.get(number, ()), *(a for n, a in doing.kept if n == number)]
        _, problem = doing.shelf.problem(cell)
        _, known, _ = groups.setdefault(id(problem), (problem, [], f"{cell.task}, {cell.model}"))
        known += own
    for problem, asked, what in groups.values():
        for text in disagreements(asked, problem):
            yield f"{what}: {text}"
    probed = [n for n, run in enumerate(runs) if run.robustness is not None]
    for number in doing.rng.permutation(probed)[:PROBED].tolist():
        run, cell = runs[number], cells[number]
        task, problem = doing.shelf.problem(cell)
        found = probe(Prompt.of(run.prompt), task, problem, doing.transfer[number])
        for text in robustness_differences(run.robustness or {}, found or {}):
            yield f"{cell.title}: robustness: {text}"


def _entry(doing: _Checking, suite: str, runs: tuple[Run, ...]) -> Entry:
    """Return what the leaderboard shows."""
    manifest = doing.manifest
    method = manifest.method
    return Entry(
        name=method.name,
        spec=method.spec,
        options=method.options,
        track=method.track,
        shots="few-shot" if doing.few else "zero-shot",
        suite=suite,
        version=manifest.environment.promptgym,
        budget=dict(manifest.cells[0].budget),
        start=manifest.cells[0].start,
        authors=manifest.authors,
        url=manifest.url,
        description=manifest.description,
        command=f"promptgym bench {shlex.quote(manifest.suite.name)}",
        runs=runs,
    )
