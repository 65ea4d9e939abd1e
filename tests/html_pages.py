"""Pages of HTML read back: elements, texts, table rows, links."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """A page; every element of it must be closed, in order.

    Attributes:
        path: of the file.
        elements: tag and attributes, in order.
        texts: tag, attributes and whole text of every element, in the order they end.
    """

    def __init__(self, path: Path) -> None:
        """Read a file."""
        super().__init__()
        self.path = path
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, dict[str, str | None], str]] = []
        self._open: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self._open, [tag for tag, *_ in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        """Close the last element that is open."""
        name, attributes, parts = self._open.pop()
        assert name == tag, f"{self.path.name}: </{tag}> closes <{name}>"
        self.texts.append((tag, attributes, "".join(parts)))
        if self._open:
            self._open[-1][2].append("".join(parts))

    def handle_data(self, data: str) -> None:
        """Take text."""
        if self._open:
            self._open[-1][2].append(data)

    def rows(self) -> list[list[str]]:
        """Return the texts of the cells of every table row, space folded."""
        out: list[list[str]] = []
        row: list[str] = []
        for tag, _, text in self.texts:
            if tag == "tr":
                out.append(row)
                row = []
            elif tag in ("td", "th"):
                row.append(" ".join(text.split()))
        return out


def pages(folder: Path) -> list[Page]:
    """Return all pages below a folder."""
    return [Page(path) for path in sorted(folder.rglob("*.html"))]


def links(page: Page) -> Iterator[str]:
    """Yield what a page loads and links to, but for addresses that a submitter gave."""
    for tag, attributes in page.elements:
        for name in ("href", "src"):
            if name in attributes and not (tag == "a" and "nofollow" in str(attributes.get("rel"))):
                yield str(attributes[name])
