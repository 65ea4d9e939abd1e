"""The code of docs/environments.md runs, top to bottom, in one namespace, as a reader would."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "environments.md"


@pytest.mark.skipif(not PAGE.is_file(), reason="the docs are in the source checkout only")
def test_the_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 6
    page = ModuleType("docs_environments")
    monkeypatch.setitem(sys.modules, page.__name__, page)  # pickles find the worked example there
    for block in blocks:
        code = block.replace("from __future__ import annotations\n", "")
        exec(compile(code, str(PAGE), "exec"), page.__dict__)
