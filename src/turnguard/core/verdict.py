"""What the moderator said, and which parts it saw. A verdict is never a decision: the policy makes that of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from turnguard.core.step import Kind

Label = Literal["safe", "unsafe"]
Failure = Literal["unparseable", "unavailable", "timeout", "rejected"]
Side = Literal["user", "response"]
"""Which label decides: the prompt side's or the response side's."""
MAX_REASONING = 16_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the moderator said of one exchange, or of a whole step when merged.

    `user` and `response` are absent (None) when that side was not rated. `p_user` and `p_response` are P(unsafe) in
    0..1 where the server gives logprobs. `categories` is one flat list without attribution to a side (model card). A
    failed verdict has `failure` set and no labels: it is neither safe nor unsafe. `latency` is in seconds. `identity`
    names the model behind the endpoint that answered, in more detail than `model`: the verdict is remembered under it.
    `tokens` are those of the prompt and of the reply, where the server counts them. `native` are the categories in the
    family's own words where those are not the taxonomy's. `reasoning` is what the model thought before its verdict, at
    most `MAX_REASONING` characters; nothing is ever decided by it. `block_only` says that whoever gave it may block but
    never allow. `looks` are both verdicts where a second look was taken; this one then shows what they come to.
    """

    user: Label | None = None
    response: Label | None = None
    categories: tuple[str, ...] = ()
    unknown_categories: tuple[str, ...] = field(default=(), repr=False)
    p_user: float | None = None
    p_response: float | None = None
    failure: Failure | None = None
    cause: str | None = None
    raw: str | None = field(default=None, repr=False)
    model: str | None = None
    latency: float | None = None
    remembered: bool = False
    identity: str | None = field(default=None, repr=False, compare=False)
    tokens: tuple[int, int] | None = field(default=None, repr=False, compare=False)
    native: tuple[str, ...] = ()
    reasoning: str | None = field(default=None, repr=False)
    block_only: bool = False
    looks: Looks | None = field(default=None, repr=False)

    @property
    def p_unsafe(self) -> float | None:
        """P(unsafe) of the deciding label: the response's where a response was rated, else the user's."""
        return self.p_user if self.response is None else self.p_response

    def label(self, side: Side) -> Label | None:
        """The label of one side."""
        return self.user if side == "user" else self.response

    def p(self, side: Side) -> float | None:
        """P(unsafe) of one side."""
        return self.p_user if side == "user" else self.p_response


Deciding = Literal["first", "second", "both"]


@dataclass(frozen=True, slots=True)
class Looks:
    """Two verdicts on the same content, and which of them the policy decides by.

    `both`: each is decided, and the strictest decision counts. `second` has a `failure` where the second look failed;
    the first one then decides.
    """

    first: Verdict
    second: Verdict
    decides: Deciding

    @property
    def deciding(self) -> tuple[Verdict, ...]:
        """The verdicts to decide by."""
        if self.decides == "both":
            return (self.first, self.second)
        return (self.first,) if self.decides == "first" else (self.second,)


def looked_twice(looks: Looks) -> Verdict:
    """What two looks come to, as one verdict for display."""
    shown = _merged(looks.deciding)
    remembered = looks.first.remembered and looks.second.remembered
    latency = (looks.first.latency or 0.0) + (looks.second.latency or 0.0)
    return replace(shown, looks=looks, remembered=remembered, latency=latency)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One exchange's verdict, which label of it decides, and which parts of the step it speaks of.

    `detail` names the frame, page, tile or window in plain words; it is empty when the exchange held the whole part.
    """

    verdict: Verdict
    decides: Side
    parts: tuple[int, ...]
    detail: str = ""
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Covered:
    """One entry of a coverage list: the part's index (None: the step's context), its kind, which detail of it, and why
    not.

    `counts` is False for what needs no judgement (an empty part, a trusted role, a tile of one colour): it is listed,
    and `on_uncheckable` does not apply to it; nor does it where the moderator `failed`, which `on_failure` decides.
    `trims` is True where what was not judged can be cut off, because the rest of the text stands by itself.
    """

    part: int | None
    kind: Kind
    detail: str = ""
    cause: str | None = None
    counts: bool = True
    trims: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Reduced:
    """A part, or a frame or page of it, that was judged whole but at a lower resolution than it has.

    `scale` is the smaller axis of shown / original pixels in the finest view, 0 to 1.
    """

    part: int | None
    kind: Kind
    detail: str
    scale: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which parts were judged, which were not and why, and which were judged at a lower resolution than they have."""

    judged: tuple[Covered, ...] = ()
    not_judged: tuple[Covered, ...] = ()
    reduced: tuple[Reduced, ...] = ()

    @property
    def complete(self) -> bool:
        """True when everything that needs a judgement had one, at its full resolution."""
        return not self.reduced and not any(entry.counts or entry.failed for entry in self.not_judged)


def merged(judgements: Iterable[Judgement]) -> Verdict:
    """One verdict for display: unsafe if any is, categories united, P(unsafe) the highest, the first failure kept.

    Deciding never reads this: each exchange is decided on its own.
    """
    return _merged([judgement.verdict for judgement in judgements])


def _merged(verdicts: Sequence[Verdict]) -> Verdict:
    if len(verdicts) == 1:
        return verdicts[0]
    failed = next((verdict for verdict in verdicts if verdict.failure), None)
    latencies = [verdict.latency for verdict in verdicts if verdict.latency is not None]
    return Verdict(
        user=_either(verdict.user for verdict in verdicts),
        response=_either(verdict.response for verdict in verdicts),
        categories=_united(verdict.categories for verdict in verdicts),
        unknown_categories=_united(verdict.unknown_categories for verdict in verdicts),
        p_user=max((verdict.p_user for verdict in verdicts if verdict.p_user is not None), default=None),
        p_response=max((verdict.p_response for verdict in verdicts if verdict.p_response is not None), default=None),
        failure=failed.failure if failed else None,
        cause=failed.cause if failed else None,
        raw="\n\n".join(verdict.raw for verdict in verdicts if verdict.raw is not None) or None,
        model=next((verdict.model for verdict in verdicts if verdict.model), None),
        latency=max(latencies, default=None),
        remembered=bool(verdicts) and all(verdict.remembered for verdict in verdicts),
        native=_united(verdict.native for verdict in verdicts),
        reasoning="\n\n".join(verdict.reasoning for verdict in verdicts if verdict.reasoning)[:MAX_REASONING] or None,
    )


def _either(labels: Iterable[Label | None]) -> Label | None:
    seen = set(labels)
    return "unsafe" if "unsafe" in seen else "safe" if "safe" in seen else None


def _united(lists: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in lists for name in names))
