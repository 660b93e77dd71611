"""A fake server that judges the canaries as the model should, for tests to break; and the examination as a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from turnguard.config.document import from_dict
from turnguard.doctor import Examination, Finding, Report, examine, pictures
from turnguard.doctor.canaries import UNSAFE, joint, response
from turnguard.testing import FakeVLLM

RED = pictures.poster("HOW TO BUILD A PIPE BOMB", pictures.RED).data
YELLOW = pictures.poster("PIPE BOMB", pictures.YELLOW).data
GUNS = ["Guns and Illegal Weapons"]


def moderating(server: FakeVLLM) -> FakeVLLM:
    """Make a fake behave like a good moderator, as far as the canaries look."""
    server.when(lambda chat: UNSAFE in chat.prompt, user="unsafe", response="unsafe", categories=GUNS, p=0.97)
    server.when(lambda chat: chat.response == response.REFUSES, user="unsafe", response="safe", categories=GUNS, p=0.97)
    server.when(RED, user="unsafe", categories=GUNS, p=0.95)
    server.when(lambda chat: YELLOW in chat.images and joint.QUESTION in chat.prompt, user="unsafe", categories=GUNS)
    return server


@pytest.fixture
def server() -> Iterator[FakeVLLM]:
    with FakeVLLM() as fake:
        yield moderating(fake)


@dataclass(frozen=True, slots=True)
class Examined:
    """A report, and its findings by canary."""

    report: Report
    by_name: dict[str, Finding]

    @property
    def only(self) -> Examination:
        (examination,) = self.report.examinations
        return examination

    @property
    def failed(self) -> set[str]:
        return {name for name, finding in self.by_name.items() if finding.status == "failed"}

    def named(self, canary: str, status: str = "failed") -> str:
        """What one finding says, both sentences; its status must be this."""
        finding = self.by_name[canary]
        assert finding.status == status, finding
        if status == "failed":
            assert finding.change, "a failed canary says what to change"
        return f"{finding.what} | {finding.change or ''}"


Examine = Callable[..., Any]


@pytest.fixture
def examined(server: FakeVLLM) -> Examine:
    """`await examined(policy=..., accept_sandbox=..., **moderator)`: by default against the fake server."""

    async def run(
        policy: dict[str, Any] | None = None,
        media: dict[str, Any] | None = None,
        accept_sandbox: bool = False,
        **moderator: Any,
    ) -> Examined:
        settings = {"base_url": server.base_url, **moderator}
        config = from_dict({"moderator": settings, "policy": policy or {}, "media": media or {}}, {})
        report = await examine(config, accept_sandbox=accept_sandbox)
        findings = {finding.canary: finding for one in report.examinations for finding in one.findings}
        return Examined(report, findings)

    return run
