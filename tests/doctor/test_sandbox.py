"""The doctor against the sandbox, which judges by itself: nothing is scripted."""

from __future__ import annotations

import pytest

from tests.doctor.conftest import Examine
from turnguard.sandbox import Sandbox
from turnguard.sandbox.ocr import available

pytestmark = pytest.mark.skipif(not available(), reason="the sandbox reads pictures with the sandbox extra")


async def test_the_sandbox_is_told_from_the_model(examined: Examine) -> None:
    with Sandbox(announce=lambda _line: None) as sandbox:
        await examined(base_url=sandbox.base_url, accept_sandbox=True)  # the first run loads the OCR
        found = await examined(base_url=sandbox.base_url)
        assert found.failed == {"model"}
        assert "This is the sandbox, not the Nemotron model" in found.named("model")
        assert found.report.exit_code == 1
        accepted = await examined(base_url=sandbox.base_url, accept_sandbox=True)
    assert "This is the sandbox" in accepted.named("model", "note")
    assert {name: finding for name, finding in accepted.by_name.items() if finding.status not in ("ok", "note")} == {}
    assert accepted.report.exit_code == 0
