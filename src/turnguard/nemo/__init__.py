"""The NeMo Guardrails wing: `guarded` engines, and rails for `LLMRails` as a YAML drop-in.

NeMo reports usage to its maker over the network unless `NEMO_GUARDRAILS_NO_USAGE_STATS=1` or `DO_NOT_TRACK=1` is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnguard.nemo.guarded import GuardedEngine, guarded
from turnguard.nemo.paths import make_importable

if TYPE_CHECKING:
    from turnguard.nemo.load import checked_rails, guard_of

make_importable()

__all__ = ["GuardedEngine", "checked_rails", "guard_of", "guarded"]


def __getattr__(name: str) -> Any:
    """The drop-in, which needs parts of NeMo that `guarded` does not."""
    if name not in ("checked_rails", "guard_of"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from turnguard.nemo import load
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "nemoguardrails":
            raise
        from turnguard.core.errors import ConfigError

        raise ConfigError(
            f"{name} needs nemoguardrails, which is not installed: pip install 'turnguard[nemo]'"
        ) from error
    return getattr(load, name)
