"""The site: built without the network, nothing in it comes from elsewhere, and every link leads somewhere."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is in the group docs")


def test_every_page_is_there(site: Path) -> None:
    for name in ("", "start", "policy", "nemo", "langchain", "operate", "reference"):
        assert (site / name / "index.html").is_file(), name


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|link)\b[^>]*?(?:src|href)="(https?:[^"]+)"', text)
        assert [url for url in loaded if not url.startswith("https://github.com/turnguard/")] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?https?:", sheet.read_text(encoding="utf-8")), sheet


def test_the_reference_names_what_is_public(site: Path) -> None:
    import turnguard

    text = (site / "reference" / "index.html").read_text(encoding="utf-8")
    for name in turnguard.__all__:
        if name != "__version__":
            assert re.search(rf'id="turnguard\.(?:[a-z_]+\.)*{name}"', text), name
