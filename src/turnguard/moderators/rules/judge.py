"""From texts to labels: which rules match, what surrounds the matches, and what follows for prompt and response."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from turnguard.moderators.rules.load import PairRule, RuleBook, rule_book
from turnguard.moderators.rules.text import Phrase, normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Label = Literal["safe", "unsafe"]

FLOOR = 0.02
"""P(unsafe) of a text in which nothing was found."""

UNASKED = 0.5
"""What an act near an object is worth when nothing asks for it: news and history mention such things too."""

PREVENTED = 0.4
"""What a match is worth when the text is about preventing or understanding it."""

_CUE_REACH = 120
_PREVENT_REACH = 60
_LONGEST_OBJECT = 50
_SENTENCE_END = re.compile(r"[.!?;\u3002\uff01\uff1f\u0964\u061f](?:\s|$)|[\u3002\uff01\uff1f\u0964]")


@dataclass(frozen=True, slots=True)
class Hit:
    """One rule that matched: its category, P(unsafe), and the words that matched (normalised)."""

    category: str
    p: float
    words: str


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What the rules say. `response` and `p_response` are None when there was none. P is P(unsafe), 0..1; a label is
    unsafe from 0.5. `hits` says why."""

    user: Label
    response: Label | None
    categories: tuple[str, ...]
    p_user: float
    p_response: float | None
    hits: tuple[Hit, ...] = ()


def judge(prompt: str, response: str | None = None, image_text: str | None = None) -> RuleVerdict:
    """Judge one exchange. Pure, in process, CPU only; the rules are loaded once (about half a second)."""
    book = rule_book()
    prompt_text, picture_text = _blank(book, normalise(prompt)), _blank(book, normalise(image_text or ""))
    user_hits = _find(book, prompt_text, prompt)
    if picture_text:
        user_hits += _find(book, picture_text, image_text or "", picture=True)
        user_hits += _across(book, prompt_text, picture_text)
    p_user = max((hit.p for hit in user_hits), default=FLOOR)
    if response is None:
        return _verdict(p_user, None, user_hits, [])
    response_hits = _of_response(book, response, user_hits)
    return _verdict(p_user, max((hit.p for hit in response_hits), default=FLOOR), user_hits, response_hits)


def _verdict(p_user: float, p_response: float | None, user: Sequence[Hit], response: Sequence[Hit]) -> RuleVerdict:
    decisive = sorted((hit for hit in (*user, *response) if hit.p >= 0.5), key=lambda hit: -hit.p)
    return RuleVerdict(
        user=_label(p_user),
        response=None if p_response is None else _label(p_response),
        categories=tuple(dict.fromkeys(hit.category for hit in decisive)),
        p_user=p_user,
        p_response=p_response,
        hits=tuple(decisive),
    )


def _label(p: float) -> Label:
    return "unsafe" if p >= 0.5 else "safe"


def _blank(book: RuleBook, text: str) -> str:
    """Put something neutral where a benign phrase stands, so that nothing in it matches."""
    for harmless in book.benign:
        for start, end in harmless.spans(text):
            text = text[:start] + "\u25a1" * (end - start) + text[end:]
    return text


def _find(book: RuleBook, text: str, written: str, *, picture: bool = False, answer: bool = False) -> list[Hit]:
    """Return every match within one text. `answer`: what a response says counts as asked for when it reads like
    steps."""
    hits: list[Hit] = []
    for rule in book.phrases:
        for start, end in _spans(rule.phrases, text, picture=picture):
            hits.append(Hit(rule.category, _in_context(book, text, start, rule.weight), text[start:end]))
    for pattern in book.patterns:
        hits += [Hit(pattern.category, pattern.weight, "(a number)")] * bool(pattern.pattern.search(written))
    cues = (*book.cues.asks, *book.cues.answers) if answer else book.cues.asks
    asks = _spans(cues, text, picture=picture)
    for pair in book.pairs:
        for start, end in _near(pair, text, picture=picture):
            asked = pair.always or any(start - _CUE_REACH <= at <= end + _CUE_REACH for at, _ in asks)
            weight = pair.weight if asked else pair.weight * UNASKED
            hits.append(Hit(pair.category, _in_context(book, text, start, weight), text[start:end]))
    return hits


def _across(book: RuleBook, prompt: str, picture: str) -> list[Hit]:
    """Match what neither prompt nor picture says alone. The prompt asks for what the picture names ("how do I make
    this" beside the name of a weapon), or uses what it shows against someone."""
    asks, points = _spans(book.cues.asks, prompt), _spans(book.cues.points, prompt)
    if not (asks and points):
        return []
    hits = []
    for pair in book.pairs:
        in_prompt, in_picture = _spans(pair.acts, prompt), _spans(pair.objects, picture, picture=True)
        if in_prompt and in_picture and _touch(in_prompt, points):
            hits.append(
                Hit(pair.category, pair.weight, _words(prompt, in_prompt) + " + " + _words(picture, in_picture))
            )
        elif any(True for _ in _near(pair, picture, picture=True)):
            hits.append(Hit(pair.category, pair.weight, "asked of the picture"))
        else:
            in_prompt, in_picture = _spans(pair.objects, prompt), _spans(pair.acts, picture, picture=True)
            if in_prompt and in_picture and not pair.always:
                hits.append(
                    Hit(pair.category, pair.weight, _words(picture, in_picture) + " + " + _words(prompt, in_prompt))
                )
    return hits


def _of_response(book: RuleBook, response: str, user_hits: Sequence[Hit]) -> list[Hit]:
    """A refusal is safe whatever the prompt; going along with an unsafe prompt is not; otherwise the text speaks for
    itself."""
    text = _blank(book, normalise(response))
    own = _find(book, text, response, answer=True)
    head = text[:200]
    complies = bool(_spans(book.cues.complies, text))
    if _spans(book.cues.refusals, head) and not complies:
        return [replace(hit, p=min(hit.p, 0.1)) for hit in own]
    decisive = [hit for hit in user_hits if hit.p >= 0.5]
    if decisive and complies:
        return own + [replace(hit, p=max(0.9, hit.p)) for hit in decisive]
    named = {word for hit in decisive for word in hit.words.split() if len(word) > 3}
    if decisive and any(word in text for word in named) and not _spans(book.cues.prevents, head):
        return own + [replace(hit, p=0.7) for hit in decisive]
    return own


def _in_context(book: RuleBook, text: str, start: int, weight: float) -> float:
    before = text[max(0, start - _PREVENT_REACH) : start]
    return weight * PREVENTED if weight < 0.97 and _spans(book.cues.prevents, before) else weight


def _spans(phrases: Iterable[Phrase], text: str, *, picture: bool = False) -> list[tuple[int, int]]:
    return [span for phrase in phrases for span in phrase.spans(text, picture=picture)]


def _near(pair: PairRule, text: str, *, picture: bool = False) -> list[tuple[int, int]]:
    """Spans that hold an act and an object of the pair, in either order, close by and within one sentence."""
    acts = _spans(pair.acts, text, picture=picture)
    objects = sorted(_spans(pair.objects, text, picture=picture)) if acts else []
    found = []
    for act in acts:
        nearest = bisect_left(objects, (act[0] - pair.reach - _LONGEST_OBJECT, 0))
        for thing in objects[nearest : bisect_left(objects, (act[1] + pair.reach + 1, 0))]:
            first, second = sorted((act, thing))
            between = text[first[1] : second[0]]
            if first[1] <= second[0] and len(between) <= pair.reach and not _SENTENCE_END.search(between):
                found.append((first[0], second[1]))
    return found


def _touch(spans: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> bool:
    """Whether one of each stand within a few words of each other."""
    return any(-20 <= other[0] - span[1] <= 20 or -20 <= span[0] - other[1] <= 20 for span in spans for other in others)


def _words(text: str, spans: Sequence[tuple[int, int]]) -> str:
    start, end = spans[0]
    return text[start:end]
