"""The public API as a user's type checker sees it. Never run: `mypy --strict` reads it; `assert_type` is the test."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Mapping
from pathlib import Path
from typing import Any, assert_type

from PIL.Image import Image as PillowImage

import turnguard
from turnguard import (
    Blocked,
    ConfigError,
    Coverage,
    Decision,
    Document,
    Guard,
    Image,
    ModeratorError,
    Policy,
    Review,
    Step,
    Text,
    Timeout,
    ToolCall,
    TurnguardError,
    Unavailable,
    Verdict,
)
from turnguard.core.action import Action
from turnguard.core.decision import Reason
from turnguard.core.review import Status
from turnguard.core.step import Part
from turnguard.core.verdict import Failure, Label
from turnguard.testing import FakeModerator, FakeVLLM


async def reviewing(guard: Guard, decision: Decision) -> None:
    assert_type(decision.review_id, str | None)
    if decision.review_id is not None:
        assert_type(await guard.areview(decision.review_id, timeout=60.0), Review)
        review = guard.review(decision.review_id)
        assert_type(review.status, Status)
        assert_type(review.by, str | None)
        assert_type(review.content, tuple[Part, ...])
        assert_type(await guard.reviews.approve(review.id, by="Anna", note="why"), Review)
        assert_type(await guard.reviews.find("waiting", tenant="acme"), list[Review])


async def judging(guard: Guard, png: bytes, path: Path, picture: PillowImage) -> None:
    assert_type(await guard.acheck(Step.input("text", images=[png])), Decision)
    assert_type(guard.check(Step.output("said", prompt="asked", prompt_images=[path])), Decision)
    assert_type(await guard.acheck_messages([{"role": "user", "content": "hello"}]), list[Decision])
    assert_type(await guard.acheck(Step.input("text"), policy="team-a"), Decision)
    assert_type(guard.policies, Mapping[str, Policy])
    decision = guard.check(Step.input("text"), policy=None)
    if decision.shadow is not None:
        assert_type(decision.shadow.action, Action)
        assert_type(decision.shadow.reasons, tuple[Reason, ...])
    guard.reload()
    assert_type(Step.retrieval(["one", "two"], prompt="asked"), Step)
    assert_type(Step.tool_call("pay", {"to": "Bob"}, prompt="asked", language="de"), Step)
    assert_type(
        Step.tool_result("browse", "page", images=["data:image/png;base64,", picture, path], documents=[png]), Step
    )


async def making(path: os.PathLike[str], moderator: FakeModerator, settings: Mapping[str, Any]) -> None:
    assert_type(Guard.from_yaml("turnguard.yaml"), Guard)
    assert_type(Guard.from_yaml(path), Guard)
    assert_type(Guard.from_dict(settings), Guard)
    assert_type(Policy.from_dict({"default": "block"}), Policy)
    async with Guard(policy=Policy.from_dict({}), moderator=moderator) as guard:
        assert_type(guard, Guard)
        await guard.aclose()
    with FakeVLLM() as fake:
        assert_type(fake.base_url, str)


async def streaming(guard: Guard, chunks: AsyncIterable[str]) -> None:
    stream = guard.astream(chunks, prompt="asked")
    async for chunk in stream:
        assert_type(chunk, str)
    assert_type(stream.decision, Decision | None)


def deciding(decision: Decision) -> None:
    assert_type(decision.action, Action)
    assert_type(decision.failed, bool)
    assert_type(decision.content, tuple[Part, ...])
    assert_type(decision.held, tuple[Part, ...])
    assert_type(decision.message, str | None)
    assert_type(decision.verdict, Verdict)
    assert_type(decision.verdict.user, Label | None)
    assert_type(decision.verdict.p_unsafe, float | None)
    assert_type(decision.verdict.failure, Failure | None)
    assert_type(decision.reasons, tuple[Reason, ...])
    assert_type(decision.escalates, bool)
    assert_type(decision.remembered, bool)
    assert_type(decision.coverage, Coverage)
    assert_type(decision.where, tuple[int, int] | None)
    assert_type(decision.to_dict(content=True), dict[str, Any])
    for part in decision.content:
        if isinstance(part, Text):
            assert_type(part.text, str)
        elif isinstance(part, ToolCall):
            assert_type(part.name, str)
        elif isinstance(part, (Image, Document)):
            assert_type(part.media_type, str | None)


def errors(guard: Guard, step: Step) -> None:
    try:
        guard.check(step)
    except Blocked as blocked:
        assert_type(blocked.decision, Decision)
    except (Unavailable, Timeout) as error:
        assert_type(error.cause, str)
    except ModeratorError as error:
        assert_type(error.failure, Failure)
    except ConfigError as error:
        assert_type(error.problems, tuple[str, ...])
    except TurnguardError:
        assert_type(turnguard.__version__, str)
