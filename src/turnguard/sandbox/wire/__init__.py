"""vLLM's wire format, server side: one source for the sandbox and for `turnguard.testing.FakeVLLM`."""

from turnguard.sandbox.wire.endpoints import CHAT_PATH, Counters, ServerInfo, authorise, route
from turnguard.sandbox.wire.errors import WireError
from turnguard.sandbox.wire.reply import Completion, complete
from turnguard.sandbox.wire.request import ChatRequest, check_image, count_tokens, parse_chat
from turnguard.sandbox.wire.voices import Answer, Label, render

__all__ = [
    "CHAT_PATH",
    "Answer",
    "ChatRequest",
    "Completion",
    "Counters",
    "Label",
    "ServerInfo",
    "WireError",
    "authorise",
    "check_image",
    "complete",
    "count_tokens",
    "parse_chat",
    "render",
    "route",
]
