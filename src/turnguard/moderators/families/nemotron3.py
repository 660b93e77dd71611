"""Nemotron 3 Content Safety: exchange → chat-completions body, reply → verdict.

Request: one user turn (image part before text part: the other order makes vLLM answer 500 for some templates),
optionally one assistant turn, and `chat_template_kwargs` at the body's top level. Reply, strictly by line (model card):

    User Safety: safe|unsafe
    Response Safety: safe|unsafe        only when an assistant turn was sent
    Safety Categories: name(, name)*    only when something is unsafe and categories were asked for
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from turnguard.core.errors import Rejected, Unparseable
from turnguard.core.exchange import Exchange
from turnguard.core.neutralise import neutralise
from turnguard.core.taxonomy import canonical
from turnguard.core.verdict import Label, Verdict
from turnguard.moderators.families.asking import Asking
from turnguard.moderators.families.reading import TOP_LOGPROBS, Body, Reply, labelled, said

VERSION = "2"
FILLER = "Describe this image."
"""Sent beside an image that came without text: an image alone is refused by some servers (NIM answers 500)."""
NO_REQUEST = "(no user message)"
"""Sent as the user turn of a response whose request is not known."""

LABEL = re.compile(r"\s*((?:user|response)\s+safety)\s*:\s*", re.IGNORECASE)


def requests(exchange: Exchange, asking: Asking) -> list[Body]:
    """The body of `POST /v1/chat/completions` for this exchange."""
    if exchange.own is not None:
        raise Rejected("the family nemotron-3 takes no categories of one's own")
    # the labels take 5 tokens a line (recorded usage); the card allows 100 with categories
    tokens = 100 if asking.categories else 12 if exchange.response is None else 24
    return [body(exchange, asking, tokens)]


def body(exchange: Exchange, asking: Asking, max_tokens: int) -> Body:
    """What all Nemotrons that have a chat template of their own are asked with."""
    text = neutralise(exchange.prompt)
    content: Any = text if text.strip() else NO_REQUEST
    if exchange.picture is not None:
        # a newline straight after the image token can make vLLM 0.32 lose the image (500, gemma3_mm.py): text begins
        # with text
        content = [
            {"type": "image_url", "image_url": {"url": exchange.picture.data_uri}},
            {"type": "text", "text": text.lstrip() or FILLER},
        ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if exchange.response is not None:
        messages.append({"role": "assistant", "content": neutralise(exchange.response)})
    return {
        "messages": messages,
        "model": asking.model,
        "temperature": 0.0,
        "max_tokens": max_tokens,
        "logprobs": True,
        "top_logprobs": TOP_LOGPROBS,
        "chat_template_kwargs": {"request_categories": "/categories" if asking.categories else "/no_categories"},
    }


def verdict(replies: Sequence[Reply], exchange: Exchange, _asking: Asking) -> Verdict:
    """Read a reply. Raises `Unparseable` for whatever is not exactly a verdict; never guesses safe."""
    answer = said(replies[0])
    return labelled(answer, *lines(answer.text), exchange, canonical, LABEL)


def lines(text: str) -> tuple[dict[str, Label], str | None]:
    """The labels of a reply, and its list of categories."""
    labels: dict[str, Label] = {}
    names: str | None = None
    for line in text.replace("\r\n", "\n").split("\n"):
        if not line.strip():
            continue
        key, colon, value = line.partition(":")
        key = " ".join(key.split()).casefold()
        if colon and key in ("user safety", "response safety"):
            label = value.strip().casefold()
            if key in labels:
                raise Unparseable(f"the {key} line is given twice")
            if label == "safe":
                labels[key] = "safe"
            elif label == "unsafe":
                labels[key] = "unsafe"
            else:
                raise Unparseable(f"the {key} label is neither safe nor unsafe")
        elif colon and key == "safety categories":
            if names is not None:
                raise Unparseable("the safety categories line is given twice")
            names = value
        else:
            raise Unparseable("a line that is not part of a verdict")
    return labels, names
