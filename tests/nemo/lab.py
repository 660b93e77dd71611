"""A NeMo app with a scripted moderator and a main model that keeps every prompt it was sent."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

import pytest
from nemoguardrails import LLMRails, RailsConfig
from nemoguardrails.actions.rail_outcome import RailOutcome
from nemoguardrails.testing import FakeLLMModel
from nemoguardrails.types import LLMResponse, ToolCall, ToolCallFunction
from PIL import Image as Pictures

from turnguard import Guard, Policy, Verdict
from turnguard.config.settings import ChecksSettings, StreamSettings
from turnguard.core.exchange import Exchange
from turnguard.core.step import STAGES, Stage
from turnguard.core.verdict import Label
from turnguard.nemo import checked_rails
from turnguard.testing import FakeModerator

QUIET = pytest.mark.filterwarnings("ignore:Use 'nim_[a-z_]+' instead:DeprecationWarning")
"""NeMo's own reading of any configuration warns of fields of its own."""

BAD = "BOMB"
UNSAFE = {BAD: ("Violence",), "4111-1111": ("PII/Privacy",), "drat": ("Profanity",), "hmm": ("Needs Caution",)}
REFUSAL = "NO WAY"
POLICY: Mapping[str, Any] = {
    "categories": {
        "PII/Privacy": {"action": "rewrite", "with": "redact"},
        "Profanity": "flag",
        "Needs Caution": "review",
    },
    "messages": {"default": {"en": REFUSAL}, "Violence": {"en": REFUSAL}},
}
Message = dict[str, Any]


def picture(colour: str) -> str:
    """A small picture with some detail, as a data URI; a red one is unsafe."""
    image = Pictures.new("RGB", (64, 64), colour)
    for at in range(0, 64, 4):
        image.putpixel((at, at), (255, 255, 255))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


RED, BLUE, GREEN = picture("red"), picture("blue"), picture("lime")


def colour(exchange: Exchange) -> str | None:
    """What the moderator was shown: one of our pictures by its colour, else "page", a document's; None without any."""
    if exchange.picture is None:
        return None
    image = Pictures.open(io.BytesIO(exchange.picture.data)).convert("RGB")
    if image.width != 64:
        return "page"
    pixel = image.getpixel((image.width // 2, image.height // 2 + 2))
    assert isinstance(pixel, tuple)
    return ("red", "green", "blue")[max(range(3), key=lambda channel: pixel[channel])]


def sees(exchange: Exchange) -> Verdict | None:
    """Unsafe by picture; None leaves it to the words."""
    if colour(exchange) != "red":
        return None
    response: Label | None = None
    if exchange.response is not None:
        response = "unsafe" if BAD in exchange.response else "safe"
    return Verdict("unsafe", response, ("Violence",), p_user=0.98, p_response=None if response is None else 0.02)


class Main(FakeLLMModel):  # type: ignore[misc] # NeMo is not typed for us
    """The main model: what it says is scripted, what it was sent is kept."""

    def __init__(self, *replies: str | LLMResponse, chunks: Sequence[str] | None = None) -> None:
        made = [LLMResponse(content=reply) if isinstance(reply, str) else reply for reply in replies]
        super().__init__(llm_responses=made * 100)
        self.prompts: list[Any] = []

    async def generate_async(self, prompt: Any, **options: Any) -> LLMResponse:
        self.prompts.append(prompt)
        return await super().generate_async(prompt, **options)

    async def stream_async(self, prompt: Any, **options: Any) -> AsyncIterator[Any]:
        self.prompts.append(prompt)
        async for chunk in super().stream_async(prompt, **options):
            yield chunk

    @property
    def seen(self) -> str:
        """Everything that was sent to the main model, as one text."""
        return repr(self.prompts)

    @property
    def last(self) -> list[tuple[str, Any]]:
        """Role and content of the last prompt's messages."""
        prompt = self.prompts[-1]
        return [(message.role.value, message.content) for message in prompt] if isinstance(prompt, list) else prompt


def call(name: str = "shot", arguments: Mapping[str, Any] | None = None, id: str = "c1") -> LLMResponse:  # noqa: A002
    """A reply of the main model that calls a tool."""
    function = ToolCallFunction(name=name, arguments=dict(arguments or {}))
    return LLMResponse(content="", tool_calls=[ToolCall(id=id, type="function", function=function)])


def called(arguments: str = "{}", id: str = "c1", name: str = "shot") -> Message:  # noqa: A002
    """An assistant message that called a tool."""
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": id, "type": "function", "function": function}]}


def result(content: Any, id: str = "c1") -> Message:  # noqa: A002
    """A tool's result."""
    return {"role": "tool", "tool_call_id": id, "name": "shot", "content": content}


def user(text: str, *images: str) -> Message:
    """A user's message, with pictures if there are any."""
    if not images:
        return {"role": "user", "content": text}
    blocks: list[Any] = [{"type": "text", "text": text}]
    blocks += [{"type": "image_url", "image_url": {"url": url}} for url in images]
    return {"role": "user", "content": blocks}


def assistant(text: str) -> Message:
    """An answer."""
    return {"role": "assistant", "content": text}


async def noop(**_context: Any) -> RailOutcome:
    """An action that does nothing, for another rail beside ours."""
    return RailOutcome.allow()


OTHER = "define flow other\n  $nothing = execute noop\n"
"""Another rail."""


class Lab:
    """`rails` is the app under test, `main` its main model, `moderator` what Turnguard asks."""

    def __init__(
        self,
        *replies: str | LLMResponse,
        stages: Collection[Stage] = STAGES,
        policy: Mapping[str, Any] = POLICY,
        passthrough: bool = True,
        parallel: bool = False,
        streaming: bool = True,
        colang: str | None = None,
        rails: Mapping[str, Any] | None = None,
        keeps: bool = False,
        window: int = 12,
        trusted: tuple[str, ...] = ("system", "developer"),
        **settings: Any,
    ) -> None:
        self.main = Main(*(replies or ("fine",)))
        self.moderator = FakeModerator(UNSAFE, script=sees)
        self.guard = Guard(
            Policy.from_dict(policy),
            self.moderator,
            stream=StreamSettings(window=window),
            checks=ChecksSettings(trusted_roles=trusted),
        )
        configured: dict[str, Any] = {
            "input": {"parallel": parallel},
            "output": {"parallel": parallel, "streaming": {"enabled": streaming}},
        }
        for kind, given in (rails or {}).items():
            configured[kind] = {**configured.get(kind, {}), **given}
        if keeps:  # only where a flow may look back are the events of past turns kept
            colang = (colang or "") + "define flow looking back\n  event Never\n  bot say never\n"
        unused = {"turnguard": {"moderator": {"base_url": "http://127.0.0.1:9/v1"}}}
        yaml = {"models": [], "custom_data": unused, "passthrough": passthrough, "rails": configured, **settings}
        # JSON is YAML
        config = RailsConfig.from_content(colang_content=colang, yaml_content=json.dumps(yaml))
        self.rails: LLMRails = checked_rails(config, self.guard, stages=stages, llm=self.main)
        self.rails.register_action(noop, "noop")

    async def say(self, *messages: Message, **options: Any) -> Any:
        """One turn through `generate_async`."""
        return await self.rails.generate_async(messages=list(messages), **options)

    async def stream(self, *messages: Message, **options: Any) -> list[Any]:
        """One turn through `stream_async`."""
        return [chunk async for chunk in self.rails.stream_async(messages=list(messages), **options)]

    @property
    def asked(self) -> list[tuple[str, str | None, bool]]:
        """What the moderator was asked: prompt, response, whether with a picture."""
        return [(each.prompt, each.response, each.picture is not None) for each in self.moderator.asked]


def leaks(value: Any) -> bool:
    """Whether unsafe text or the unsafe picture stands anywhere in it."""
    text = value if isinstance(value, str) else repr(value)
    return BAD in text or RED[30:] in text
