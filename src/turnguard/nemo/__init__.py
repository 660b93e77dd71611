"""The NeMo Guardrails wing: rails for every stage as a YAML drop-in (`import_paths: [turnguard/rails]`).

NeMo reports usage to its maker over the network unless `NEMO_GUARDRAILS_NO_USAGE_STATS=1` or `DO_NOT_TRACK=1` is set.
"""

from turnguard.nemo.engine import make_importable
from turnguard.nemo.load import checked_rails, guard_of

make_importable()

__all__ = ["checked_rails", "guard_of"]
