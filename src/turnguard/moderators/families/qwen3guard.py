"""Qwen3Guard-Gen: the server's own template holds the policy, and the reply is two lines, or three about a response.

Request: the conversation as messages; the model rates the last one, so a response gets the one label, and its prompt
none. Reply (the repository's README):

    Safety: Safe|Unsafe|Controversial
    Categories: None | name(, name)*
    Refusal: Yes|No                      only when an assistant turn was sent

`Controversial` is "content whose harmfulness may be context-dependent": what it counts as is the settings' choice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from turnguard.core.errors import Rejected, Unparseable
from turnguard.core.exchange import Exchange
from turnguard.core.families import FAMILIES
from turnguard.core.neutralise import neutralise
from turnguard.core.taxonomy import folded
from turnguard.core.verdict import Label, Verdict
from turnguard.moderators.families.asking import Asking
from turnguard.moderators.families.nemotron3 import NO_REQUEST
from turnguard.moderators.families.reading import Body, Reply, greedy, listed, odds, one_label, p_unsafe, said

VERSION = "1"
MAX_TOKENS = 128
"""As in the makers' own example."""

_NATIVE = {folded(name): name for name in FAMILIES["qwen3guard"].categories}
_NATIVE[folded("Personally Identifiable Information")] = "PII"  # the policy's name for it; the model writes PII
_LABEL = re.compile(r"\s*(safety)\s*:\s*", re.IGNORECASE)
_WORDS = ("safe", "unsafe", "controversial")


def requests(exchange: Exchange, asking: Asking) -> list[Body]:
    """The body of `POST /v1/chat/completions` for this exchange."""
    if exchange.picture is not None or exchange.own is not None:
        raise Rejected("the family qwen3guard takes neither pictures nor categories of one's own")
    text = neutralise(exchange.prompt)
    messages: list[dict[str, Any]] = [{"role": "user", "content": text if text.strip() else NO_REQUEST}]
    if exchange.response is not None:
        messages.append({"role": "assistant", "content": neutralise(exchange.response)})
    return [greedy(messages, asking, MAX_TOKENS)]


def verdict(replies: Sequence[Reply], exchange: Exchange, asking: Asking) -> Verdict:
    """Read a reply. Raises `Unparseable` for whatever is not exactly a verdict; never guesses safe."""
    answer = said(replies[0])
    lines = _lines(answer.text)
    word, listing = lines.get("safety", "").casefold(), lines.get("categories")
    if word not in _WORDS or listing is None:
        raise Unparseable("no line of safety, or none of categories")
    refusal = lines.get("refusal")
    if (refusal is None) != (exchange.response is None):
        raise Unparseable("a refusal line where none was asked for, or none where one was")
    if refusal is not None and refusal.casefold() not in ("yes", "no"):
        raise Unparseable("a refusal that is neither yes nor no")
    none = listing.casefold() == "none"
    if word == "safe" and not none:
        raise Unparseable("categories of something safe")
    unsafe = ("unsafe",) if asking.controversial == "safe" else ("unsafe", "controversial")
    label: Label = "unsafe" if word in unsafe else "safe"
    wanted = label == "unsafe" and asking.categories and not none
    native, unknown = listed(listing.split(","), lambda name: _NATIVE.get(folded(name))) if wanted else ((), ())
    p = p_unsafe(odds(answer.tokens, _LABEL, _WORDS).get("safety"), word, unsafe)
    return one_label(answer, exchange, label, p, FAMILIES["qwen3guard"], native, unknown)


def _lines(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.replace("\r\n", "\n").split("\n"):
        if not line.strip():
            continue
        key, colon, value = line.partition(":")
        key = key.strip().casefold()
        if not colon or key not in ("safety", "categories", "refusal") or key in found:
            raise Unparseable("a line that is not part of a verdict, or is given twice")
        found[key] = value.strip()
    return found
