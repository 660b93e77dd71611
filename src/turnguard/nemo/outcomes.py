"""Decisions → NeMo's `RailOutcome`, with everything that explains it in `metadata` and no content."""

from __future__ import annotations

from collections.abc import Sequence

from nemoguardrails.actions.rail_outcome import RailOutcome, TransformTarget

from turnguard.core.decision import Decision
from turnguard.nemo.reports import metadata_of, strictest


def outcome(
    decisions: Sequence[Decision], rewritten: dict[str, str] | None = None, *, refused: str | None = None
) -> RailOutcome:
    """The outcome of one rail. `rewritten` maps NeMo's variables (`user_message`, ...) to their new text; `refused` is
    what to tell the person where a rewrite cannot be carried out, which is then a block.
    """
    decisive = strictest(decisions)
    if decisive is None:
        return RailOutcome.allow(reason="nothing to judge", metadata={"action": "allow", "message": ""})
    metadata = metadata_of(decisions, decisive)
    reason = decisive.summary()
    if decisive.withheld:
        if decisive.failed:
            return RailOutcome.failure(reason=reason, metadata=metadata)
        return RailOutcome.block(reason=reason, metadata=metadata)
    if refused is not None:
        return RailOutcome.block(reason=reason, metadata={**metadata, "action": "block", "message": refused})
    if rewritten:
        targets = [(TransformTarget(name), text) for name, text in rewritten.items()]
        return RailOutcome.transform(targets, reason=reason, metadata=metadata)
    return RailOutcome.allow(reason=reason, metadata=metadata)
