"""docs/faults.md is current."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.faults import page


@pytest.mark.skipif(
    find_spec("langchain") is None or find_spec("nemoguardrails") is None, reason="the page names every surface"
)
def test_the_generated_page_is_current() -> None:
    assert page.DOCUMENT.read_text(encoding="utf-8") == page.document(), "run `make docs-tables`"
