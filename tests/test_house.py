"""The rules of the house, measured over the tree: sizes, docstrings, floors, circles, imports.

Floors are those of docs/design.md: a file imports from floors below its own, from its own floor as
long as no circle of rooms comes of it, and never upwards.
"""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST_FILE = 400
MAPPED = ("envs", "agents", "baselines")
FLOORS = {
    "": 0,  # the front door names what is above by strings only
    "registration": 0,
    "arguments": 0,
    "ranges": 0,
    "types": 0,
    "errors": 0,
    "prompts": 1,
    "tasks": 1,
    "runs": 1,
    "llms": 2,
    "scoring": 3,
    "rewards": 3,
    "problem": 3,
    "envs": 4,
    "search": 4,
    "integrations": 4,
    "agents": 5,
    "baselines": 5,
    "evaluation": 6,
    "leaderboard": 7,
    "cli": 8,
    "testing": 9,  # the kit for people who build on the house may use every room
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class File:
    """One source file and what it imports.

    `eager` holds what is imported when the file is, `deferred` what functions import later,
    `typing` what only type checkers see; all as names of modules in the tree.
    """

    module: str
    path: Path
    tree: ast.Module
    lines: int
    eager: set[str] = field(default_factory=set)
    deferred: set[str] = field(default_factory=set)
    typing: set[str] = field(default_factory=set)
    forbidden: list[str] = field(default_factory=list)

    @property
    def room(self) -> str:
        """The first part of the name after `promptgym`."""
        return self.module.split(".")[1] if "." in self.module else ""


def read_tree(root: Path) -> dict[str, File]:
    """Parse every source file of promptgym/, envs/, agents/ and baselines/."""
    files: dict[str, File] = {}
    for folder in ("promptgym", *MAPPED):
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts if folder == "promptgym" else ("promptgym", *parts)
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text(encoding="utf-8")
            files[module] = File(module, path, ast.parse(text), len(text.splitlines()))
    for file in files.values():
        for node, where in imports(file.tree):
            for name in targets(node):
                if name.startswith(".") or name.split(".")[0] in MAPPED:
                    file.forbidden.append(f"{file.path.name}:{node.lineno} imports {name}")
                while name and name not in files:
                    name = name.rpartition(".")[0]
                if name and name != file.module:
                    getattr(file, where).add(name)
    return files


def imports(tree: ast.Module) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Yield the import statements of a file: at import, in functions, for type checkers."""

    def walk(node: ast.AST, where: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                yield child, where
            elif isinstance(child, Function):
                yield from walk(child, "deferred")
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from walk(child, "typing")
            else:
                yield from walk(child, where)

    yield from walk(tree, "eager")


def targets(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the dotted names an import may load (`from a import b` may load module `a.b`)."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = "." * node.level + (node.module or "")
    return [f"{base}.{alias.name}" for alias in node.names]


def crossings(files: dict[str, File]) -> list[str]:
    """Return every import that runs up: from a lower floor into a higher one."""
    out = []
    for file in files.values():
        if file.room not in FLOORS:
            out.append(f"{file.module}: no floor is known for {file.room!r}; add it to FLOORS")
            continue
        for name in sorted(file.eager | file.deferred | file.typing):
            room = files[name].room
            if FLOORS.get(room, -1) > FLOORS[file.room]:
                out.append(f"{file.module} ({FLOORS[file.room]}) -> {name} ({FLOORS[room]})")
    return out


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected groups of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    out: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                out.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return out


def room_graph(files: dict[str, File]) -> dict[str, set[str]]:
    """Return which rooms of the house (not the kit, `testing`) import which others, at any time."""
    graph: dict[str, set[str]] = {}
    for file in files.values():
        if FLOORS.get(file.room, 9) < 8:
            rooms = {files[name].room for name in file.eager | file.deferred}
            graph.setdefault(file.room, set()).update(rooms - {file.room})
    return graph


def functions(files: Iterable[File]) -> list[tuple[int, str]]:
    """Return (length in lines, name) of every function and method."""
    return [
        ((node.end_lineno or 0) - node.lineno + 1, f"{file.module}.{node.name}")
        for file in files
        for node in ast.walk(file.tree)
        if isinstance(node, Function)
    ]


def documented(files: Iterable[File]) -> tuple[int, int, list[str]]:
    """Return (with docstring, all, names without) of public modules, classes and functions."""
    total, missing = 0, []

    def walk(node: ast.AST, name: str) -> None:
        nonlocal total
        total += 1
        if not ast.get_docstring(node):  # type: ignore[arg-type]
            missing.append(name)
        if not isinstance(node, Function):
            for child in ast.iter_child_nodes(node):
                named = isinstance(child, Function | ast.ClassDef)
                if named and not child.name.startswith("_"):  # type: ignore[attr-defined]
                    walk(child, f"{name}.{child.name}")  # type: ignore[attr-defined]

    for file in files:
        walk(file.tree, file.module)
    return total - len(missing), total, missing


@pytest.fixture(scope="module")
def house() -> dict[str, File]:
    return read_tree(ROOT)


def test_the_figures_are_printed_and_no_file_is_too_long(
    house: dict[str, File], capsys: pytest.CaptureFixture[str]
) -> None:
    files = [f for f in house.values() if f.lines > 1]
    sizes = [f.lines for f in files]
    lengths = functions(files)
    good, total, missing = documented(files)
    longest = max(files, key=lambda f: f.lines)
    with capsys.disabled():
        print(
            f"\nhouse: {len(files)} files, {sum(sizes)} lines; median file "
            f"{statistics.median(sizes):.0f} lines, longest {longest.lines} ({longest.module}); "
            f"{len(lengths)} functions, median {statistics.median(n for n, _ in lengths):.0f}, "
            f"longest {max(lengths)[0]} ({max(lengths)[1]}); docstrings {good}/{total}"
            + (f", missing: {', '.join(missing[:8])}" if missing else "")
        )
    too_long = [f"{f.module}: {f.lines} lines" for f in files if f.lines > LONGEST_FILE]
    assert not too_long


def test_no_file_of_tests_or_benchmarks_is_too_long() -> None:
    files = [path for folder in ("tests", "benchmarks") for path in (ROOT / folder).glob("*.py")]
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert lines["test_house.py"] > 200
    assert not {name: n for name, n in lines.items() if n > LONGEST_FILE}


def test_no_import_runs_up_a_floor(house: dict[str, File]) -> None:
    assert not crossings(house)


def test_there_are_no_circles_of_files_or_rooms(house: dict[str, File]) -> None:
    assert not circles({f.module: f.eager for f in house.values()})
    assert not circles(room_graph(house))


def test_imports_are_absolute_and_go_through_promptgym(house: dict[str, File]) -> None:
    assert not [line for f in house.values() for line in f.forbidden]


def test_the_rules_are_found_broken_where_they_are(tmp_path: Path) -> None:
    sources = {
        "promptgym/__init__.py": "",
        "promptgym/prompts/__init__.py": "from promptgym.prompts import b\n",
        "promptgym/prompts/a.py": "from promptgym.prompts.b import x\n",
        "promptgym/prompts/b.py": "def f():\n    from promptgym.tasks.c import y\n",
        "promptgym/tasks/c.py": "import promptgym.prompts.a\nimport promptgym.cli\n",
        "promptgym/cli/__init__.py": "from agents import d\nfrom . import e\n",
        "agents/d.py": "from promptgym.agents.e import z\n",
        "agents/e.py": "import promptgym.agents.d\n" + "#\n" * 400,
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    files = read_tree(tmp_path)
    assert crossings(files) == ["promptgym.tasks.c (1) -> promptgym.cli (8)"]
    assert circles({f.module: f.eager for f in files.values()}) == [
        ["promptgym.agents.d", "promptgym.agents.e"]
    ]
    assert circles(room_graph(files)) == [["prompts", "tasks"]]
    assert len(files["promptgym.cli"].forbidden) == 2
    assert files["promptgym.agents.e"].lines > LONGEST_FILE
    assert documented(files.values())[0] == 0
