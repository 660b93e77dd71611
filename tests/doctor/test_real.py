"""The doctor against a real vLLM that serves the tiny moderator: nothing is scripted, and the wire is the real one."""

from __future__ import annotations

import pytest

from tests.doctor.conftest import Examine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(360)]


async def test_a_right_set_up(vllm_server: str, examined: Examine) -> None:
    await examined(base_url=f"{vllm_server}/v1")  # the first requests of a fresh server are slow
    found = await examined(base_url=f"{vllm_server}/v1", max_input_tokens=1000)
    assert found.failed == set(), found.by_name
    told = {name for name, finding in found.by_name.items() if finding.status == "ok"}
    assert told >= {"answers", "judges", "categories", "logprobs", "pictures", "picture_size", "picture_limit"}
    assert told >= {"response", "control_tokens", "context"}
    assert found.report.exit_code == 0
    assert found.report.seconds < 10


async def test_another_name(vllm_server: str, examined: Examine) -> None:
    assert "it serves nemotron_moderator" in (await examined(base_url=f"{vllm_server}/v1", model="other")).named(
        "model"
    )
