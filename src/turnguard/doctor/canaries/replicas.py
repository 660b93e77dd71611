"""Check that all replicas run the same version and settings."""

from __future__ import annotations

from collections.abc import Sequence

from turnguard.doctor.canaries import Seen
from turnguard.doctor.findings import Told, failed, note


def replicas(seen: Seen) -> Told | None:
    """Replies that carry different fingerprints come from servers of different versions or settings."""
    prints = sorted({heard.fingerprint for heard in (seen.contact, *seen.heard.values()) if heard.fingerprint})
    if len(prints) > 1:
        return note(
            f"Replies carry {len(prints)} different system_fingerprints: servers of different versions stand behind "
            "this address.",
            _ALIKE,
        )
    return None


def between(all_seen: Sequence[Seen]) -> Told | None:
    """Replicas of one list must serve the same model with the same context."""
    kinds = {(str(seen.card.get("root")), seen.card.get("max_model_len")) for seen in all_seen if seen.card}
    if len(kinds) < 2:
        return None
    told = "; ".join(f"{root}, max_model_len {limit}" for root, limit in sorted(kinds, key=str))
    return failed(f"The replicas are not alike: {told}.", _ALIKE)


_ALIKE = "Start all of them from one image with the same flags."
