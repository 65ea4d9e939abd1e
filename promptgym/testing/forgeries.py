"""Submissions that are not what they seem, for tests of the check: each is one way to cheat.

A forgery changes a copy of an honest submission. Unless that is what it is about, hashes and counts
are made to fit, so that what refuses it is what it does and not a seal it broke.
"""

from __future__ import annotations

import base64
import json
import lzma
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from promptgym.evaluation.experiment import Experiment
from promptgym.leaderboard.files import LOG, MANIFEST, log_digest
from promptgym.types import JSON

GIGABYTE = 1 << 30


@dataclass(frozen=True, slots=True)
class Forgery:
    """One way to cheat.

    Attributes:
        what: is done, in words.
        says: a part of the sentence that refuses it.
        forge: changes a submission in place.
    """

    what: str
    says: str
    forge: Callable[[Path], None]


class Opened:
    """A submission whose parts can be changed, and written back with hashes that fit."""

    def __init__(self, folder: Path) -> None:
        """Read it."""
        self.folder = folder
        self.manifest: Any = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        with lzma.open(folder / LOG, "rt", encoding="utf-8") as file:
            self.rows: list[JSON] = [json.loads(line) for line in file]

    @property
    def cell(self) -> JSON:
        """The first run."""
        cell: JSON = self.manifest["cells"][0]
        return cell

    def row(self, kind: str, split: str | None = None) -> JSON:
        """Return the first row of a kind in the first run."""
        return next(
            r for r in self.rows if r["kind"] == kind and split in (None, r.get("split", split))
        )

    def write(self, *, seal: bool = True) -> None:
        """Write it back; `seal` makes hash and count fit."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        (self.folder / LOG).write_bytes(lzma.compress(lines.encode(), preset=1))
        if seal:
            self.manifest["log"] = {"sha256": log_digest(self.folder), "rows": len(self.rows)}
        text = json.dumps(self.manifest, ensure_ascii=False)
        (self.folder / MANIFEST).write_text(text, encoding="utf-8")


def changes(edit: Callable[[Opened], None], *, seal: bool = True) -> Callable[[Path], None]:
    """Return a forgery from what it does to an opened submission."""

    def forge(folder: Path) -> None:
        opened = Opened(folder)
        edit(opened)
        opened.write(seal=seal)

    return forge


def _edited_score(s: Opened) -> None:
    s.cell["claim"]["test"] = 1.0


def _edited_outcomes(s: Opened) -> None:
    """Every answer on test is right, the claim says so, and nothing else tells of them."""
    outcomes = s.row("held_out")["outcomes"]
    size = len(base64.b64decode(outcomes["bits"]))
    outcomes["bits"] = base64.b64encode(b"\xff" * size).decode()
    s.cell["claim"]["test"] = 1.0
    for row in s.rows:
        if row["kind"] == "robustness":
            row["found"] = None


def _edited_reward(s: Opened) -> None:
    """All rewards of the chosen prompt are larger: what is chosen stays the same."""
    chosen = s.cell["claim"]["prompt"]
    for row in s.rows:
        if row["kind"] == "scores" and row["cell"] == 0:
            pairs = zip(row["prompts"], row["rewards"], strict=True)
            row["rewards"] = [r + 50 if p == chosen else r for p, r in pairs]


def _over_budget(s: Opened) -> None:
    """A run goes on after its budget, honestly counted."""
    cap = s.cell["budget"]["queries"]
    last = max(
        (i for i, r in enumerate(s.rows) if r["kind"] == "scores" and r["cell"] == 0),
    )
    row = json.loads(json.dumps(s.rows[last]))
    step = row["spent"]["queries"] - s.rows[last - 1]["spent"]["queries"]
    extra = []
    while row["spent"]["queries"] <= cap:
        row = json.loads(json.dumps(row))
        row["spent"]["queries"] += step
        extra.append(row)
    s.rows[last + 1 : last + 1] = extra


def _hidden_queries(s: Opened) -> None:
    """A row is taken out, and the counts behind it stay."""
    s.rows.remove([r for r in s.rows if r["kind"] == "scores" and r["cell"] == 0][1])


def _uncounted_queries(s: Opened) -> None:
    """A batch is asked twice and counted once."""
    place = s.rows.index(s.row("scores"))
    s.rows.insert(place, json.loads(json.dumps(s.rows[place])))


def _prompt_not_in_log(s: Opened) -> None:
    prompt = {"instruction": "think step by step"}
    s.row("incumbents")["rows"][-1]["prompt"] = prompt
    s.cell["claim"]["prompt"] = prompt


def _chosen_on_test(s: Opened) -> None:
    """The worst on dev is chosen of those that dev was asked about."""
    right: dict[str, tuple[int, JSON]] = {}
    for row in s.rows:
        if row["kind"] == "scores" and row["split"] == "dev" and row["cell"] == 0:
            bits = np.unpackbits(np.frombuffer(base64.b64decode(row["outcomes"]["bits"]), np.uint8))
            width = len(bits) // len(row["prompts"])
            for i, prompt in enumerate(row["prompts"]):
                right[json.dumps(prompt)] = int(bits[i * width : (i + 1) * width].sum()), prompt
    other = min(right.values(), key=lambda pair: pair[0])[1]
    s.row("incumbents")["rows"][-1]["prompt"] = other
    s.cell["claim"]["prompt"] = other


def _test_example(s: Opened) -> None:
    """A prompt holds an example of test."""
    task, _ = Experiment.of(s.cell["config"]).load()
    s.row("scores")["prompts"][0]["instruction"] += f" {task.test[0].input}"


def _asked_test(s: Opened) -> None:
    s.row("scores")["split"] = "test"


def _edited_drop(s: Opened) -> None:
    s.row("robustness")["found"]["sentence"]["drop"] = -1.0


def _edited_robustness(s: Opened) -> None:
    """Every variant does as well as the prompt itself, in every run."""
    for row in s.rows:
        found = row.get("found") if row["kind"] == "robustness" else None
        for kind in ("character", "word", "sentence", "semantic"):
            if found and found[kind]:
                found[kind] |= {"drop": 0.0, "worst": 0.0}
                for variant in found[kind]["variants"]:
                    variant["value"] = found["value"]


def _transfer_to_code(s: Opened) -> None:
    s.row("robustness")["found"]["transfer"] = {"hf:someone.model": {"value": 1.0, "drop": 0.0}}


def _fewer_tokens(s: Opened) -> None:
    rows = [r for r in s.rows if "spent" in r and r["cell"] == 0]
    rows[-1]["spent"]["tokens"] = 0


def _seeds_left_out(s: Opened) -> None:
    """A run that went badly is left out."""
    s.manifest["cells"].pop()
    s.rows = [row for row in s.rows if row["cell"] < len(s.manifest["cells"])]


def _own_model(s: Opened) -> None:
    """A model of the sender's, in suite and runs alike."""
    spec = "hf:someone/model-with-code"
    s.manifest["suite"]["name"] = "mine"
    for model in s.manifest["suite"]["content"]["models"]:
        model["spec"] = spec
    for cell in s.manifest["cells"]:
        cell["config"]["model"] = spec


def _own_metric(s: Opened) -> None:
    """A metric that is code, in suite and runs alike."""
    s.manifest["suite"]["name"] = "mine"
    for task in s.manifest["suite"]["content"]["tasks"]:
        task["options"]["metric"] = "os:system"
    for cell in s.manifest["cells"]:
        cell["config"]["task_options"]["metric"] = "os:system"


def _path_as_task(s: Opened) -> None:
    s.manifest["suite"]["name"] = "mine"
    for task in s.manifest["suite"]["content"]["tasks"]:
        task["spec"] = "../../../../etc/passwd"
    for cell in s.manifest["cells"]:
        cell["config"]["task"] = "../../../../etc/passwd"


def _named(path: str, value: str) -> Callable[[Path], None]:
    """Return a forgery that puts a text somewhere into the manifest."""

    def edit(s: Opened) -> None:
        place, keys = s.manifest, path.split(".")
        for key in keys[:-1]:
            place = place[int(key) if key.isdigit() else key]
        place[keys[-1]] = value

    return changes(edit)


def _link(folder: Path) -> None:
    """The log is a link to a file elsewhere."""
    moved = folder.parent / f"{folder.name}-elsewhere.xz"
    os.replace(folder / LOG, moved)
    (folder / LOG).symlink_to(moved)


def _pickle(folder: Path) -> None:
    """The log is a pickle that would run a command."""
    (folder / LOG).write_bytes(pickle.dumps(print))
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["log"]["sha256"] = log_digest(folder)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _gigabyte(folder: Path) -> None:
    """A manifest of a gigabyte (a sparse file: nothing of it is written)."""
    with (folder / MANIFEST).open("r+b") as file:
        file.truncate(GIGABYTE)


def _bomb(folder: Path) -> None:
    """A log that unpacks to a line without end."""
    packer = lzma.LZMACompressor(preset=0)
    data = b"".join(packer.compress(b"0" * (1 << 20)) for _ in range(33)) + packer.flush()
    (folder / LOG).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["log"]["sha256"] = log_digest(folder)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _nested(folder: Path) -> None:
    (folder / MANIFEST).write_text("[" * 100_000, encoding="utf-8")


def _extra_file(folder: Path) -> None:
    (folder / "setup.py").write_text("raise SystemExit\n")


def _other_suite(s: Opened) -> None:
    """A suite with a budget ten times as large, under the name of one of the package."""
    s.manifest["suite"]["name"] = "tiny"
    for budget in s.manifest["suite"]["content"]["budgets"]:
        budget["queries"] *= 10
    for cell in s.manifest["cells"]:
        cell["budget"]["queries"] *= 10
        cell["config"]["budget"]["queries"] *= 10


FORGERIES: tuple[Forgery, ...] = (
    Forgery(
        "a score is edited", "test is claimed to be 1.0, the log gives", changes(_edited_score)
    ),
    Forgery("the log is edited", "one of them was changed", changes(_fewer_tokens, seal=False)),
    Forgery(
        "log and score are edited, the hash made to fit",
        "outcomes are not what the model says",
        changes(_edited_outcomes),
    ),
    Forgery("rewards are edited", "its reward is", changes(_edited_reward)),
    Forgery(
        "more is asked than the budget allows",
        "queries are spent, of at most",
        changes(_over_budget),
    ),
    Forgery(
        "queries are taken out of the log",
        "pairs were asked, and the log counts",
        changes(_hidden_queries),
    ),
    Forgery(
        "a batch is asked and not counted",
        "pairs were asked, and the log counts 0",
        changes(_uncounted_queries),
    ),
    Forgery("tokens shrink", "tokens goes from", changes(_fewer_tokens)),
    Forgery(
        "the prompt is not in the log",
        "the log does not show that it was asked",
        changes(_prompt_not_in_log),
    ),
    Forgery(
        "the prompt is chosen otherwise than on dev",
        "the protocol chooses by dev",
        changes(_chosen_on_test),
    ),
    Forgery("a prompt holds a test example", "holds the test example", changes(_test_example)),
    Forgery(
        "the method asks about test", "it may ask about train and dev only", changes(_asked_test)
    ),
    Forgery("a drop is edited", "its variants give", changes(_edited_drop)),
    Forgery("all of the robustness is edited", "when measured again", changes(_edited_robustness)),
    Forgery("transfer to a model with code", "no model of the package", changes(_transfer_to_code)),
    Forgery("a seed is left out", "at least 5 are needed", changes(_seeds_left_out)),
    Forgery(
        "a known suite with a larger budget",
        "asks for something else",
        changes(_other_suite),
    ),
    Forgery("a model of the sender's", "is not of the package", changes(_own_model)),
    Forgery(
        "a metric that is code", "task options that a check does not take", changes(_own_metric)
    ),
    Forgery("a path as task", "is not of the package", changes(_path_as_task)),
    Forgery("a path as name", "String should match pattern", _named("method.name", "../../index")),
    Forgery(
        "a script as name",
        "String should match pattern",
        _named("method.name", "<script>alert(1)</script>"),
    ),
    Forgery(
        "a script as author",
        "String should match pattern",
        _named("authors", "<img src=x onerror=alert(1)>"),
    ),
    Forgery(
        "a script as link", "String should match pattern", _named("url", "javascript:alert(1)")
    ),
    Forgery(
        "another version", "check them with that version", _named("environment.promptgym", "0.0.1")
    ),
    Forgery("another track", "is of the track", _named("method.track", "policy")),
    Forgery("other data", "the train of", _named("cells.0.identity.train", "0" * 16)),
    Forgery("the log is a link", "is no regular file", _link),
    Forgery("a file more", "is no part of a submission", _extra_file),
    Forgery("the log is a pickle", "is no xz file", _pickle),
    Forgery("a gigabyte of JSON", "1,073,741,824 bytes; at most", _gigabyte),
    Forgery("a log that unpacks without end", "has a line of more than", _bomb),
    Forgery("JSON without end", "nested too deep", _nested),
)
