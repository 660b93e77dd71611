"""What was read of a step → the exchanges that put it to the model.

Every window of a long text is judged once; every view of an image once, with the first window of the newest text beside
it; never their product. Of a text that is too long the beginning is judged where the policy lets something of it pass.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from turnguard.checking.check import Inquiry, Limits, Plan
from turnguard.checking.trim import Kept, longer_than
from turnguard.core.exchange import Exchange, OwnCategories, Picture
from turnguard.core.step import Kind, Step
from turnguard.core.verdict import Covered
from turnguard.media import View
from turnguard.text.undisguise import across_seams, undisguise
from turnguard.text.windows import Head, Window, head, split, too_long

UNDISGUISED = "as normalised"
UNDISGUISED_WINDOWS = 4
"""Windows that one window may become when its encodings are written out."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Text that is judged together, the parts that it came from, and where the text of each begins and ends."""

    text: str
    parts: tuple[int, ...]
    kind: Kind = "text"
    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def joined(cls, texts: Mapping[int, str]) -> Unit:
        """The texts of several parts, a line break between them."""
        spans: list[tuple[int, int]] = []
        at = 0
        for text in texts.values():
            spans.append((at, at + len(text)))
            at += len(text) + 1
        return cls("\n".join(texts.values()), tuple(texts), "text", tuple(spans))

    def until(self, end: int) -> Unit:
        """The same without the parts that begin behind `end`."""
        shown = sum(start < end for start, _ in self.spans)
        return self if shown in (0, len(self.spans)) else replace(self, parts=self.parts[:shown])

    def within(self, window: Window) -> Unit:
        """The same with only the parts that a window of this text shows."""
        if window.of == 1 or len(self.spans) < 2:
            return self
        first = bisect_left(self.spans, window.start, key=lambda span: span[1])
        last = bisect_right(self.spans, window.start + len(window.text), key=lambda span: span[0])
        shown = self.parts[first:last]
        return replace(self, parts=shown) if shown else self


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
    step: Step,
    units: Sequence[Unit],
    seen: list[Seen],
    context: Context,
    limits: Limits,
    plan: Plan,
    own: OwnCategories | None = None,
) -> None:
    """Add to the plan what will be asked about the units of text and the views, within the limits.

    `own` are the policy's own categories, which every request is told about.
    """
    on_response = step.stage in ("output", "tool_call")
    tenant = step.metadata.get("tenant")
    tokens = max(64, limits.tokens - limits.tokens // 4) if on_response else limits.tokens
    windows = _windows(step, units, tokens, limits, plan)
    beside, beside_unit = _beside(step, units, windows, tokens) if seen else (None, None)
    views = seen if len(seen) <= limits.max_requests else _within_budget(seen, limits.max_requests, plan)
    # on the prompt side an image request already shows the first window: it is not asked about twice
    shown_beside = bool(views) and not on_response and beside_unit is not None

    def ask(unit: Unit, text: str, detail: str) -> None:
        covers = tuple([Covered(part, unit.kind, detail) for part in unit.parts])
        if on_response and unit.kind == "text":
            exchange = Exchange(context.prompt, context.picture, text, step.stage, own, tenant)
            plan.inquiries.append(Inquiry(exchange, "response", covers, unit.parts))
        else:
            exchange = Exchange(text, stage=step.stage, own=own, tenant=tenant)
            plan.inquiries.append(Inquiry(exchange, "user", covers, unit.parts))

    extra = limits.max_windows
    for unit, cut in windows:
        for window in cut:
            detail = window.detail if unit.kind == "text" else _joined("text", window.detail)
            shows = unit.within(window)
            undone = undisguise(window.text)
            if not (shown_beside and window is beside) or undone.beside:
                ask(shows, "\n".join(filter(None, (window.text, undone.beside))), detail)
            if undone.bound is not None:
                cause = f"undisguising reached its bound ({undone.bound})"
                plan.not_judged.extend(Covered(part, unit.kind, detail, cause) for part in shows.parts)
            if undone.plain is not None and undone.plain.strip():
                cut_again = split(undone.plain, tokens, min(extra, UNDISGUISED_WINDOWS)) if extra else None
                extra -= _ask_undisguised(shows, cut_again, _joined(detail, UNDISGUISED), ask, plan)
        texts = [unit.text[start:end] for start, end in unit.spans] if len(unit.spans) > 1 else []
        seams = across_seams([text for text in texts if text != step.tool]) if texts else None
        if seams is not None:
            seams = undisguise(seams).plain or seams
            cut_again = split(seams, tokens, extra) if extra else None  # many short parts have as many seams
            extra -= _ask_undisguised(unit, cut_again, "as read across its parts", ask, plan)
    for entry in views:
        text = beside.text if beside is not None else ""
        covers: tuple[Covered, ...] = (Covered(entry.part, entry.kind, entry.view.detail),)
        parts: tuple[int, ...] = (entry.part,)
        if beside is not None and beside_unit is not None:
            covers += tuple(Covered(part, "text", beside.detail) for part in beside_unit.parts)
            parts = tuple(dict.fromkeys((entry.part, *beside_unit.parts)))
        exchange = Exchange(text, entry.view.picture, stage=step.stage, own=own, tenant=tenant)
        plan.inquiries.append(Inquiry(exchange, "user", covers, parts))


def _windows(
    step: Step, units: Sequence[Unit], tokens: int, limits: Limits, plan: Plan
) -> list[tuple[Unit, tuple[Window, ...]]]:
    """The windows of each unit, at most `max_windows` together, of which each unit may have at least one."""
    windows: list[tuple[Unit, tuple[Window, ...]]] = []
    left = limits.max_windows
    # a request that is split over turns is seen whole: the person's earlier turns come first, the oldest before all
    history = "\n".join((*step.history, "")) if step.history and step.stage == "input" else ""
    for number, unit in enumerate(units):
        earlier = history if unit.kind == "text" else ""
        shown = earlier + unit.text
        most = max(1, left - (len(units) - number - 1)) if left else 0
        if len(shown) > tokens * most > 0 and unit.kind not in limits.partly and too_long(shown, tokens, most):
            first = head(shown, tokens, 1)  # nothing of it can pass: how much would fit is only estimated
            end, keep = (min(at * most, len(shown) - 1) for at in (first.end, first.keep))
            found = first._replace(end=end, keep=keep)
        else:
            found = head(shown, tokens, most) if most else Head((), 0, 0)
        if found.end < len(shown):
            before = shown[: found.end] if most else "".join(entry.text for entry, _ in windows)
            _cut(unit, found.keep - len(earlier), longer_than(before), plan, anything=bool(windows))
            if unit.kind not in limits.partly:
                continue  # nothing of it can pass, so nothing of it is asked about
        if found.windows:
            judged = unit if found.end == len(shown) else unit.until(found.end - len(earlier))
            # windows count from the unit's own text, which the earlier turns stand before
            own = (window._replace(start=window.start - len(earlier)) for window in found.windows)
            windows.append((judged, tuple(own) if earlier else found.windows))
            left -= len(found.windows)
    return windows


def _cut(unit: Unit, keep: int, cause: str, plan: Plan, *, anything: bool) -> None:
    """Note which parts of a unit go beyond `keep`, and how much of them comes before it. `anything`: whether something
    of the step was judged before.
    """
    for part, (start, end) in zip(unit.parts, unit.spans or ((0, len(unit.text)),) * len(unit.parts), strict=True):
        if end > keep:
            kept = unit.text[start : max(start, keep)]
            trims = anything or bool(unit.text[: max(0, keep)].strip())
            detail = f"text from character {len(kept) + 1:,} on" if kept else "text"
            plan.not_judged.append(Covered(part, unit.kind, detail, cause, trims=trims))
            plan.kept[part] = Kept(kept, end - start)


def _beside(
    step: Step, units: Sequence[Unit], windows: Sequence[tuple[Unit, tuple[Window, ...]]], tokens: int
) -> tuple[Window | None, Unit | None]:
    """The window that stands beside each picture, and the unit whose own request for it that spares.

    It is the beginning of what the person says now, never of what they said before.
    """
    if step.stage == "input" and step.history:
        newest = next((unit.text for unit in units if unit.kind == "text" and unit.text.strip()), step.history[-1])
        return head(newest, tokens, 1).windows[0], None
    first = windows[0] if windows and windows[0][0].kind == "text" else None
    return (None, None) if first is None else (first[1][0], first[0].within(first[1][0]))


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
    """Return the views that fit the budget and list the others as not judged.

    The riskiest view of each part comes first, then all others by their risk.
    """
    first = {entry.part: entry for entry in reversed(seen)}
    ranked = sorted(seen, key=lambda entry: (first[entry.part] is not entry, -entry.view.risk))
    for entry in ranked[most:]:
        cause = f"over the budget of {most} requests a step"
        trims = entry.kind == "document" and entry.part in plan.kept
        plan.not_judged.append(Covered(entry.part, entry.kind, entry.view.detail, cause, trims=trims))
    return ranked[:most]


def _joined(*details: str) -> str:
    return ", ".join(filter(None, details))
