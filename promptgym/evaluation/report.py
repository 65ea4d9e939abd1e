"""`report.html`: one self-contained page about a run, light or dark as the reader's system is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from promptgym.errors import TooManyFailures
from promptgym.evaluation.explain import Change, WordEffect, changes, telling, word_effects
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.runs.curve import read_curve, svg
from promptgym.runs.folder import RunFolder, write_text
from promptgym.types import JSON

REPORT = "report.html"
FIXED = ("empty", "manual")  # prompts that were not learned


def write_report(run: RunFolder, problem: Problem, result: JSON) -> Path:
    """Write the page of a run; scoring for it is not charged to the run.

    Args:
        run: the run, for its config and events.
        problem: the run's problem (task, model, template, reward).
        result: the content of `result.json`.

    Returns:
        Where the page is.
    """
    best = Prompt.of(result["best"]["prompt"])
    manual = problem.task.manual_prompts[0]
    sections = [
        f'<p class="best">{_prompt(best)}</p>',
        _warnings(run),
        _numbers(result),
        _curve(run, result, problem.task.metric.name),
        _candidates(result),
        _guards(result),
        *_explained(problem, manual, best),
        _facts(run, result),
    ]
    text = page(
        f"{result['method']} on {problem.task.name}",
        f"model {problem.model.name}, seed {result['seed']}, "
        f"{result['spent']['queries']:,} queries, {result['spent']['seconds']:.0f} s",
        sections,
    )
    path = run.path / REPORT
    write_text(path, text)
    return path


def page(title: str, subtitle: str, sections: Iterable[str]) -> str:
    """Return a page: title and subtitle as text, sections as HTML."""
    layout = resources.files("promptgym.evaluation").joinpath(REPORT).read_text("utf-8")
    return Template(layout).substitute(
        title=escape(title), subtitle=escape(subtitle), body="\n".join(sections)
    )


def _prompt(prompt: Prompt) -> str:
    """Return a prompt as escaped text; the empty one is named."""
    parts = [f"[system] {escape(prompt.system)}\n"] if prompt.system else []
    parts += [f"{escape(d.input)} → {escape(d.target)}\n" for d in prompt.demonstrations]
    text = "".join([*parts, escape(prompt.instruction)])
    return text or '<span class="soft">(empty prompt)</span>'


def _number(value: float | None, form: str = ".3f") -> str:
    """Return a number; a dash where there is none (a failed or unasked score)."""
    return "-" if value is None or math.isnan(value) else f"{value:{form}}"


def _score(score: JSON | None) -> str:
    """Return a score with its interval."""
    if not score or score["value"] is None:
        return "-"
    failed = f" ({score['failures']} failed)" if score["failures"] else ""
    if score["low"] is None:
        return _number(score["value"]) + failed
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]{failed}"


def _table(head: Sequence[str], rows: Iterable[str]) -> str:
    """Return a table; a head that starts with `#` belongs to a column of numbers."""
    cells = "".join(
        f'<th class="n">{escape(h[1:])}</th>' if h.startswith("#") else f"<th>{escape(h)}</th>"
        for h in head
    )
    return f'<div class="wide"><table><tr>{cells}</tr>\n' + "\n".join(rows) + "</table></div>"


def _warnings(run: RunFolder) -> str:
    """Return what the method warned of, each thing once."""
    said = dict.fromkeys(e["message"] for e in run.events() if e["kind"] == "warning")
    return "".join(f'<p class="bad">warning: {escape(message)}</p>' for message in said)


def _numbers(result: JSON) -> str:
    """Return the table of the learned prompt beside the fixed ones."""
    rows = []
    for row in result["compared"]:
        kind = ' class="learned"' if row["name"] == "learned" else ""
        rows.append(
            f"<tr{kind}><td>{escape(row['name'])}</td>"
            f'<td class="text">{_prompt(Prompt.of(row["prompt"]))}</td>'
            f'<td class="n">{_score(row["dev"])}</td><td class="n">{_score(row["test"])}</td></tr>'
        )
    if ensemble := result.get("ensemble"):
        rows.append(
            f'<tr><td>ensemble</td><td class="text">{escape(ensemble["text"])}</td>'
            f'<td class="n">{_score(ensemble["dev"])}</td>'
            f'<td class="n">{_score(ensemble["test"])}</td></tr>'
        )
    sizes = {k: (result["best"][k] or {}).get("examples", 0) for k in ("dev", "test")}
    note = (
        f"{escape(result['metric'])} with 95 % intervals over {sizes['dev']} dev and "
        f"{sizes['test']} test examples. The learned prompt was chosen on dev, so its dev score "
        "flatters it; test was asked once, after training."
    )
    if ensemble:
        note += " The ensemble, too, was chosen on dev; each answer of it takes all of its prompts."
    table = _table(["", "prompt", "#dev", "#test"], rows)
    return f'<h2>Held-out score</h2>{table}<p class="soft">{note}</p>'


def fixed_levels(result: JSON) -> dict[str, float]:
    """Return the dev scores of the prompts that were not learned: level lines of the curve."""
    rows = [r for r in result["compared"] if r["name"] in FIXED and r["dev"] is not None]
    return {r["name"]: r["dev"]["value"] for r in rows if r["dev"]["value"] is not None}


def _curve(run: RunFolder, result: JSON, metric: str) -> str:
    """Return the learning curve with its key."""
    references = fixed_levels(result)
    curve = read_curve(run.events(), metric, references)
    keys = [("dev", "best prompt so far, dev"), ("train", "new prompts, train")]
    keys += [(f"level level{i % 3}", f"{name} prompt, dev") for i, name in enumerate(references)]
    key = "".join(
        f'<span class="key"><svg viewBox="0 0 28 10"><path class="{kind}" d="M0,5 H28"/></svg>'
        f"{escape(text)}</span>"
        for kind, text in keys
    )
    return f"<h2>{escape(metric)} against queries</h2>{svg(curve)}<p>{key}</p>"


def _candidates(result: JSON) -> str:
    """Return the finalists, best by dev first."""
    rows = [
        f'<tr><td class="text">{_prompt(Prompt.of(c["prompt"]))}</td>'
        f'<td class="n">{_number(c["dev"])}</td><td class="n">{_number(c["train"])}</td>'
        f'<td class="n">{_number(c["reward"], ".4g")}</td><td class="n">{c["queries"]:,}</td></tr>'
        for c in result["candidates"]
    ]
    head = ["prompt", "#dev", "#train", "#reward", "#found after queries"]
    return f"<h2>Best prompts</h2>{_table(head, rows)}"


def _guards(result: JSON) -> str:
    """Return what a rewriter's prompts look like beside their scores; "" for other methods."""
    stats = result.get("stats", {})
    if not stats.get("guards"):
        return ""
    rows = [
        f'<tr><td>{escape(g["name"])}</td><td class="n">{g["words"]}</td>'
        f'<td class="n">{g["copied"]:.0%}</td><td class="n">{g["labels"]}</td>'
        f'<td class="n">{_number(g["train"])}</td><td class="n">{_number(g["dev"])}</td>'
        f'<td class="n">{_number(g["gap"], "+.3f")}</td></tr>'
        for g in stats["guards"]
    ]
    head = ["", "#words", "#copied from train", "#label words", "#train", "#dev", "#gap"]
    first, last = (stats.get("log") or [{}])[0], (stats.get("log") or [{}])[-1]
    names = [n for n in ("distinct", "repeated", "words", "copied", "labels", "kl") if n in first]
    course = [
        f'<tr><td>{name}</td><td class="n">{_number(first[name])}</td>'
        f'<td class="n">{_number(last[name])}</td></tr>'
        for name in names
    ]
    note = (
        "Prompts can earn reward by what is not a better instruction: words of training examples, "
        "names of labels, sheer length, a fit to the training split. Below, a batch at the start "
        "of training and one at its end: shares of distinct prompts, of repeated words, of copied "
        "words, of prompts that name a label; mean words; KL from the first model, nats a token."
    )
    return (
        f'<h2>Guards</h2>{_table(head, rows)}<p class="soft">{note}</p>'
        f"{_table(['a batch', '#first', '#last'], course)}"
    )


def _explained(problem: Problem, manual: Prompt, best: Prompt) -> list[str]:
    """Return the sections that ask the model about dev; none without dev examples.

    A record of scores knows no prompt that lacks a word: there, the second section says so.
    """
    if not problem.task.dev:
        return []
    first = _before_after(changes(problem, manual, best), manual, best)
    try:
        return [first, _words(word_effects(problem, best), problem.task.metric.name)]
    except TooManyFailures as error:
        note = f'<p class="soft">Not known: {escape(str(error))}</p>'
        return [first, f"<h2>What each word does</h2>{note}"]


def _before_after(found: Sequence[Change], manual: Prompt, best: Prompt) -> str:
    """Return real dev examples with the answers under the manual and the learned prompt."""
    mended = sum(c.gain > 0 for c in found)
    spoiled = sum(c.gain < 0 for c in found)
    rows = []
    for change in telling(found):
        cells = "".join(
            f'<td class="{"good" if answer.value >= 1 else "bad"} text">'
            f"{'✓' if answer.value >= 1 else '✗'} {escape(answer.text)}{_gold(answer.gold)}</td>"
            for answer in (change.before, change.after)
        )
        rows.append(
            f'<tr><td class="text">{escape(change.example.input)}</td>'
            f'<td class="text">{escape(change.example.target)}</td>{cells}</tr>'
        )
    note = (
        f"Of {len(found)} dev examples the learned prompt mends {mended} and spoils {spoiled} "
        f"that the manual prompt (<code>{_prompt(manual)}</code>) gets otherwise; {len(rows)} are "
        "shown, each with the probability of the right label."
    )
    if found and found[0].after.gold is None:
        note = note.replace(", each with the probability of the right label", "")
    table = _table(["input", "right answer", "manual prompt", "learned prompt"], rows)
    return f'<h2>Before and after</h2><p class="soft">{note}</p>{table}'


def _gold(probability: float | None) -> str:
    """Return the probability of the right label in brackets."""
    return "" if probability is None else f' <span class="soft">({probability:.2f})</span>'


def _words(effects: Sequence[WordEffect], metric: str) -> str:
    """Return what every word of the learned prompt does."""
    if not effects:
        return '<h2>What each word does</h2><p class="soft">The prompt has no words.</p>'
    largest = max([1e-9, *(abs(e.reward) for e in effects if not math.isnan(e.reward))])
    rows = []
    for e in effects:
        width = 0.0 if math.isnan(e.reward) else 100 * abs(e.reward) / largest
        kind = "up" if e.reward >= 0 else "down"
        bar = f'<span class="bar {kind}" style="width:{width:.0f}%"></span>'
        rows.append(
            f"<tr><td><code>{escape(e.word)}</code></td><td>{'yes' if e.added else 'no'}</td>"
            f'<td class="n">{_number(e.metric, "+.3f")}</td><td class="n">{e.fixed}</td>'
            f'<td class="n">{e.broken}</td><td class="n">{_number(e.reward, "+.3g")}</td>'
            f'<td style="width:30%">{bar}</td></tr>'
        )
    note = (
        "Each word is taken out by itself and the rest is asked on dev again: what the prompt has "
        "with the word, minus what it has without. Words help one another, so the parts need not "
        "add up."
    )
    head = ["word", "added", f"#{metric}", "#answers mended", "#answers spoiled", "#reward", ""]
    return f'<h2>What each word does</h2><p class="soft">{note}</p>{_table(head, rows)}'


def _facts(run: RunFolder, result: JSON) -> str:
    """Return configuration and spending, folded away."""
    facts = {"config": run.config, "spent": result["spent"], "stats": result.get("stats", {})}
    text = escape(json.dumps(facts, indent=2, ensure_ascii=False))
    return (
        "<h2>How it was made</h2><details><summary>configuration, spending, the method's own "
        f"figures</summary><pre>{text}</pre></details>"
    )
