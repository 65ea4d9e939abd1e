"""`promptgym evaluate --robustness`: what it prints, what it refuses, what it would cost."""

from __future__ import annotations

import json

import pytest

from promptgym.cli import main
from promptgym.evaluation.robustness import KINDS, measure_robustness

ASK = ["evaluate", "--task", "author", "--limit", "5", "--prompt", "the author , closely"]
MORE = ["--robustness", "--variants", "2", "--seed", "4", "--transfer", "tiny-masked"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; return its exit status and what it printed."""
    code: object = 0
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    return code if isinstance(code, int) else 0, printed.out, printed.err


def test_json_has_what_python_measures(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *ASK, "--prompt", "", *MORE, "--json")
    result = json.loads(out)
    assert code == 0 and len(result["prompts"]) == 2
    expected = measure_robustness(
        ["the author , closely", ""],
        "author",
        "tiny",
        limit=5,
        variants=2,
        seed=4,
        transfer=["tiny-masked"],
    )
    for row, other in zip(result["robustness"], expected, strict=True):
        for one in (row, other):
            one["spent"].pop("seconds")
        assert row.pop("posix") == pytest.approx(other.pop("posix"), rel=1e-4)  # float32
    assert result["robustness"] == expected
    assert [r["value"] for r in result["robustness"]] == [r["value"] for r in result["prompts"]]
    plain = json.loads(run(capsys, *ASK, "--json")[1])
    assert "robustness" not in plain


def test_the_table_has_a_column_a_measure(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *ASK, "--prompt", "", *MORE)
    title, headers, first, second = out.splitlines()[-4:]
    assert code == 0 and title.startswith("robustness")
    assert headers.split() == [*KINDS, "format", "posix", "tiny-masked", "prompt"]
    assert first.endswith("the author , closely") and "." in first.split()[0]
    assert second.split()[:2] == ["-", "-"]


def test_a_dry_run_counts_what_would_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    counted = json.loads(run(capsys, *ASK, *MORE, "--dry-run", "--json")[1])
    result = json.loads(run(capsys, *ASK, *MORE, "--json")[1])
    spent = [result["spent"], result["robustness"][0]["spent"]]
    for kind in ("queries", "calls", "tokens"):
        assert counted[kind] == sum(s[kind] for s in spent)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--variants", "2"], "--variants is about --robustness; give that, too"),
        (["--robustness", "--variants", "0"], "variants must be at least 1, got 0"),
        (["--robustness", "--seed", "-1"], "seed must be 0 or more, got -1"),
        (["--robustness", "--transfer", "tinny"], "unknown model 'tinny'"),
    ],
)
def test_mistakes_are_one_line(
    more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *ASK, *more)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1
