"""Build the documentation into site/: a page an environment from its docstring, then Sphinx.

Run by `make docs` from the repository root. Warnings are errors: a dead link, a page in no table of
contents.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from promptgym.cli.envs import list_ids, page_of

DOCS = Path(__file__).resolve().parent
REFERENCE = DOCS / "reference"


def write_reference(folder: Path) -> list[str]:
    """Write one Markdown page an environment, and an index of them; return the page names."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    ids = list_ids()
    for env_id in ids:
        (folder / f"{env_id}.md").write_text(f"# {env_id}\n\n{page_of(env_id)}\n", encoding="utf-8")
    names = "\n".join(ids)
    (folder / "index.md").write_text(
        "# Environment pages\n\nEach page is the docstring of the environment's class.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n",
        encoding="utf-8",
    )
    return ids


def main() -> int:
    """Write the generated pages and run Sphinx; return its exit status."""
    write_reference(REFERENCE)
    site = DOCS.parent / "site"
    sphinx = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    return subprocess.run([*sphinx, str(DOCS), str(site)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
