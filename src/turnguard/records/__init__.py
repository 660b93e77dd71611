"""What was decided and why: the audit file, and a database of records, policies and reviews. No content unless asked
for.
"""

from turnguard.records.audit import Audit
from turnguard.records.audit_lines import replay
from turnguard.records.keep import Kept
from turnguard.records.reviews import Reviews, open_reviews

__all__ = ["Audit", "Kept", "Reviews", "open_reviews", "replay"]
