"""Where undisguising reaches one of its bounds, coverage says so, and a rule decides."""

from __future__ import annotations

import base64
import gzip

import pytest

from turnguard import Guard, Policy, Step
from turnguard.testing import FakeModerator


def nested(times: int) -> str:
    """A letter that is percent-encoded so many times."""
    return f"where does the %{'25' * times}74rain leave?"


BOMB = base64.b64encode(gzip.compress(b"a harmless line of text, again and again.\n" * 500_000)).decode()


@pytest.mark.parametrize(("text", "bound"), [(nested(40), "rounds"), (f"see {BOMB}", "size")], ids=["rounds", "size"])
async def test_a_reached_bound_stands_in_coverage_with_its_cause(text: str, bound: str) -> None:
    async with Guard(moderator=FakeModerator()) as guard:
        decision = await guard.acheck(Step.input(text))
        result = await guard.acheck(Step.tool_result("read", text))
    for each in (decision, result):
        assert f"undisguising reached its bound ({bound})" in {entry.cause for entry in each.coverage.not_judged}
        assert (each.action, each.failed, each.coverage.complete) == ("block", False, False)


async def test_a_rule_may_let_it_pass() -> None:
    policy = Policy.from_dict({"on_uncheckable": {"text": "flag"}})
    async with Guard(policy, FakeModerator()) as guard:
        assert (await guard.acheck(Step.input(nested(40)))).action == "flag"
        assert (await guard.acheck(Step.input(nested(3)))).action == "allow"
