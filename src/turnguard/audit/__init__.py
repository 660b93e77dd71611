"""One JSON line per decision: enough to explain it, and to decide again under another policy. No content unless asked
for.
"""

from turnguard.audit.replaying import replay
from turnguard.audit.writing import Audit

__all__ = ["Audit", "replay"]
