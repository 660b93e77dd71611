"""Long text → overlapping windows that each fit the model. Pure.

No tokenizer is loaded: tokens are estimated from above by character class. A word of a common script costs a token per
three letters, a digit one each (Gemma splits them), a long unbroken run (base64, hashes) two tokens per three
characters, other letters, marks and punctuation one each, rare symbols up to four. The margins hold against the
server's real limit (see `room`).
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import NamedTuple

TEMPLATE_TOKENS = 480
"""Around 464 fixed prompt tokens were seen in recorded usage (facts of the 3.5 family)."""
IMAGE_TOKENS = 270
"""256 soft tokens and their delimiters; 260 were counted on a real vLLM."""
REPLY_TOKENS = 100
_MARGIN = 1.25
"""A server's own limit is hard: what is estimated must stay this factor below it."""

_SMALLEST_COST = 0.1
_ROUNDING = 1e-6  # of sums of costs
NOTICE_TOKENS = 200
"""Room for the notice on a text that was cut: no built-in one is estimated at more."""
_NEAR = 400  # characters within which a cut looks for white space
_PIECE = re.compile(r"\s+|[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]")


class Window(NamedTuple):
    """A slice of the text, which of how many it is, and where in the text it begins."""

    text: str
    number: int
    of: int
    start: int = 0

    @property
    def detail(self) -> str:
        """In plain words; empty when the window is the whole text."""
        return "" if self.of == 1 else f"window {self.number} of {self.of}"


def room(max_input_tokens: int, max_model_len: int | None) -> int:
    """Tokens of content per request: the setting, or what the server's limit leaves when that is smaller."""
    if max_model_len is None:
        return max_input_tokens
    left = int((max_model_len - TEMPLATE_TOKENS - IMAGE_TOKENS - REPLY_TOKENS) / _MARGIN)
    return max(64, min(max_input_tokens, left))


def fits(text: str, tokens: int) -> bool:
    """Whether the text surely fits: no token is shorter than a byte."""
    return len(text) <= tokens and (text.isascii() or len(text.encode("utf-8", "replace")) <= tokens)


def estimate(text: str) -> float:
    """Tokens of the text, estimated from above."""
    return sum(_cost(match[0]) for match in _PIECE.finditer(text))


class Head(NamedTuple):
    """The windows over the beginning of a text.

    `end` is where the last of them ends. `keep` is where to cut the text so that what is kept and a notice of
    `NOTICE_TOKENS` fit into as many windows again; both are the text's length where all of it fits.
    """

    windows: tuple[Window, ...]
    end: int
    keep: int


def head(text: str, tokens: int, most: int) -> Head:
    """As much of the text as fits into `most` windows of at most `tokens` that overlap by a tenth."""
    if fits(text, tokens):
        return Head((Window(text, 1, 1),), len(text), len(text))
    length = len(text)
    beyond = int(tokens * most / _SMALLEST_COST) + 1  # no window can reach further, whatever stands there
    pieces = _cut(text if length <= beyond else text[:beyond], tokens, tokens * most)
    sums = [0.0, *accumulate(cost for _, _, cost in pieces)]
    spans: list[tuple[int, int]] = []
    first = last = 0
    while len(spans) < most and last < len(pieces):
        last = max(first + 1, bisect_right(sums, sums[first] + tokens + _ROUNDING) - 1)
        spans.append((pieces[first][0], pieces[last - 1][1]))
        first = max(first + 1, bisect_left(sums, sums[last] - tokens / 10 - _ROUNDING))
    end = spans[-1][1] if spans else 0
    windows = tuple(
        Window(text[start:stop], number, len(spans), start) for number, (start, stop) in enumerate(spans, 1)
    )
    return Head(windows, end, length if end == length else _keep(text, pieces[:last], min(NOTICE_TOKENS, tokens // 4)))


def _keep(text: str, pieces: list[tuple[int, int, float]], notice: int) -> int:
    """Where to cut before the end of `pieces`: at a line break or white space, if there is any near."""
    left = float(notice)
    while pieces and left > 0.0:
        left -= pieces.pop()[2]
    at = pieces[-1][1] if pieces else 0
    near = max(0, at - _NEAR)
    line = text.rfind("\n", near, at) + 1
    if line:
        return line
    return next((place for place in range(at, near, -1) if text[place - 1].isspace()), at)


def too_long(text: str, tokens: int, most: int) -> bool:
    """Whether the text surely needs more than `most` windows."""
    return len(text) * _SMALLEST_COST > tokens * most


def split(text: str, tokens: int, max_windows: int) -> tuple[Window, ...] | None:
    """Windows that leave nothing of the text out; None when more than `max_windows` are needed."""
    if too_long(text, tokens, max_windows):
        return None
    found = head(text, tokens, max_windows)
    return found.windows if found.end == len(text) else None


def head_and_tail(text: str, tokens: int) -> str:
    """The text, or its head and its tail with a mark between, within `tokens`: context must not crowd out what is
    judged.
    """
    if fits(text, tokens):
        return text
    if len(text) > tokens * 20:
        text = text[: tokens * 10] + text[-tokens * 10 :]  # beyond these no head or tail can reach
    elif estimate(text) <= tokens:
        return text
    pieces = _cut(text, tokens)
    half = (tokens - 4) / 2
    head_end, tail_start, cost = 0, len(text), 0.0
    for _, end, price in pieces:
        if cost + price > half:
            break
        cost, head_end = cost + price, end
    cost = 0.0
    for start, _, price in reversed(pieces):
        if cost + price > half:
            break
        cost, tail_start = cost + price, start
    return f"{text[:head_end]} [...] {text[tail_start:]}"


def _cut(text: str, tokens: int, budget: float = math.inf) -> list[tuple[int, int, float]]:
    """Pieces as (start, end, cost), none dearer than a twentieth of a window, until they cost `budget`."""
    most = max(1, tokens // 20)
    pieces: list[tuple[int, int, float]] = []
    costs: dict[str, float] = {}  # words repeat
    for match in _PIECE.finditer(text):
        if budget < 0.0:
            break
        start, end = match.span()
        piece = match[0]
        cost = costs.get(piece) or costs.setdefault(piece, _cost(piece))
        budget -= cost
        if cost <= most:
            pieces.append((start, end, cost))
            continue
        step = max(1, int((end - start) * most / cost))
        pieces.extend(
            (at, min(at + step, end), cost * (min(at + step, end) - at) / (end - start))
            for at in range(start, end, step)
        )
    return pieces


def _cost(piece: str) -> float:
    head = piece[0]
    if head.isspace():
        return max(_SMALLEST_COST, (len(piece) - 1) * 0.3)
    if head.isascii():
        if head.isalpha():
            return len(piece) / 3 + 0.4 if len(piece) <= 20 else len(piece) * 2 / 3
        return float(len(piece))
    # marks and punctuation of living scripts are tokens of their own; other symbols may be spelled in bytes
    ordinary = head.isalpha() or (head < "\U00010000" and unicodedata.category(head)[0] in "MP")
    return 1.0 if ordinary else float(len(head.encode("utf-8", "replace")))
