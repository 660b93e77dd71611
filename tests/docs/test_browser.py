"""The site in a real browser: its search finds what people look for, its copy buttons take commands alone."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium")
ASKED = {
    "how do I roll out a new policy safely": "Roll out a new policy safely",
    "why was this blocked": "Troubleshooting by message",
    "why does doctor say that pictures are not seen": "Troubleshooting by message",
    "opentelemetry": "Operate",
    "grafana": "Operate",
    "replay": "Records: what was decided, and why",
    "shadow": "Policy",
    "fastapi": "In a FastAPI application",
    "workers": "Operate",
    "troubleshooting": "Troubleshooting by message",
    "proxy": "Gateways, proxies and certificates",
    "llama guard": "Come from another guardrail",
}

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is in the group docs"),
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
    # Playwright leaves its own event loop's pipes to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def page(site: Path) -> Iterator[Page]:
    """A page of the site that is served on loopback."""
    from playwright.sync_api import sync_playwright

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_context(
            base_url=f"http://127.0.0.1:{server.server_port}",
            viewport={"width": 1280, "height": 900},
            permissions=["clipboard-read", "clipboard-write"],
        )
        yield opened.new_page()
        browser.close()
    server.shutdown()
    server.server_close()


def test_the_search_finds_the_page_that_answers(page: Page) -> None:
    found: dict[str, list[str]] = {}
    page.goto("/")
    page.keyboard.press("/")
    for question in ASKED:
        page.locator(".md-search__input").fill("")
        page.locator(".md-search__input").press_sequentially(question, delay=5)
        page.wait_for_timeout(1500)  # the page searches while one types, and shows the last answer until then
        results = page.locator(".md-search-result__item").all_inner_texts()
        found[question] = [text.strip().splitlines()[0] for text in results[:3]]
    assert {question: title for question, title in ASKED.items() if title not in found[question]} == {}, found


CUT_OFF = """() => {
  const wide = (element) => element.scrollWidth - element.clientWidth > 1;
  const cut = [...document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset__table")].filter(wide);
  return [...(wide(document.documentElement) ? ["the page"] : []), ...cut.map((table) => table.innerText.slice(0, 60))];
}"""
"""What does not fit into the window: the page, or tables by how they begin."""


@pytest.mark.parametrize("width", [390, 1280])
def test_no_table_is_cut_off(width: int, page: Page, site: Path) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    cut: dict[str, list[str]] = {}
    for file in sorted(site.rglob("index.html")):
        if "<table" in file.read_text(encoding="utf-8"):
            page.goto(f"/{file.parent.relative_to(site).as_posix()}/")
            page.wait_for_selector(".md-typeset__table", state="attached")  # the theme wraps tables when it starts
            cut[file.parent.name] = page.evaluate(CUT_OFF)
    assert len(cut) >= 20
    assert {name: found for name, found in cut.items() if found} == {}


def test_a_copy_button_takes_the_commands_and_nothing_else(page: Page) -> None:
    page.goto("/start/")
    copied = []
    for block in page.locator(".highlight:has(.gp)").all():
        block.locator("button").first.click(force=True)
        page.wait_for_timeout(200)
        copied.append(page.evaluate("navigator.clipboard.readText()"))
    assert copied[:2] == ["pip install 'turnguard[sandbox]'", "turnguard sandbox"]
    lines = [line for text in copied for line in text.splitlines() if line]
    assert len(lines) >= 10
    assert not [line for line in lines if line.startswith(("$", "╭", "│", "moderator "))]
