"""Nemotron 3 Content Safety: exchange → chat-completions body, reply → verdict.

Request: one user turn (image part before text part: the other order makes vLLM answer 500 for some templates),
optionally one assistant turn, and `chat_template_kwargs` at the body's top level. Reply, strictly by line (model card):

    User Safety: safe|unsafe
    Response Safety: safe|unsafe        only when an assistant turn was sent
    Safety Categories: name(, name)*    only when something is unsafe and categories were asked for
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from turnguard.core.errors import Unparseable
from turnguard.core.exchange import Exchange
from turnguard.core.taxonomy import canonical
from turnguard.core.verdict import Label, Verdict
from turnguard.moderators.families.neutralise import neutralise

VERSION = "1"
TOP_LOGPROBS = 5
FILLER = "Describe this image."
"""Sent beside an image that came without text: an image alone is refused by some servers (NIM answers 500)."""
NO_REQUEST = "(no user message)"
"""Sent as the user turn of a response whose request is not known."""

_MAX_NAME = 80
_MAX_NAMES = 48


def request(exchange: Exchange, model: str, categories: bool) -> dict[str, Any]:
    """The body of `POST /v1/chat/completions` for this exchange."""
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
        "model": model,
        "temperature": 0.0,
        "max_tokens": _max_tokens(exchange, categories),
        "logprobs": True,
        "top_logprobs": TOP_LOGPROBS,
        "chat_template_kwargs": {"request_categories": "/categories" if categories else "/no_categories"},
    }


def _max_tokens(exchange: Exchange, categories: bool) -> int:
    """The labels take 5 tokens a line (recorded usage); the card allows 100 with categories. Too few would be
    unparseable.
    """
    if categories:
        return 100
    return 12 if exchange.response is None else 24


def verdict(reply: Mapping[str, Any], exchange: Exchange) -> Verdict:
    """Read a chat-completions reply. Raises `Unparseable` for whatever is not exactly a verdict; never guesses safe."""
    choice = _choice(reply)
    text = _content(choice)
    labels, names = _lines(_without_reasoning(text))
    user = labels.get("user safety")
    response = labels.get("response safety")
    if user is None:
        raise Unparseable("no user label")
    if exchange.response is None and response is not None:
        raise Unparseable("a response label that was not asked for")
    if exchange.response is not None and response is None:
        raise Unparseable("no response label")
    known, unknown = _names(names) if "unsafe" in (user, response) else ((), ())
    p = _probabilities(choice)
    return Verdict(
        user=user,
        response=response,
        categories=known,
        unknown_categories=unknown,
        p_user=_consistent(p.get("user safety"), user),
        p_response=_consistent(p.get("response safety"), response),
        raw=text,
        model=model[:_MAX_NAME] if isinstance(model := reply.get("model"), str) else None,
        tokens=_tokens(reply.get("usage")),
    )


def _tokens(usage: Any) -> tuple[int, int] | None:
    if not isinstance(usage, Mapping):
        return None
    asked, said = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (asked, said) if isinstance(asked, int) and isinstance(said, int) else None


def _choice(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = reply.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], Mapping):
        raise Unparseable("the reply holds no single choice")
    choice: Mapping[str, Any] = choices[0]
    reason = choice.get("finish_reason")
    if reason != "stop":
        # vLLM answers 200 with a cut text and "abort" when it is stopped
        known = reason if reason in ("length", "abort", "content_filter", "tool_calls", "error") else "unknown"
        raise Unparseable(f"finish_reason {known}")
    return choice


def _content(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, str):
        raise Unparseable("the reply has no content")
    return content


def _without_reasoning(text: str) -> str:
    """A closed reasoning block before the verdict is removed; an unclosed or stray one makes the reply unparseable."""
    text = text.strip()
    if text.startswith("<think>"):
        _, closed, text = text.partition("</think>")
        if not closed:
            raise Unparseable("an unclosed reasoning block")
    if "<think>" in text or "</think>" in text:
        raise Unparseable("a stray reasoning mark")
    return text


def _lines(text: str) -> tuple[dict[str, Label], str | None]:
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


def _names(names: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Known and unknown names, apart. They are split on commas: names contain slashes, never commas."""
    known: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for name in (names or "").split(",")[:_MAX_NAMES]:
        plain = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:_MAX_NAME]
        if plain:
            found = canonical(plain)
            if found is None:
                unknown[plain] = None
            else:
                known[found] = None
    return tuple(known), tuple(unknown)


# ---------------------------------------------------------------- P(unsafe)


def _probabilities(choice: Mapping[str, Any]) -> dict[str, float]:
    """P(unsafe) at each label, from the alternatives of the first token after the line's colon.

    Dicts and lists, as JSON gives them: asking for any `Mapping` takes longer, and this runs with every check.
    """
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(tokens, list):
        return {}
    found: dict[str, float] = {}
    line = ""
    for entry in tokens:
        token = entry.get("token") if isinstance(entry, dict) else None
        if not isinstance(token, str):
            return {}
        if line.endswith(":") and token.strip():
            key = " ".join(line[:-1].split()).casefold()
            p = _p_unsafe(entry)
            if key in ("user safety", "response safety") and p is not None:
                found.setdefault(key, p)
        line = (line + token).rpartition("\n")[2].rstrip(" ") if token.strip() or "\n" in token else line
    return found


def _p_unsafe(entry: Mapping[str, Any]) -> float | None:
    alternatives = entry.get("top_logprobs")
    if not isinstance(alternatives, list):
        return None
    mass = {"safe": 0.0, "unsafe": 0.0}
    seen: set[str] = set()
    for alternative in alternatives:
        if not isinstance(alternative, dict):
            return None
        token, logprob = alternative.get("token"), alternative.get("logprob")
        if not isinstance(token, str) or not isinstance(logprob, (int, float)) or isinstance(logprob, bool):
            return None
        if math.isnan(logprob) or logprob > 1e-6 or token in seen:
            continue
        seen.add(token)
        start = token.strip().casefold()
        for label in mass:
            if start and label.startswith(start):
                mass[label] += math.exp(logprob)
    total = mass["safe"] + mass["unsafe"]
    return mass["unsafe"] / total if total > 0.0 else None


def _consistent(p: float | None, label: Label | None) -> float | None:
    """Greedy decoding emits the likelier label; a P that contradicts it was not made for it: not to be relied on."""
    if p is None or label is None or (p > 0.5) == (label == "unsafe") or abs(p - 0.5) < 0.02:
        return None if label is None else p
    return None
