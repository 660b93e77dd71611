"""`turnguard doctor` proves that verdicts are shared where the YAML says so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scale.conftest import KEY, Store
from turnguard.config.document import from_dict
from turnguard.doctor.examining import examine
from turnguard.doctor.findings import Finding
from turnguard.testing import FakeVLLM


async def found(url: str, fake: FakeVLLM) -> Finding | None:
    settings: dict[str, Any] = {"moderator": {"base_url": fake.base_url}, "memory": {"url": url, "key": KEY}}
    (examination,) = (await examine(from_dict(settings, {}), accept_sandbox=True)).examinations
    return next((finding for finding in examination.findings if finding.canary == "shared_memory"), None)


async def test_a_store_that_works(store: Store) -> None:
    with FakeVLLM() as fake:
        finding = await found(store.url, fake)
    assert finding is not None
    assert finding.status in ("ok", "note")  # a note where this machine is slow


@pytest.mark.parametrize("why", ["down", "another password"])
async def test_a_store_that_does_not(store: Store, why: str) -> None:
    url = store.url.replace("a%20password", "wrong")
    if why == "down":
        store.kill()
        url = store.url
    with FakeVLLM() as fake:
        finding = await found(url, fake)
    assert finding is not None
    assert (finding.status, finding.change is not None) == ("failed", True)
    assert "password%20of" not in f"{finding.what} {finding.change}"
