"""The local model beside a real vLLM over the same checkpoint: the same verdicts, P(unsafe) within 0.05.

The model runs in the interpreter that the vLLM tests have torch in; this one only compares.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.local.cases import CASES, exchanges, plain
from turnguard.moderators.base import Deadline
from turnguard.moderators.vllm import VLLMModerator

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def local(vllm_python: Path) -> dict[str, Any]:
    from tests.vllm.server import CHECKPOINT

    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [vllm_python, "-m", "tests.local.judging", CHECKPOINT],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
async def served(vllm_server: str) -> list[dict[str, Any]]:
    moderator = VLLMModerator(f"{vllm_server}/v1")
    found = await asyncio.gather(*(moderator.judge(one, Deadline.after(120.0)) for one in exchanges()))
    await moderator.aclose()
    return [plain(one) for one in found]


def _differences(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[str]:
    found = []
    for case, our, their in zip(CASES, ours, theirs, strict=True):
        apart = [
            a is None or b is None or abs(a - b) > 0.05 for a, b in zip(our["p"], their["p"], strict=True) if a != b
        ]
        if our["raw"] != their["raw"] or any(apart):
            found.append(f"{case}: {our} / {their}")
    return found


def test_the_verdicts_of_a_server(local: dict[str, Any], served: list[dict[str, Any]]) -> None:
    assert _differences(local["together"], served) == []
    assert {label for one in served for label in one["labels"]} == {"safe", "unsafe", None}


def test_alone_or_in_a_batch(local: dict[str, Any]) -> None:
    padded = list(local["together"])
    padded[::4] = local["alone"]
    assert _differences(padded, local["together"]) == []


def test_what_waits_is_batched_and_pictures_apart(local: dict[str, Any]) -> None:
    assert sum(local["sizes"]) == len(CASES)
    assert len(local["sizes"]) <= 4
    assert max(local["sizes"]) > 4


def test_what_does_not_fit_together_is_judged_in_parts(local: dict[str, Any]) -> None:
    assert _differences(local["split"], local["together"]) == []


def test_labels_only(local: dict[str, Any]) -> None:
    assert local["labels"]["raw"] == "User Safety: unsafe"


def test_what_it_says_of_itself(local: dict[str, Any]) -> None:
    with_categories, labels, again = local["identities"]
    assert with_categories == again != labels
    assert local["limit"] == 8192
    assert local["model"] == "nemotron_moderator"


def test_too_long_and_too_late_are_failures(local: dict[str, Any]) -> None:
    assert local["too_long"] == "Rejected: longer than the model's context"
    assert local["no_time"] == "Timeout: the deadline passed"


def test_a_model_that_nobody_waits_for_stops_between_two_tokens(local: dict[str, Any]) -> None:
    found = local["abandoned"]
    assert found["whole"].startswith("Unparseable")  # it ran to its end
    assert found["late"] == "Timeout: no verdict before the deadline"
    assert found["after"]["raw"] == "User Safety: safe"
    assert found["after_seconds"] < found["full"]
