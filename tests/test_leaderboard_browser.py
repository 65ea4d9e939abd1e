"""The site of a leaderboard in headless Chromium: from a disk, from a server, wide and narrow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
from leaderboard_entries import make_entry

from promptgym.leaderboard.entries import Entry
from promptgym.leaderboard.names import entry_id
from promptgym.leaderboard.serve import make_server
from promptgym.leaderboard.site import build_site
from promptgym.leaderboard.standings import Board, boards_of

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())

EVIL = (
    '</script><script>document.title="owned"</script>"><img src=x onerror=document.title="owned">'
)
LONG = "a_name_without_spaces_" * 20


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    rng = np.random.default_rng(3)
    tracks = ["search", "proposer", "policy"] * 4
    out = [make_entry(rng, f"method {i}", track=track) for i, track in enumerate(tracks)]
    out.append(make_entry(rng, "unprobed", robust=False, track="search"))
    out.append(make_entry(rng, "with examples", shots="few-shot", track="search"))
    evil = make_entry(rng, EVIL, description=EVIL, url="javascript:document.title='owned'")
    bad = {"instruction": EVIL}
    out.append(replace(evil, runs=tuple(replace(run, prompt=bad) for run in evil.runs)))
    out.append(make_entry(rng, LONG, command=LONG, description=LONG, track="policy"))
    out += [make_entry(rng, f"method {i}", version="0.0.9") for i in range(2)]
    return out


@pytest.fixture(scope="module")
def site(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("browser") / "site"
    build_site(entries, out, refused={EVIL: [EVIL, LONG]})
    return out


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """Where the site is served, below a sub-path."""
    (site.parent / "index.html").write_text("a host with a site below")
    with make_server(site.parent, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{site.name}"
        server.shutdown()


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = browser.chromium(tmp_path_factory.mktemp("profile") / "own")
    yield driver
    driver.quit()


@pytest.fixture(params=["file", "served"])
def base(request: pytest.FixtureRequest, site: Path) -> str:
    """The address of the site: of the files, then of the server."""
    return site.as_uri() if request.param == "file" else str(request.getfixturevalue("served"))


@pytest.fixture(autouse=True)
def _quiet(window: Any) -> Iterator[None]:
    """Begin wide, light and with nothing stored; whatever a page does, its console stays empty."""
    screen(window, 1440, 900)
    window.get("about:blank")
    window.get_log("browser")
    yield
    assert window.get_log("browser") == []


def screen(window: Any, width: int, height: int, *, dark: bool = False) -> None:
    """Set the size of the page and what the system prefers."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def board_of(entries: list[Entry]) -> Board:
    return boards_of(entries)[0]


ROWS = """
  const table = document.querySelector("section.board:not([hidden]) table");
  const heads = [...table.tHead.rows[1].cells].map(cell => cell.textContent.trim());
  const at = heads.indexOf(arguments[0]);
  const rows = [...table.tBodies[0].rows].filter(row => !row.hidden);
  return rows.map(row => row.cells[at].textContent.trim());
"""


def column(window: Any, label: str) -> list[str]:
    """Return what can be seen of a column, top down."""
    return list(window.execute_script(ROWS, label))


def shown(window: Any) -> list[str]:
    """Return the names of the methods that can be seen, top down."""
    return column(window, "method")


def press(window: Any, label: str, key: str = "") -> None:
    """Press the button at the head of a column, by a click or by a key."""
    for button in window.find_elements("css selector", "section.board:not([hidden]) thead button"):
        if button.text.strip() == label:
            button.send_keys(key) if key else button.click()
            return
    raise AssertionError(f"no column {label!r}")


def aria(window: Any) -> dict[str, str]:
    script = (
        "return Object.fromEntries([...document.querySelectorAll("
        "'section.board:not([hidden]) th[aria-sort]')].map("
        "head => [head.textContent.trim(), head.getAttribute('aria-sort')]))"
    )
    return dict(window.execute_script(script))


def test_a_column_is_sorted_both_ways_and_what_is_missing_comes_last(
    window: Any, base: str, entries: list[Entry]
) -> None:
    window.get(f"{base}/index.html")
    start = [row.entry.name for row in board_of(entries).rows]
    assert all(m.startswith(n.rstrip("…")) for n, m in zip(shown(window), start, strict=True))
    assert aria(window) == {"#": "ascending"}
    press(window, "seconds")
    values = [float(v.replace(",", "")) for v in column(window, "seconds")]
    assert values == sorted(values) and aria(window) == {"seconds": "ascending"}
    press(window, "seconds", "\ue007")  # Enter
    values = [float(v.replace(",", "")) for v in column(window, "seconds")]
    assert values == sorted(values, reverse=True) and aria(window) == {"seconds": "descending"}
    for way in ("ascending", "descending"):
        press(window, "POSIX", " ")
        assert aria(window) == {"POSIX": way}
        *known, last = column(window, "POSIX")
        numbers = [float(v) for v in known]
        assert last == "\u2013" and shown(window)[-1] == "unprobed"
        assert numbers == sorted(numbers, reverse=way == "descending")
    press(window, "review-author")
    values = [float(v) for v in column(window, "review-author")]
    assert values == sorted(values, reverse=True)  # the good end first
    press(window, "method")
    names = shown(window)
    assert names == sorted(names)


def test_methods_are_filtered_and_take_the_places_among_those_shown(
    window: Any, base: str, entries: list[Entry]
) -> None:
    window.get(f"{base}/index.html")
    rows = board_of(entries).rows
    for box in window.find_elements("css selector", "[name=track]"):
        if box.get_attribute("value") != "policy":
            box.click()
    learned = [row.entry.name for row in rows if row.entry.track == "policy"]
    assert all(m.startswith(n.rstrip("…")) for n, m in zip(shown(window), learned, strict=True))
    assert column(window, "#") == [str(i + 1) for i in range(len(learned))]
    assert window.find_element("id", "count").text == f"{len(learned)} of 16 methods"
    window.get(f"{base}/index.html#shots=few-shot")
    window.refresh()
    assert shown(window) == ["with examples"] and column(window, "#") == ["1"]
    window.get(f"{base}/about.html")
    window.get(f"{base}/index.html")
    window.find_element("id", "find").send_keys("METHOD 1")
    assert sorted(shown(window)) == ["method 1", "method 10", "method 11"]
    window.find_element("id", "find").send_keys("nothing like it")
    assert shown(window) == [] and window.find_element("id", "count").text == "0 of 16 methods"


def test_a_view_can_be_linked(window: Any, base: str, entries: list[Entry]) -> None:
    window.get(f"{base}/index.html")
    press(window, "seconds")
    window.find_element("id", "find").send_keys("method")
    window.find_element("css selector", "[name=group][value=robustness]").click()
    names, address = shown(window), window.current_url
    assert "sort=seconds" in address and "q=method" in address and "hide=robustness" in address
    window.get("about:blank")
    window.get(address)
    assert shown(window) == names and aria(window) == {"seconds": "ascending"}
    assert window.find_element("id", "find").get_attribute("value") == "method"
    head = "section.board:not([hidden]) thead th.g-{}"
    assert not window.find_element("css selector", head.format("robustness")).is_displayed()
    assert window.find_element("css selector", head.format("tasks")).is_displayed()
    older = boards_of(entries)[1]
    window.get(f"{base}/index.html#board={older.id}")
    assert sorted(shown(window)) == ["method 0", "method 1"]
    window.execute_script("location.hash = '#board=nonsense&sort=nonsense&track=nonsense&dir=x'")
    window.get(f"{base}/index.html#sort=%3Cscript%3E&hide=,,")
    assert len(shown(window)) == 16


def test_boards_are_switched(window: Any, base: str, entries: list[Entry]) -> None:
    window.get(f"{base}/index.html")
    visible = "section.board:not([hidden]) h2 .soft"
    assert [h.text for h in window.find_elements("css selector", visible)] == ["promptgym 0.1.0"]
    options = window.find_elements("css selector", "#board option")
    options[1].click()
    assert [h.text for h in window.find_elements("css selector", visible)] == ["promptgym 0.0.9"]
    assert len(shown(window)) == 2 and "board=" in window.current_url
    options[0].click()
    assert len(shown(window)) == 16 and "board=" not in window.current_url


def test_a_method_and_a_task_are_opened(window: Any, base: str, entries: list[Entry]) -> None:
    window.get(f"{base}/index.html")
    window.find_element("link text", "method 3").click()
    assert window.find_element("css selector", "h1").text == "method 3"
    assert len(window.find_elements("css selector", "svg.curve .mean")) == 3
    window.find_element("link text", "news-topic").click()
    assert window.find_element("css selector", "h1").text == "news-topic"
    id = entry_id(entries[3])
    focus = "document.querySelector(`tr[data-course='${arguments[0]}'] a`).focus()"
    which, line = window.find_element("id", "which"), f"path[data-course='{id}']"
    assert which.text.strip() == ""
    window.execute_script(focus, id)
    assert which.text.startswith("method 3")
    assert "on" in window.find_element("css selector", line).get_attribute("class").split()
    window.find_element("link text", "promptgym leaderboard").click()
    assert window.find_element("css selector", "h1").text == "promptgym leaderboard"


def test_no_script_of_a_submission_runs(
    window: Any, base: str, site: Path, entries: list[Entry]
) -> None:
    evil = next(e for e in entries if e.name == EVIL)
    paths = [f"methods/{entry_id(evil)}.html", "index.html", "refused.html"]
    paths += [f"tasks/{p.name}" for p in (site / "tasks").iterdir()]
    for path in paths:
        window.get(f"{base}/{path}")
        assert "owned" not in window.title.replace(EVIL, "")
        assert window.find_elements("css selector", "img") == []
        assert len(window.find_elements("css selector", "script")) == 1
    window.get(f"{base}/{paths[0]}")
    assert window.find_element("css selector", "h1").text == EVIL
    assert window.find_elements("css selector", "a[href^='javascript']") == []


def test_the_pages_policy_stops_a_script_that_gets_in_all_the_same(window: Any, base: str) -> None:
    window.get(f"{base}/index.html")
    window.execute_script(
        "const s = document.createElement('script'); s.textContent = 'document.title = \"owned\"';"
        "document.body.append(s);"
    )
    assert window.title == "promptgym leaderboard"
    assert "Content Security Policy" in str(window.get_log("browser"))


def test_nothing_but_tables_is_wider_than_a_phone(window: Any, base: str, site: Path) -> None:
    screen(window, 360, 740)
    for page in sorted(site.rglob("*.html")):
        window.get(f"{base}/{page.relative_to(site).as_posix()}")
        width = window.execute_script("return document.documentElement.scrollWidth")
        assert width == 360, page.name
    window.get(f"{base}/index.html")
    script = """
      const box = document.querySelector("section.board:not([hidden]) .box");
      box.scrollLeft = 400;
      const cell = box.querySelector("tbody .stick").getBoundingClientRect();
      return [box.scrollLeft, cell.left - box.getBoundingClientRect().left];
    """
    assert window.execute_script(script) == [400, 0]


def test_pages_are_dark_where_the_system_is_or_the_reader_wants(window: Any, base: str) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    window.get(f"{base}/index.html")
    window.execute_script("localStorage.clear()")
    assert window.execute_script(ground) == "rgb(255, 255, 255)"
    screen(window, 1440, 900, dark=True)
    assert window.execute_script(ground) == "rgb(21, 24, 28)"
    button = window.find_element("id", "theme")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(window, 10).until(lambda _: button.text == "Light")
    button.click()
    assert button.text == "Dark"
    assert window.execute_script(ground) == "rgb(255, 255, 255)"
    window.get(f"{base}/about.html")
    assert window.execute_script(ground) == "rgb(255, 255, 255)"  # remembered
    window.execute_script("localStorage.clear()")


def test_without_javascript_all_boards_are_there(window: Any, base: str) -> None:
    window.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        window.get(f"{base}/index.html")
        tables = window.find_elements("css selector", "table")
        assert [t.is_displayed() for t in tables] == [True, True]
        assert not window.find_element("id", "controls").is_displayed()
        assert window.find_elements("css selector", "thead button") == []
    finally:
        window.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_nothing_is_loaded_from_elsewhere(window: Any, served: str, site: Path) -> None:
    names = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    for page in ("index.html", f"methods/{next((site / 'methods').iterdir()).name}"):
        window.get(f"{served}/{page}")
        loaded = window.execute_script(names)
        assert loaded and all(name.startswith(served) for name in loaded)
