"""A step → the exchanges that put it to the model (design: "How each stage is put to the model").

Text parts of one message are judged joined; retrieval chunks each on its own. Every window of a long text is judged
once; every view of an image once, with the first window beside it; never their product. What the assistant or a tool
produced as an image goes to the prompt side with the text that came with it, decided by the user label.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from turnguard.core.exchange import Exchange, Picture
from turnguard.core.step import Document, Image, Kind, Opaque, Part, Step, Text, ToolCall
from turnguard.core.verdict import Covered, Side
from turnguard.media import Media, Prepared, View, split_data_uris
from turnguard.text.undisguise import normalised
from turnguard.text.windows import Window, head_and_tail, split

UNDISGUISED = "as normalised"
UNDISGUISED_WINDOWS = 4
"""Windows that one window may become when its encodings are written out."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One exchange to judge, which label decides, and what of the step it covers."""

    exchange: Exchange
    decides: Side
    covers: tuple[Covered, ...]

    @property
    def parts(self) -> tuple[int, ...]:
        """Indexes of the parts that this exchange shows."""
        return tuple(dict.fromkeys(entry.part for entry in self.covers if entry.part is not None))


@dataclass(slots=True)
class Plan:
    """What will be asked about a step, what cannot be, and the parts as they will be passed on (pinned)."""

    parts: list[Part]
    inquiries: list[Inquiry] = field(default_factory=list)
    not_judged: list[Covered] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much goes into one request, and how many requests a step may make."""

    tokens: int
    max_windows: int
    max_requests: int


@dataclass(slots=True)
class _Unit:
    """Text that is judged together, and the parts that it came from."""

    text: str
    parts: tuple[int, ...]
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class _Seen:
    """A view of a part that is a picture or holds one."""

    view: View
    part: int
    kind: Kind


def needs_media(step: Step) -> bool:
    """Whether anything in the step must be decoded or fetched."""
    return bool(step.prompt_images) or any(map(_heavy, step.parts))


def _heavy(part: Part) -> bool:
    if isinstance(part, (Image, Document)):
        return True
    text = part.text if isinstance(part, Text) else readable(part) if isinstance(part, ToolCall) else ""
    return len(text) > 64 and bool(split_data_uris(text)[1])


async def prepare(step: Step, media: Media, limits: Limits, own: Iterable[str] | Any = ()) -> Plan:
    """Plan the requests for a step. `own` holds Turnguard's own texts, which are not judged again."""
    plan = Plan(list(step.parts))
    units: list[_Unit] = []
    seen: list[_Seen] = []
    texts: list[tuple[int, str]] = []
    read = await _read(step.parts, media, limits)
    for index, part in enumerate(step.parts):
        if isinstance(part, Text):
            if not part.text.strip():
                plan.not_judged.append(Covered(index, "text", cause="empty", counts=False))
            elif part.text in own:
                plan.not_judged.append(Covered(index, "text", cause="Turnguard's own words", counts=False))
            else:
                texts.append((index, await _without_data_uris(part.text, index, media, limits, seen, plan)))
        elif isinstance(part, ToolCall):
            try:
                shown = readable(part)
            except (ValueError, RecursionError):
                plan.not_judged.append(Covered(index, "text", cause="arguments that cannot be shown"))
                continue
            texts.append((index, await _without_data_uris(shown, index, media, limits, seen, plan)))
        elif isinstance(part, Opaque):
            plan.not_judged.append(Covered(index, part.kind, cause=part.cause))
        else:
            plan.parts[index] = read[index].pinned
            units += _taken(read[index], index, part.kind, seen, plan)
    if step.stage == "retrieval":
        units = [_Unit(text, (index,)) for index, text in texts] + units
    elif texts:
        joined = "\n".join(text for _, text in texts)
        units.insert(0, _Unit(joined, tuple(index for index, _ in texts)))
    context = await _context(step, media, limits, plan)
    _ask(step, units, seen, context, limits, plan)
    return plan


# ---------------------------------------------------------------- reading parts


async def _read(parts: Sequence[Part], media: Media, limits: Limits) -> dict[int, Prepared]:
    """All pictures and documents at once: the media's own pool bounds how many are decoded side by side."""
    heavy = {index: part for index, part in enumerate(parts) if isinstance(part, (Image, Document))}
    if not heavy:
        return {}
    prepared = await asyncio.gather(*(media.prepare(part, limit=limits.max_requests) for part in heavy.values()))
    return dict(zip(heavy, prepared, strict=True))


async def _without_data_uris(text: str, index: int, media: Media, limits: Limits, seen: list[_Seen], plan: Plan) -> str:
    """The text with placeholders where `data:` URIs stood; what they held is judged like any other part."""
    plain, found = split_data_uris(text)
    for part in found:
        prepared = await media.prepare(part, limit=limits.max_requests)
        extra = _taken(prepared, index, part.kind, seen, plan)
        plain = "\n".join([plain, *(unit.text for unit in extra)])
    return plain


def _taken(prepared: Prepared, index: int, kind: Kind, seen: list[_Seen], plan: Plan) -> list[_Unit]:
    seen.extend(_Seen(view, index, kind) for view in prepared.views)
    plan.not_judged.extend(Covered(index, kind, s.detail, s.cause, s.counts) for s in prepared.skipped)
    text = "\n".join(text for _, text in prepared.texts if text.strip())
    if text and kind == "image" and not prepared.views:
        # what the agent's model would make of it is not known, whatever can be read from its bytes here
        plan.not_judged.append(Covered(index, kind, cause="not an image"))
    return [_Unit(text, (index,), kind)] if text else []


@dataclass(frozen=True, slots=True)
class _Context:
    """The request that an output or a call answers."""

    prompt: str = ""
    picture: Picture | None = None


async def _context(step: Step, media: Media, limits: Limits, plan: Plan) -> _Context:
    if step.stage not in ("output", "tool_call"):
        return _Context()
    # a quarter of the room: a long prompt never crowds out the response
    prompt = head_and_tail(split_data_uris(step.prompt)[0], limits.tokens // 4) if step.prompt else ""
    if not step.prompt_images:
        return _Context(prompt)
    prepared = await media.prepare(step.prompt_images[-1], limit=1)  # the newest, whole, never tiled
    whole = prepared.views[0].picture if prepared.views else None
    if whole is None:
        cause = prepared.skipped[0].cause if prepared.skipped else "unreadable"
        plan.not_judged.append(Covered(None, "image", "the request's image, as context", cause, counts=False))
    if len(step.prompt_images) > 1:
        cause = "the model takes one image: the newest was shown"
        plan.not_judged.append(Covered(None, "image", "earlier images of the request, as context", cause, counts=False))
    return _Context(prompt, whole)


def readable(call: ToolCall) -> str:
    """A tool call as text: its name, then its arguments as lines, decoded: what is judged is what will run.

    Raises `ValueError` or `RecursionError` for arguments that no text can show (endless nesting, numbers without end).
    """
    arguments: Any = call.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):
            return f"{call.name}\n{arguments}"
    return "\n".join((call.name, *_lines(arguments, "")))


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with every pair that it holds: which of two values under one key a tool will read is not known."""


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = _Pairs(value.items())
    if isinstance(value, _Pairs):
        for key, inner in value:
            if isinstance(inner, (Mapping, list, tuple)):
                yield f"{indent}{key}:"
                yield from _lines(inner, indent + "  ")
            else:
                yield f"{indent}{key}: {inner}"
    elif isinstance(value, (list, tuple)):
        for inner in value:
            if isinstance(inner, (Mapping, list, tuple)):
                yield f"{indent}-"
                yield from _lines(inner, indent + "  ")
            else:
                yield f"{indent}- {inner}"
    elif value is not None:
        yield f"{indent}{value}"


# ---------------------------------------------------------------- asking


def _ask(step: Step, units: Sequence[_Unit], seen: list[_Seen], context: _Context, limits: Limits, plan: Plan) -> None:
    on_response = step.stage in ("output", "tool_call")
    tokens = max(64, limits.tokens - limits.tokens // 4) if on_response else limits.tokens
    windows: list[tuple[_Unit, tuple[Window, ...]]] = []
    left = limits.max_windows
    for unit in units:
        shown = _with_history(unit.text, step) if step.stage == "input" and unit.kind == "text" else unit.text
        cut = split(shown, tokens, left) if left else None
        if cut is None:
            cause = f"longer than {limits.max_windows} windows of {tokens} tokens"
            plan.not_judged.extend(Covered(part, unit.kind, "text", cause) for part in unit.parts)
        else:
            windows.append((unit, cut))
            left -= len(cut)
    beside = windows[0][1][0] if windows and windows[0][0].kind == "text" else None
    beside_unit = windows[0][0] if beside is not None else None
    views = _within_budget(seen, limits.max_requests, plan)
    # on the prompt side an image request already shows the first window: it is not asked about twice
    shown_beside = bool(views) and not on_response

    def ask(unit: _Unit, text: str, detail: str) -> None:
        covers = tuple(Covered(part, unit.kind, detail) for part in unit.parts)
        if on_response and unit.kind == "text":
            exchange = Exchange(context.prompt, context.picture, text, step.stage)
            plan.inquiries.append(Inquiry(exchange, "response", covers))
        else:
            plan.inquiries.append(Inquiry(Exchange(text, stage=step.stage), "user", covers))

    extra = limits.max_windows
    for unit, cut in windows:
        for window in cut:
            if not (shown_beside and window is beside):
                ask(unit, window.text, _detail(unit, window))
            extra -= _ask_undisguised(unit, window, tokens, min(extra, UNDISGUISED_WINDOWS), ask, plan)
    for entry in views:
        text = beside.text if beside is not None else ""
        covers: tuple[Covered, ...] = (Covered(entry.part, entry.kind, entry.view.detail),)
        if beside is not None and beside_unit is not None:
            covers += tuple(Covered(part, "text", beside.detail) for part in beside_unit.parts)
        plan.inquiries.append(Inquiry(Exchange(text, entry.view.picture, stage=step.stage), "user", covers))


def _ask_undisguised(
    unit: _Unit, window: Window, tokens: int, most: int, ask: Callable[[_Unit, str, str], None], plan: Plan
) -> int:
    """Also what the window says without its disguises, where that differs: at most `most` requests more. How many."""
    plain = normalised(window.text)
    if plain is None or not plain.strip():
        return 0
    cut = split(plain, tokens, most) if most else None
    detail = ", ".join(filter(None, (_detail(unit, window), UNDISGUISED)))
    if cut is None:
        cause = "longer than the windows that are left, once its encodings are written out"
        plan.not_judged.extend(Covered(part, unit.kind, detail, cause) for part in unit.parts)
        return 0
    for piece in cut:
        ask(unit, piece.text, ", ".join(filter(None, (detail, piece.detail))))
    return len(cut)


def _with_history(text: str, step: Step) -> str:
    """Earlier turns of the person, oldest first, before the newest: a request split over turns is seen whole."""
    return "\n".join((*step.history, text)) if step.history else text


def _detail(unit: _Unit, window: Window) -> str:
    return ", ".join(filter(None, ("text" if unit.kind != "text" else "", window.detail)))


def _within_budget(seen: list[_Seen], most: int, plan: Plan) -> list[_Seen]:
    """The riskiest views within the budget, each part's own riskiest first of all; the rest is listed as not judged."""
    if len(seen) <= most:
        return seen
    first = {entry.part: entry for entry in reversed(seen)}
    ranked = sorted(seen, key=lambda entry: (first[entry.part] is not entry, -entry.view.risk))
    for entry in ranked[most:]:
        cause = f"over the budget of {most} requests a step"
        plan.not_judged.append(Covered(entry.part, entry.kind, entry.view.detail, cause))
    return ranked[:most]


def with_parts(step: Step, parts: Mapping[int, Part | None]) -> tuple[Step | None, tuple[int, ...]]:
    """The step with some parts replaced or left out, and which original index each remaining part has."""
    kept = [(index, parts.get(index, part)) for index, part in enumerate(step.parts)]
    remaining = [(index, part) for index, part in kept if part is not None]
    if not any(not isinstance(part, Text) or part.text.strip() for _, part in remaining):
        return None, ()
    return replace(step, parts=tuple(part for _, part in remaining)), tuple(index for index, _ in remaining)
