"""Each family's legal replies, written down a second time and in another way, and text that is nearly one of them.

The oracle reads with regular expressions what the product reads line by line or as JSON. It is as generous as the
product about case and spacing, and about nothing else.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from turnguard.core.exchange import Exchange

ASKED = Exchange("a question")
ANSWERED = Exchange("a question", response="an answer")

_G = r"[^\S\n]*"  # a gap on one line
_W = r"[^\S\n]+"
_N = rf"{_G}\n\s*"  # to the next line that says something


def _nemotron(answered: bool) -> str:
    user, response = rf"user{_W}safety{_G}:{_G}safe", rf"response{_W}safety{_G}:{_G}safe"
    names = rf"safety{_W}categories{_G}:[^\n]*"
    lines = [user, response] if answered else [user]
    orders = [lines, lines[::-1]]
    ways = {_N.join([*order[:n], names, *order[n:]]) for order in orders for n in range(len(order) + 1)}
    return "|".join(ways | {_N.join(order) for order in orders})


def _qwen(answered: bool) -> str:
    lines = [rf"safety{_G}:{_G}safe", rf"categories{_G}:{_G}none"]
    lines += [rf"refusal{_G}:{_G}(?:yes|no)"] if answered else []
    if not answered:
        return "|".join(_N.join(order) for order in (lines, lines[::-1]))
    a, b, c = lines
    return "|".join(_N.join(order) for order in ((a, b, c), (a, c, b), (b, a, c), (b, c, a), (c, a, b), (c, b, a)))


def _json(answered: bool) -> str:
    user, response = r'"User Safety"\s*:\s*"\s*safe\s*"', r'"Response Safety"\s*:\s*"\s*safe\s*"'
    names = r'"Safety Categories"\s*:\s*"\s*"'
    fields = [user, response] if answered else [user]
    orders = [fields, fields[::-1]]
    ways = {r"\s*,\s*".join([*o[:n], names, *o[n:]]) for o in orders for n in range(len(o) + 1)}
    ways |= {r"\s*,\s*".join(o) for o in orders}
    return "|".join(rf"\{{\s*(?:{way})\s*\}}" for way in ways)


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\s*(?:{pattern})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Grammar:
    """One family's replies. `safe` are whole legal replies that call something safe, without reasoning."""

    safe: Mapping[bool, re.Pattern[str]]
    pieces: tuple[str, ...]
    legal: tuple[tuple[str, Exchange], ...] = field(default=())

    def says_safe(self, text: str, exchange: Exchange) -> bool:
        """Whether the reply is a legal one that calls nothing unsafe."""
        text = text.strip().replace("\r\n", "\n")
        if text.startswith("<think>"):
            _, closed, text = text.partition("</think>")
            if not closed:
                return False
        if "think>" in text and ("<think>" in text or "</think>" in text):
            return False
        return self.safe[exchange.response is not None].fullmatch(text) is not None


_LINES = (
    "\n",
    " ",
    "\r\n",
    ":",
    ",",
    "<think>",
    "</think>",
    "\u2028",
    "\x0b",
    "safe",
    "unsafe",
    "not ",
    "{",
    "}",
    '"',
    "x",
)
_NEMOTRON = Grammar(
    {answered: _compiled(_nemotron(answered)) for answered in (True, False)},
    (*_LINES, "User Safety: safe", "User Safety: unsafe", "Response Safety: safe", "Response Safety: unsafe",
     "Safety Categories: Violence", "User Safety", "Response Safety:", "Safety Categories:", ", Malware", "User  safety :SAFE"),
    (
        ("User Safety: safe", ASKED),
        ("User Safety: unsafe\nSafety Categories: Violence, Malware", ASKED),
        ("User Safety: safe\nResponse Safety: safe", ANSWERED),
        ("User Safety: unsafe\nResponse Safety: safe\nSafety Categories: Criminal Planning/Confessions", ANSWERED),
        ("<think>\nUser Safety: safe\n</think>User Safety: unsafe\nSafety Categories: Threat", ASKED),
    ),
)  # fmt: skip

GRAMMARS: Mapping[str, Grammar] = {
    "nemotron-3": _NEMOTRON,
    "nemotron-3.5": _NEMOTRON,
    "nemotron-safety-guard-8b-v3": Grammar(
        {answered: _compiled(_json(answered)) for answered in (True, False)},
        (*_LINES, '{"User Safety": "safe"}', '"User Safety": "safe"', '"Response Safety": "safe"', '"User Safety"',
         '"User Safety": "unsafe"', '"Response Safety": "unsafe"', '"Safety Categories": "Violence"', ": ", ', ', "null",
         '"Safety Categories": ""', "[", "]", "true", "\\", "```json\n", "```"),
        (
            ('{"User Safety": "safe"}', ASKED),
            ('{"User Safety": "unsafe", "Safety Categories": "Violence, Malware"} ', ASKED),
            ('{"User Safety": "safe", "Response Safety": "safe"}', ANSWERED),
            ('{"User Safety": "unsafe", "Response Safety": "safe", "Safety Categories": "PII/Privacy"}', ANSWERED),
        ),
    ),
    "llama-guard-4": Grammar(
        {answered: _compiled("safe") for answered in (True, False)},
        (*_LINES, "S1", "S2,S14", "S99", "unsafe\nS9", "safe\n", "Safe", "\n\nsafe", "not safe"),
        (
            ("\n\nsafe", ASKED),
            ("\n\nunsafe\nS9", ASKED),
            ("unsafe\nS1, S10", ANSWERED),
            ("safe", ANSWERED),
        ),
    ),
    "qwen3guard": Grammar(
        {answered: _compiled(_qwen(answered)) for answered in (True, False)},
        (*_LINES, "Safety: Safe", "Safety: Unsafe", "Safety: Controversial", "Categories: None", "Categories: Violent",
         "Refusal: Yes", "Refusal: No", "Safety", "Categories", "None", ", PII", "Controversial"),
        (
            ("Safety: Safe\nCategories: None", ASKED),
            ("Safety: Unsafe\nCategories: Violent", ASKED),
            ("Safety: Controversial\nCategories: Politically Sensitive Topics", ASKED),
            ("Safety: Safe\nCategories: None\nRefusal: Yes", ANSWERED),
            ("Safety: Unsafe\nCategories: Violent, PII\nRefusal: No", ANSWERED),
        ),
    ),
}  # fmt: skip


def nearly(grammar: Grammar, draw: random.Random) -> str:
    """A reply that is legal, nearly legal, or a heap of what legal ones are made of."""
    kind = draw.random()
    if kind < 0.25:
        return "".join(draw.choices(grammar.pieces, k=draw.randint(0, 7)))
    text = draw.choice(grammar.legal)[0]
    for _ in range(draw.randint(0, 3)):
        at = draw.randint(0, len(text))
        cut = draw.randint(at, min(len(text), at + 12))
        middle = draw.choice((draw.choice(grammar.pieces), chr(draw.randint(0, 0x2FFF)), "", text[at:cut] * 2))
        text = text[:at] + middle + text[cut:]
        if draw.random() < 0.1:
            text = text.swapcase()
    return text
