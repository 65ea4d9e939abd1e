"""The site of a leaderboard, as text: its numbers, its links, and what hostile submitters wrote."""

from __future__ import annotations

import http.client
import math
import re
import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from html_pages import Page, links, pages
from leaderboard_entries import make_entry

from promptgym.cli import main
from promptgym.errors import ConfigError
from promptgym.evaluation import stats
from promptgym.leaderboard import charts
from promptgym.leaderboard.columns import shown
from promptgym.leaderboard.entries import Entry
from promptgym.leaderboard.names import entry_id, file_id, prompt_text, safe_url
from promptgym.leaderboard.serve import make_server
from promptgym.leaderboard.site import build_site
from promptgym.leaderboard.standings import Board, boards_of, numbers_of

EVIL = '</script><script>document.title="owned"</script>"><img src=x onerror=alert(1)>\'{{ 7*7 }}'
TASKS = ("review-author", "news-topic", "review-staff")


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    rng = np.random.default_rng(7)
    out = [make_entry(rng, f"method {i}", track=t) for i, t in enumerate(["search", "policy"] * 3)]
    out.append(make_entry(rng, "with examples", shots="few-shot", track="proposer"))
    out.append(make_entry(rng, "unprobed", robust=False))
    out.append(make_entry(rng, "one task", tasks=TASKS[:1]))
    out.append(make_entry(rng, "method 0", version="0.0.9"))
    table = {"suite": "table", "budget": {"queries": 25_600}, "models": ("table:staff",)}
    out += [make_entry(rng, f"method {i}", tested=False, tasks=("t",), **table) for i in range(3)]
    return out


@pytest.fixture(scope="module")
def site(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    build_site(entries, out, refused={"forged/one": ["test of run 3 is 0.8, not 0.9"]})
    return out


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Entry]:
    rng = np.random.default_rng(8)
    entry = make_entry(
        rng, EVIL, tasks=(EVIL, "../../up"), models=(EVIL,), url="javascript:alert(1)"
    )
    bad = {"instruction": EVIL, "system": EVIL, "demonstrations": [{"input": EVIL, "target": EVIL}]}
    robust = {"posix": math.nan, "character": None, "transfer": {EVIL: {"value": 0.5}}}
    runs = tuple(replace(r, prompt=bad, robustness=robust, seconds=math.inf) for r in entry.runs)
    same = dict.fromkeys(("spec", "suite", "version", "start", "authors", "description"), EVIL)
    entry = replace(entry, runs=runs, options={EVIL: EVIL}, command=EVIL, **same)
    out = tmp_path_factory.mktemp("hostile") / "site"
    build_site([entry, make_entry(rng, "plain")], out, refused={EVIL: [EVIL]}, title=EVIL)
    return out, entry


def board(entries: list[Entry], suite: str = "tiny", version: str = "0.1.0") -> Board:
    return next(b for b in boards_of(entries) if b.key[:2] == (suite, version))


def test_places_and_intervals_are_those_of_the_runs(entries: list[Entry]) -> None:
    found = board(entries)
    assert found.ranked == TASKS and found.measure == "test"
    for row in found.rows[:-1]:
        scores = np.array(
            [
                [next(r.test for r in row.entry.of(t) if r.seed == seed) for t in TASKS]
                for seed in row.entry.seeds
            ],
            dtype=np.float64,
        )
        drawn = stats.stratified_bootstrap(stats.iqm, scores, rng=np.random.default_rng(0))
        assert row.score is not None and row.seeds == 5
        assert (row.score.value, row.score.low, row.score.high) == (
            drawn.point,
            drawn.low,
            drawn.high,
        )
        assert row.tasks["news-topic"].value == pytest.approx(scores[:, 1].mean())
    values = [row.score.value for row in found.rows if row.score]
    assert values == sorted(values, reverse=True)
    assert [row.rank for row in found.rows] == [*range(1, 9), None]
    last = found.rows[-1]
    assert last.entry.name == "one task" and last.score is None and "news-topic" not in last.tasks


def test_a_board_without_test_ranks_by_regret(entries: list[Entry]) -> None:
    found = board(entries, "table")
    assert found.measure == "regret" and found.lower_is_better
    means = [np.mean([run.regret for run in row.entry.runs]) for row in found.rows]
    assert means == sorted(means) and [row.rank for row in found.rows] == [1, 2, 3]
    assert [row.tasks["t"].value for row in found.rows] == pytest.approx(means)


def test_equal_scores_share_a_place_and_seeds_without_all_tasks_do_not_count() -> None:
    rng = np.random.default_rng(0)
    one = make_entry(rng, "a", level=0.8)
    lacking = replace(one.runs[-1], test=None)
    twins = [replace(one, name="b"), one, replace(one, name="c", runs=(*one.runs[:-1], lacking))]
    first, second, third = boards_of(twins)[0].rows
    rows = sorted((first, second, third), key=lambda row: row.entry.name)
    assert rows[0].rank == rows[1].rank and [row.seeds for row in rows] == [5, 5, 4]


def test_versions_budgets_and_models_are_boards_of_their_own(entries: list[Entry]) -> None:
    keys = [b.key[:2] for b in boards_of(entries)]
    assert keys == [("tiny", "0.1.0"), ("tiny", "0.0.9"), ("table", "0.1.0")]
    rng = np.random.default_rng(0)
    more = [
        make_entry(rng, "a", budget={"queries": n}, version=v, models=m)
        for n, v, m in ((9, "0.9.0", ("x",)), (9, "0.10.0", ("x",)), (8, "0.9.0", ("x", "y")))
    ]
    assert [b.key[1] for b in boards_of(more)] == ["0.10.0", "0.9.0", "0.9.0"]


def test_every_number_of_the_table_is_the_entrys(site: Path, entries: list[Entry]) -> None:
    table = Page(site / "index.html").rows()
    heads = [i for i, row in enumerate(table) if row[:2] == ["#", "method"]]
    for found, start in zip(boards_of(entries), heads, strict=True):
        head = table[start]
        for row, cells in zip(found.rows, table[start + 1 :], strict=False):
            at = dict(zip(head, cells, strict=True))
            numbers = numbers_of(row.entry.runs)
            assert at["method"] == row.entry.name and at["#"] == str(row.rank or "\u2013")
            for task in found.tasks:
                values = [getattr(r, found.measure) for r in row.entry.of(task)]
                assert at[task] == (f"{np.mean(values):.3f}" if values else "\u2013")
            if row.score:
                score = row.score
                assert at[head[2]] == f"{score.value:.3f}[{score.low:.3f}, {score.high:.3f}]"
            assert at["queries"] == f"{np.mean([r.queries for r in row.entry.runs]):,.0f}"
            assert at["seconds"] == f"{np.mean([r.seconds for r in row.entry.runs]):,.1f}"
            tokens = [r.proposer_tokens for r in row.entry.runs]
            assert at["proposer tokens"] == f"{np.mean(tokens):,.0f}"
            assert at["failures"] == str(sum(r.failures for r in row.entry.runs))
            assert at["seeds"] == str(len(row.entry.seeds))
            if found.measure == "test":
                probed = [r.robustness["word"]["drop"] for r in row.entry.runs if r.robustness]
                assert at["word"] == (shown(float(np.mean(probed)), "+.3f") if probed else "\u2013")
                assert at["POSIX"] == shown(numbers.get("posix"))
                gap = np.mean([r.gap for r in row.entry.runs])
                assert at["train - test"] == shown(float(gap), "+.3f")


def test_a_methods_page_has_every_run_and_its_curves(site: Path, entries: list[Entry]) -> None:
    page = Page(site / "methods" / f"{entry_id(entries[0])}.html")
    text = page.path.read_text(encoding="utf-8")
    rows = page.rows()
    for run in entries[0].runs:
        cells = [str(run.seed), *(f"{v:.3f}" for v in (run.train, run.dev, run.test))]
        assert [*cells, run.prompt["instruction"]] in rows
    for task in TASKS:
        found = charts.course_of(entries[0].of(task), "test", 32_000.0)
        assert found is not None
        ends = [run.curve[-1]["test"] for run in entries[0].of(task)]
        assert found.value[-1] == pytest.approx(np.mean(ends))
        assert (
            f"{task}: mean and 95 % interval against queries; at the end {found.value[-1]:.3f}"
            in text
        )
    assert text.count('<path class="band"') == 3 and entries[0].command in text.replace(
        "&#39;", "'"
    )


def test_a_curve_holds_its_value_and_begins_where_all_seeds_have_one() -> None:
    run = make_entry(np.random.default_rng(0), "a").runs[0]
    early = replace(run, curve=({"queries": 0, "test": 0.5}, {"queries": 500, "test": 0.75}))
    late = replace(run, curve=({"queries": 250, "test": 0.25},))
    found = charts.course_of((early, late), "test", 1000.0)
    assert found is not None and found.queries[0] == 250.0 and found.queries[-1] == 1000.0
    assert found.value[0] == 0.375 and found.value[-1] == 0.5
    assert (found.low <= found.value).all() and (found.value <= found.high).all()
    assert charts.course_of((replace(run, curve=()),), "test", 10.0) is None


def test_a_tasks_page_ranks_all_its_methods(site: Path, entries: list[Entry]) -> None:
    found = board(entries)
    page = Page(site / "tasks" / f"{found.tasks['review-author']}.html")
    ranked = sorted(found.rows, key=lambda row: -row.tasks["review-author"].value)
    names = [row[1] for row in page.rows() if row[0].isdecimal()]
    assert names == [row.entry.name for row in ranked] and len(names) == 9
    drawn = [a for tag, a in page.elements if tag == "path" and "data-course" in a]
    assert len(drawn) == 9 and sum("top" in str(a["class"]) for a in drawn) == charts.LABELLED


def test_all_links_are_relative_and_lead_to_what_is_there(
    site: Path, hostile: tuple[Path, Entry]
) -> None:
    count = 0
    for folder in (site, hostile[0]):
        for page in pages(folder):
            for link in links(page):
                parts = urlsplit(link)
                assert not parts.scheme and not parts.netloc and not link.startswith("/"), link
                target = (page.path.parent / unquote(parts.path)).resolve()
                assert target.is_relative_to(folder.resolve())
                assert target.is_file() or not parts.path, link
                count += 1
    assert count > 100


def test_what_a_submitter_wrote_is_text_wherever_it_stands(hostile: tuple[Path, Entry]) -> None:
    folder, entry = hostile
    places = 0
    for page in pages(folder):
        text = page.path.read_text(encoding="utf-8")
        assert "<script>document" not in text and "<img" not in text
        scripts = [a for tag, a in page.elements if tag == "script"]
        assert [a.get("src", "").rpartition("/")[2] for a in scripts] == ["site.js"]  # type: ignore[union-attr]
        for tag, attributes in page.elements:
            assert tag not in ("img", "iframe", "object", "embed", "base", "style")
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            assert not str(attributes.get("href")).lower().startswith(("javascript:", "data:"))
        places += sum(EVIL in t for _, _, t in page.texts)
        policy = next(a for _, a in page.elements if a.get("http-equiv"))
        assert "script-src 'self';" in str(policy["content"]) and "unsafe" not in str(
            policy["content"]
        )
    assert places > 20
    page = Page(folder / "methods" / f"{entry_id(entry)}.html")
    assert any(tag == "td" and t.count(EVIL) == 4 for tag, _, t in page.texts)
    assert "javascript:alert(1) (no web address)" in [
        " ".join(t.split()) for tag, _, t in page.texts if tag == "dd"
    ]


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://arxiv.org/abs/2205.12548", True),
        ("http://example.org/?a=1&b=%22", True),
        ("javascript:alert(1)", False),
        ("JavaScript://example.org/%0aalert(1)", False),
        ("java\nscript:alert(1)", False),
        ("data:text/html,x", False),
        ("//example.org", False),
        ("https:", False),
        ("https://", False),
        ("http://[", False),
        (" https://example.org", False),
        ("file:///etc/passwd", False),
    ],
)
def test_only_web_addresses_become_links(url: str, kept: bool) -> None:
    assert (safe_url(url) == url) is kept


NAMES = ["..", "../../etc/passwd", "a/b", "A", "a", "a ", "", "\x00", "CON", "\u202eevil", "\ud800"]
NAMES += ["x" * 5000, "日本", ".htaccess", "a\\b", "%2e%2e%2f", "é", "e\u0301"]


def test_names_of_files_are_made_not_taken(tmp_path: Path) -> None:
    ids = {name: file_id(name, 1) for name in NAMES}
    assert len({id.lower() for id in ids.values()}) == len(NAMES)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{12,52}", id) for id in ids.values())
    assert file_id("a", 1) != file_id("a", 2) and file_id("a", 1) == file_id("a", 1)
    rng = np.random.default_rng(0)
    made = [make_entry(rng, name, tasks=NAMES[:3], seeds=2) for name in NAMES]
    build_site([*made, made[3]], tmp_path / "site", refused=dict.fromkeys(NAMES, ("no",)))
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    methods = [f for f in files if f.startswith("site/methods/")]
    assert len(methods) == len(NAMES) + 1 and all(f.startswith("site/") for f in files)
    assert len(files) == len(methods) + 3 + 3 + 3


def test_tasks_and_models_may_be_called_like_anything_of_python(tmp_path: Path) -> None:
    names = ("items", "get", "__class__", "keys")
    rng = np.random.default_rng(0)
    entry = make_entry(rng, "update", tasks=names)
    short = replace(make_entry(rng, "pop", tasks=names), runs=entry.of("get"))
    build_site([entry, short], tmp_path / "site")
    assert len(list((tmp_path / "site" / "tasks").iterdir())) == 4


def test_the_same_entries_give_the_same_bytes(entries: list[Entry], tmp_path: Path) -> None:
    first, second = (build_site(entries, tmp_path / name) for name in ("a", "b"))
    assert [p.name for p in first] == [p.name for p in second]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_site_is_written_over_and_nothing_else_is(entries: list[Entry], tmp_path: Path) -> None:
    out = tmp_path / "site"
    build_site(entries, out)
    kept = build_site(entries[:1], out)
    assert sorted(p for p in out.rglob("*") if p.is_file()) == sorted(kept)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="holds something"):
        build_site(entries, other)
    with pytest.raises(ConfigError, match="is a file"):
        build_site(entries, other / "thesis.tex")
    assert [p.name for p in other.iterdir()] == ["thesis.tex"]


def test_without_entries_there_is_a_site(tmp_path: Path) -> None:
    build_site([], tmp_path / "site")
    assert "There are no results yet." in (tmp_path / "site" / "index.html").read_text()
    assert "None." in (tmp_path / "site" / "refused.html").read_text()


def test_a_long_prompt_is_cut_and_an_empty_one_is_named(site: Path) -> None:
    assert prompt_text({"instruction": "a" * 5000}).endswith("… (1,000 more characters)")
    rng = np.random.default_rng(0)
    entry = make_entry(rng, "a", seeds=1)
    entry = replace(entry, runs=tuple(replace(r, prompt={"instruction": ""}) for r in entry.runs))
    build_site([entry], site.parent / "empty")
    page = Page(site.parent / "empty" / "methods" / f"{entry_id(entry)}.html")
    assert sum(t == "(empty prompt)" for _, _, t in page.texts if _ == {"class": "soft"}) == 3


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (0.81249, ".3f", "0.812"),
        (-0.0004, "+.3f", "0.000"),
        (-0.05, "+.3f", "\u22120.050"),
        (1234.5, ",.0f", "1,234"),
        (None, ".3f", "\u2013"),
    ],
)
def test_numbers_are_written_alike(value: float | None, form: str, text: str) -> None:
    assert shown(value, form) == text


def test_a_server_sends_the_site_and_nothing_beside_it(site: Path) -> None:
    (site.parent / "secret.txt").write_text("secret")
    with make_server(site, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answers = {}
        for path in ("/", "/assets/site.css", "/../secret.txt", "/%2e%2e/secret.txt"):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            connection.request("GET", path)
            response = connection.getresponse()
            answers[path] = response.status, response.read()
        server.shutdown()
    assert answers["/"] == (200, (site / "index.html").read_bytes())
    assert answers["/assets/site.css"][0] == 200
    assert [answers[p][0] for p in ("/../secret.txt", "/%2e%2e/secret.txt")] == [404, 404]


def test_what_cannot_be_served_is_said(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with make_server(site, port=0) as server:
        for arguments in ([str(tmp_path)], [str(site), "--port", str(server.server_port)]):
            with pytest.raises(SystemExit) as left:
                main(["leaderboard", "serve", *arguments])
            assert left.value.code == 2
    errors = capsys.readouterr().err.splitlines()
    assert "holds no site" in errors[0] and "cannot listen" in errors[1]
