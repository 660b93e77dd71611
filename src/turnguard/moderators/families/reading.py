"""What every family reads of a chat-completions reply: its text, its reasoning, its names and the odds of its words.

Whatever is not exactly what a server sends for a finished verdict is `Unparseable`; nothing here ever guesses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from turnguard.core.errors import Unparseable
from turnguard.core.exchange import Exchange
from turnguard.core.families import Family
from turnguard.core.verdict import MAX_REASONING, Label, Verdict
from turnguard.moderators.families.asking import Asking

Body = dict[str, Any]
"""A body of `POST /v1/chat/completions`: messages first, and in a message the picture before the text."""
Reply = Mapping[str, Any]
"""A chat-completions reply, parsed."""

TOP_LOGPROBS = 5
_MAX_NAME = 80
_MAX_NAMES = 96
_AROUND = ' \t\r\n"'
"""What may stand in a token beside a word: a quote alone is no label."""
_BEFORE_LABEL = ' \t:"'
_LONGEST_END = 20
"""Characters of the token that ends a turn, where a server lists it."""
_ODDS_MARGIN = 0.04
"""A word that was emitted may be this much less likely than another: servers round, and batches differ."""


def greedy(messages: list[dict[str, Any]], asking: Asking, max_tokens: int) -> Body:
    """A body that asks for the likeliest reply, with the odds of its tokens."""
    return {
        "messages": messages,
        "model": asking.model,
        "temperature": 0.0,
        "max_tokens": max_tokens,
        "logprobs": True,
        "top_logprobs": TOP_LOGPROBS,
    }


class Said(NamedTuple):
    """A finished reply. `text` is what stands behind the reasoning, `raw` all of the content; `tokens` are the
    logprob entries of `text`, empty where the server gives none.
    """

    text: str
    raw: str
    reasoning: str | None
    tokens: Sequence[Any]
    model: str | None
    usage: tuple[int, int] | None


def said(reply: Reply) -> Said:
    """Read the one choice of a reply that ended by itself. Raises `Unparseable`."""
    choices = reply.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], Mapping):
        raise Unparseable("the reply holds no single choice")
    choice: Mapping[str, Any] = choices[0]
    reason = choice.get("finish_reason")
    if reason != "stop":
        # vLLM answers 200 with a cut text and "abort" when it is stopped
        known = reason if reason in ("length", "abort", "content_filter", "tool_calls", "error") else "unknown"
        raise Unparseable(f"finish_reason {known}")
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    raw = message.get("content")
    if not isinstance(raw, str):
        raise Unparseable("the reply has no content")
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    text = raw.strip()
    apart = message.get("reasoning") or message.get("reasoning_content")
    reasoning: str | None = None
    if apart or "think>" in text:
        text, reasoning, tokens = _without_reasoning(text, apart, tokens)
    model, counted = reply.get("model"), reply.get("usage")
    usage: tuple[int, int] | None = None
    if isinstance(counted, dict):
        asked, answered = counted.get("prompt_tokens"), counted.get("completion_tokens")
        usage = (asked, answered) if isinstance(asked, int) and isinstance(answered, int) else None
    return Said(
        text,
        raw,
        reasoning,
        tokens if isinstance(tokens, list) else (),
        model[:_MAX_NAME] if isinstance(model, str) else None,
        usage,
    )


def _without_reasoning(text: str, apart: Any, tokens: Any) -> tuple[str, str | None, Any]:
    """A closed reasoning block before the verdict is taken off; an unclosed or stray one makes the reply unparseable.

    `apart` is the reasoning that the server split off itself. The tokens of either kind are no part of the verdict's.
    """
    reasoning = apart if isinstance(apart, str) else ""
    if text.startswith("<think>"):
        inline, closed, text = text.removeprefix("<think>").partition("</think>")
        if not closed:
            raise Unparseable("an unclosed reasoning block")
        reasoning = reasoning or inline
        text = text.strip()
    if "<think>" in text or "</think>" in text:
        raise Unparseable("a stray reasoning mark")
    return text, reasoning.strip()[:MAX_REASONING] or None, _behind(text, tokens)


def _behind(text: str, tokens: Any) -> list[Any]:
    """The tokens that make up `text`, the end of the reply. None where they cannot be told from those before them.

    Read from the end, no further than the text is long: a trace has a thousand tokens.
    """
    written = ""
    entries: list[Any] = tokens if isinstance(tokens, list) else []
    for start in range(len(entries) - 1, -1, -1):
        entry = entries[start]
        token = entry.get("token") if isinstance(entry, dict) else None
        if not isinstance(token, str):
            return []
        written = token + written
        if written.lstrip().startswith(text):
            return entries[start:]
        if len(written.strip()) > len(text) + _LONGEST_END:
            return []
    return []


def listed(names: Iterable[str], known: Callable[[str], str | None]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names that the family knows, as `known` has them, and the model's own other words; each once and in order."""
    found: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for number, name in enumerate(names):
        if number == _MAX_NAMES:
            break
        plain = " ".join("".join(c if c.isprintable() else " " for c in name).split())
        if plain:
            meant = known(plain)
            if meant is None:
                unknown[plain[:_MAX_NAME]] = None
            else:
                found[meant] = None
    return tuple(found), tuple(unknown)


def one_label(
    answer: Said,
    exchange: Exchange,
    label: Label,
    p: float | None,
    family: Family,
    native: tuple[str, ...],
    unknown: tuple[str, ...],
) -> Verdict:
    """The verdict of a model that rates the last message alone: the response where there is one."""
    on_response = exchange.response is not None
    return Verdict(
        user=None if on_response else label,
        response=label if on_response else None,
        categories=tuple(dict.fromkeys(family.categories[name] for name in native)),
        unknown_categories=unknown,
        p_user=None if on_response else p,
        p_response=p if on_response else None,
        raw=answer.raw,
        model=answer.model,
        tokens=answer.usage,
        native=native,
        reasoning=answer.reasoning,
    )


# ---------------------------------------------------------------- P(unsafe)


def odds(tokens: Sequence[Any], label: re.Pattern[str], words: Sequence[str]) -> dict[str, dict[str, float]]:
    """How likely each of `words` was at each label. `label` matches all of a line that a label follows, and its group
    names the label.

    Dicts and lists, as JSON gives them: asking for any `Mapping` takes longer, and this runs with every check.
    """
    found: dict[str, dict[str, float]] = {}
    line = ""
    for entry in tokens:
        token = entry.get("token") if isinstance(entry, dict) else None
        if not isinstance(token, str):
            return {}
        # a label follows a colon, a quote or nothing, whatever the family: matching each token takes microseconds
        if (not line or line[-1] in _BEFORE_LABEL) and token.strip(_AROUND) and (at := label.fullmatch(line)):
            key = " ".join((at[1] or "").split()).casefold()
            masses = _masses(entry, words)
            if masses and key not in found:
                found[key] = masses
        line = (line + token).rpartition("\n")[2]
    return found


def _masses(entry: Mapping[str, Any], words: Sequence[str]) -> dict[str, float]:
    """The share of each word, from the alternatives that begin it; empty where none does."""
    alternatives = entry.get("top_logprobs")
    if not isinstance(alternatives, list):
        return {}
    mass = dict.fromkeys(words, 0.0)
    seen: set[str] = set()
    for alternative in alternatives:
        if not isinstance(alternative, dict):
            return {}
        token, logprob = alternative.get("token"), alternative.get("logprob")
        if not isinstance(token, str) or not isinstance(logprob, (int, float)) or isinstance(logprob, bool):
            return {}
        if math.isnan(logprob) or logprob > 1e-6 or token in seen:
            continue
        seen.add(token)
        start = token.strip(_AROUND).casefold()
        for word in words:
            if start and word.startswith(start):
                mass[word] += math.exp(logprob)
    total = sum(mass.values())
    return {word: share / total for word, share in mass.items()} if total > 0.0 else {}


def p_unsafe(odds: Mapping[str, float] | None, word: str | None, unsafe: Sequence[str] = ("unsafe",)) -> float | None:
    """P(unsafe) from the odds at a label whose word was `word`.

    Greedy decoding emits the likeliest word. Odds that contradict the word were not made for it: not to be relied on.
    """
    if not odds or word is None or max(odds.values()) - odds[word] >= _ODDS_MARGIN:
        return None
    return min(1.0, sum(odds[one] for one in unsafe))


WORDS: tuple[Label, ...] = ("safe", "unsafe")


def labelled(
    answer: Said,
    labels: Mapping[str, Label],
    names: str | None,
    exchange: Exchange,
    known: Callable[[str], str | None],
    label: re.Pattern[str],
) -> Verdict:
    """The verdict of a reply that labels the `user safety`, and the `response safety` where one was asked for.

    `names` are its categories, with commas between them: a name holds slashes, never commas. `known` gives the
    taxonomy's name of one, or None. `label` finds what stands before the word of a label. Raises `Unparseable`.
    """
    user, response = labels.get("user safety"), labels.get("response safety")
    if user is None:
        raise Unparseable("no user label")
    if exchange.response is None and response is not None:
        raise Unparseable("a response label that was not asked for")
    if exchange.response is not None and response is None:
        raise Unparseable("no response label")
    categories, unknown = listed(names.split(","), known) if names and "unsafe" in (user, response) else ((), ())
    at = odds(answer.tokens, label, WORDS)
    return Verdict(
        user=user,
        response=response,
        categories=categories,
        unknown_categories=unknown,
        p_user=p_unsafe(at.get("user safety"), user),
        p_response=p_unsafe(at.get("response safety"), response),
        raw=answer.raw,
        model=answer.model,
        tokens=answer.usage,
        reasoning=answer.reasoning,
    )
