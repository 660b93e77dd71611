"""Llama Guard 4: the server's own template holds the policy, and the reply is a word and a line of codes.

Request: the conversation as messages; the model rates the last one, so a response gets the one label, and its prompt
none. Reply (Meta's model card and prompt format):

    safe                  or    unsafe
                                S1,S9

with empty lines before it from some servers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from turnguard.core.errors import Rejected, Unparseable
from turnguard.core.exchange import Exchange
from turnguard.core.families import FAMILIES
from turnguard.core.neutralise import neutralise
from turnguard.core.verdict import Label, Verdict
from turnguard.moderators.families.asking import Asking
from turnguard.moderators.families.nemotron3 import FILLER, NO_REQUEST
from turnguard.moderators.families.reading import Body, Reply, greedy, listed, odds, one_label, p_unsafe, said

VERSION = "1"
MAX_TOKENS = 64
"""The word, and fourteen codes with their commas."""

_CODE = re.compile(r"S\d{1,2}", re.IGNORECASE)
_NATIVE = {name.partition(":")[0]: name for name in FAMILIES["llama-guard-4"].categories}
_LABEL = re.compile(r"()\s*")
_WORDS: tuple[Label, ...] = ("safe", "unsafe")


def requests(exchange: Exchange, asking: Asking) -> list[Body]:
    """The body of `POST /v1/chat/completions` for this exchange."""
    if exchange.own is not None:
        raise Rejected("the family llama-guard-4 takes no categories of one's own")
    text = neutralise(exchange.prompt)
    content: Any = text if text.strip() else NO_REQUEST
    if exchange.picture is not None:
        content = [
            {"type": "image_url", "image_url": {"url": exchange.picture.data_uri}},
            {"type": "text", "text": text if text.strip() else FILLER},
        ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if exchange.response is not None:
        messages.append({"role": "assistant", "content": neutralise(exchange.response)})
    return [greedy(messages, asking, MAX_TOKENS)]


def verdict(replies: Sequence[Reply], exchange: Exchange, asking: Asking) -> Verdict:
    """Read a reply. Raises `Unparseable` for whatever is not exactly a verdict; never guesses safe."""
    answer = said(replies[0])
    lines = [line.strip() for line in answer.text.replace("\r\n", "\n").split("\n")]
    word, codes = lines[0].casefold(), lines[1:]
    label: Label
    if word == "safe" and not codes:
        label = "safe"
    elif word == "unsafe" and len(codes) < 2:
        label = "unsafe"
    else:
        raise Unparseable("neither safe, nor unsafe and a line of categories")
    names = [code.strip() for code in codes[0].split(",")] if codes else []
    if not all(_CODE.fullmatch(name) for name in names):
        raise Unparseable("a category that is not a code")
    native, unknown = listed(names, lambda code: _NATIVE.get(code.upper())) if asking.categories else ((), ())
    p = p_unsafe(odds(answer.tokens, _LABEL, _WORDS).get(""), label)
    return one_label(answer, exchange, label, p, FAMILIES["llama-guard-4"], native, unknown)
