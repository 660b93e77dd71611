"""What was read of a step → the exchanges that put it to the model.

Every window of a long text is judged once; every view of an image once, with the first window beside it; never their
product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnguard.checking.check import Inquiry, Limits, Plan
from turnguard.core.exchange import Exchange, Picture
from turnguard.core.step import Kind, Step
from turnguard.core.verdict import Covered
from turnguard.media import View
from turnguard.text.undisguise import normalised
from turnguard.text.windows import Window, split

UNDISGUISED = "as normalised"
UNDISGUISED_WINDOWS = 4
"""Windows that one window may become when its encodings are written out."""


@dataclass(slots=True)
class Unit:
    """Text that is judged together, and the parts that it came from."""

    text: str
    parts: tuple[int, ...]
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Seen:
    """A view of a part that is a picture or holds one."""

    view: View
    part: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Context:
    """The request that an output or a call answers."""

    prompt: str = ""
    picture: Picture | None = None


def add_requests(
    step: Step, units: Sequence[Unit], seen: list[Seen], context: Context, limits: Limits, plan: Plan
) -> None:
    """Add to the plan what will be asked about the units of text and the views, within the limits."""
    on_response = step.stage in ("output", "tool_call")
    tokens = max(64, limits.tokens - limits.tokens // 4) if on_response else limits.tokens
    windows: list[tuple[Unit, tuple[Window, ...]]] = []
    left = limits.max_windows
    for unit in units:
        shown = unit.text
        if step.history and step.stage == "input" and unit.kind == "text":
            # earlier turns of the person, oldest first: a request that is split over turns is seen whole
            shown = "\n".join((*step.history, shown))
        cut = split(shown, tokens, left) if left else None
        if cut is None:
            cause = f"longer than {limits.max_windows} windows of {tokens} tokens"
            plan.not_judged.extend(Covered(part, unit.kind, "text", cause) for part in unit.parts)
        else:
            windows.append((unit, cut))
            left -= len(cut)
    beside = windows[0][1][0] if windows and windows[0][0].kind == "text" else None
    beside_unit = windows[0][0] if beside is not None else None
    views = seen if len(seen) <= limits.max_requests else _within_budget(seen, limits.max_requests, plan)
    # on the prompt side an image request already shows the first window: it is not asked about twice
    shown_beside = bool(views) and not on_response

    def ask(unit: Unit, text: str, detail: str) -> None:
        covers = tuple([Covered(part, unit.kind, detail) for part in unit.parts])
        if on_response and unit.kind == "text":
            exchange = Exchange(context.prompt, context.picture, text, step.stage)
            plan.inquiries.append(Inquiry(exchange, "response", covers, unit.parts))
        else:
            plan.inquiries.append(Inquiry(Exchange(text, stage=step.stage), "user", covers, unit.parts))

    extra = limits.max_windows
    for unit, cut in windows:
        for window in cut:
            detail = window.detail if unit.kind == "text" else _joined("text", window.detail)
            if not (shown_beside and window is beside):
                ask(unit, window.text, detail)
            plain = normalised(window.text)
            if plain is not None and plain.strip():
                cut_again = split(plain, tokens, min(extra, UNDISGUISED_WINDOWS)) if extra else None
                extra -= _ask_undisguised(unit, cut_again, _joined(detail, UNDISGUISED), ask, plan)
    for entry in views:
        text = beside.text if beside is not None else ""
        covers: tuple[Covered, ...] = (Covered(entry.part, entry.kind, entry.view.detail),)
        shows: tuple[int, ...] = (entry.part,)
        if beside is not None and beside_unit is not None:
            covers += tuple(Covered(part, "text", beside.detail) for part in beside_unit.parts)
            shows = tuple(dict.fromkeys((entry.part, *beside_unit.parts)))
        plan.inquiries.append(Inquiry(Exchange(text, entry.view.picture, stage=step.stage), "user", covers, shows))


def _ask_undisguised(
    unit: Unit, cut: Sequence[Window] | None, detail: str, ask: Callable[[Unit, str, str], None], plan: Plan
) -> int:
    """Also ask what a window says without its disguises, where that differs. Gives the number of requests added."""
    if cut is None:
        cause = "longer than the windows that are left, once its encodings are written out"
        plan.not_judged.extend(Covered(part, unit.kind, detail, cause) for part in unit.parts)
        return 0
    for piece in cut:
        ask(unit, piece.text, _joined(detail, piece.detail))
    return len(cut)


def _within_budget(seen: list[Seen], most: int, plan: Plan) -> list[Seen]:
    """The riskiest views within the budget, each part's own riskiest first of all; the rest is listed as not judged."""
    first = {entry.part: entry for entry in reversed(seen)}
    ranked = sorted(seen, key=lambda entry: (first[entry.part] is not entry, -entry.view.risk))
    for entry in ranked[most:]:
        cause = f"over the budget of {most} requests a step"
        plan.not_judged.append(Covered(entry.part, entry.kind, entry.view.detail, cause))
    return ranked[:most]


def _joined(*details: str) -> str:
    return ", ".join(filter(None, details))
