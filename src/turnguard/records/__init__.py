"""One JSON line per decision: enough to explain it and to decide again. No content unless asked for."""

from turnguard.records.audit import Audit
from turnguard.records.replay import replay
from turnguard.records.reviews import Reviews, open_reviews

__all__ = ["Audit", "Reviews", "open_reviews", "replay"]
