"""Each hole that was found in NeMo Guardrails 0.24.1, by name, and `guarded` closing it: one table.

A hole names content that an engine lets by: the request that carries it, or what the main model says. With unsafe
content nothing of it reaches the main model, the caller or a record; with safe content the turn goes through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from nemoguardrails.actions.rail_outcome import RailOutcome
from nemoguardrails.rails.llm.options import RailStatus

from tests.nemo.guarded_lab import GuardedLab
from tests.nemo.lab import BAD, BLUE, GREEN, OTHER, QUIET, RED, REFUSAL, assistant, called, leaks, noop, result, user

pytestmark = QUIET
Make = Callable[..., GuardedLab]
Message = dict[str, Any]
ASK = user("take a screenshot")
ENGINES = ("IORails", "LLMRails")
RAILS: dict[str, dict[str, Any]] = {
    "input": {"flows": ["other"]},
    "output": {"flows": ["other"], "streaming": {"enabled": True}},
}
PARALLEL = {kind: {**rail, "parallel": True} for kind, rail in RAILS.items()}


def pictured(picture: str) -> list[Message]:
    return [{"type": "image_url", "image_url": {"url": picture}}]


@dataclass(frozen=True)
class Hole:
    """`sent` is the request and `said` the main model's reply, each given unsafe and then safe content.

    `engines` are those that have it. `refused` is what the caller gets for the unsafe one; None where the turn goes on
    without it. `rails` are LLMRails' own, `check`: it is one of `check_async`.
    """

    name: str
    sent: Callable[[str, str], tuple[Message, ...]]
    said: Callable[[str], str | Message] = lambda _text: "fine"
    engines: tuple[str, ...] = ENGINES
    refused: str | None = REFUSAL
    rails: dict[str, Any] = field(default_factory=lambda: RAILS)
    passthrough: bool = True
    check: bool = False
    stream: bool = False


PAST = (ASK, called(), result("a desktop"), assistant("done"))
HOLES = (
    Hole("a past tool call ends the input rails (#1608)", lambda text, _: (*PAST, user(text))),
    Hole("a past tool call ends them in a general prompt", lambda text, _: (*PAST, user(text)), passthrough=False),
    Hole("and in check, which fails open (#2065)", lambda text, _: (*PAST, user(text)), check=True),
    Hole(
        "consecutive user messages, of which the last is judged (#1413)", lambda text, _: (user(text), user("please"))
    ),
    Hole("earlier turns are not judged", lambda text, _: (user(text), assistant("no"), user("and?")), refused=None),
    Hole("nor earlier pictures", lambda _, look: (user("x", look), assistant("no"), user("and?")), refused=None),
    Hole("a parallel rail that stops is followed by the main answer", lambda text, _: (user(text),), rails=PARALLEL),
    Hole("a blocked tool call is returned", lambda *_: (ASK,), lambda text: called(f'{{"cmd": "{text}"}}')),
    Hole("a trailing tool result skips the input rails", lambda text, _: (ASK, called(), result(text))),
    Hole("a tool's picture is never judged", lambda _, look: (ASK, called(), result(pictured(look)))),
    Hole("of several results one is judged", lambda t, _: (ASK, called(), result("ok"), result(t, "c2"))),
    Hole("tool messages in check", lambda _, look: (ASK, called(), result(pictured(look))), check=True),
    Hole(
        "chunks in a context message go past retrieval rails",
        lambda text, _: ({"role": "context", "content": {"relevant_chunks": text}}, user("when?")),
        passthrough=False,
    ),
    Hole("an allowed picture in check is called modified", lambda _, look: (user("look", look),), check=True),
    Hole("a stream shows chunks before they are judged", lambda *_: (user("hi"),), lambda t: f"a b c {t}", stream=True),
    Hole(
        "parallel rails let a failing stream go on",
        lambda *_: (user("hi"),),
        lambda t: f"a b {t}",
        stream=True,
        rails=PARALLEL,
    ),
    Hole("after a tool result the output is judged alone", lambda *_: (ASK, called(), result("x")), lambda text: text),
    Hole("reasoning is shown", lambda *_: (user("hi"),), lambda t: {**assistant("fine"), "reasoning_content": t}),
    Hole("exceptions mode makes check raise", lambda text, _: (user(text),), check=True),
)


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("hole", HOLES, ids=lambda hole: hole.name)
async def test_a_hole_is_closed(hole: Hole, kind: str, lab: Make) -> None:
    for unsafe in (True, False):
        text, look = (f"a {BAD} of it", RED) if unsafe else ("a nice cup of tea", BLUE)
        llmrails: dict[str, Any] = {"colang": OTHER, "rails": hole.rails, "passthrough": hole.passthrough}
        if "exceptions" in hole.name:
            llmrails["enable_rails_exceptions"] = True
        made = lab(kind, hole.said(text), **(llmrails if kind == "LLMRails" else {}))
        if kind == "LLMRails":
            made.engine.register_action(noop, "noop")
        messages = list(hole.sent(text, look))
        got: Any
        if hole.check:
            got = await made.engine.check_async(messages)
            expected = (RailStatus.BLOCKED, REFUSAL) if unsafe else (RailStatus.PASSED, got.content)
            assert (got.status, got.content) == expected
            continue
        if hole.stream:
            got = await made.stream(*messages)
            assert got[-1] == REFUSAL if unsafe else "tea" in "".join(got)
        else:
            answer = await made.say(*messages)
            got = answer["content"]
            assert (got == hole.refused) if unsafe and hole.refused else (got != REFUSAL)
            assert not unsafe or hole.refused is None or not answer.get("tool_calls")
        assert not unsafe or not leaks(repr(got) + made.seen)


async def test_equal_texts_with_other_pictures_share_no_past(lab: Make) -> None:
    made = lab("LLMRails", colang=OTHER, rails=RAILS)
    made.engine.register_action(noop, "noop")
    for picture in (BLUE, GREEN, RED):
        answer = await made.say(user("look", picture), assistant("fine"), user("sure?"))
        assert answer == assistant("fine")
        assert (picture in made.prompts[-1].__repr__()) is (picture != RED)


async def test_a_rail_of_the_engines_that_raises_blocks(lab: Make) -> None:
    made = lab("LLMRails", colang=OTHER, rails=RAILS)

    async def fails(**_context: Any) -> RailOutcome:
        raise RuntimeError("broken")

    made.engine.register_action(fails, "noop")
    assert (await made.say(user("hi")))["content"] == "I'm sorry, an internal error has occurred."
    assert made.prompts == []
