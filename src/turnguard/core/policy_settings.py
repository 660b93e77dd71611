"""The shape of `policy:` in the YAML."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from turnguard.core.action import Action
from turnguard.core.step import Kind, Stage
from turnguard.core.validate import Section

_FailureAction = Literal["allow", "flag", "review", "block"]
UncheckableAction = Literal["allow", "flag", "trim", "review", "block"]
_Threshold = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]


def _spelled_out(value: Any) -> Any:
    """`Profanity: flag` is short for `Profanity: {action: flag}`."""
    return {"action": value} if isinstance(value, str) else value


class RuleSettings(Section):
    """`flag`, or `{action: rewrite, with: redact}`, or `{action: block, above: 0.85, otherwise: flag}`."""

    action: Action
    way: Literal["redact", "replace", "drop"] = Field("replace", alias="with")
    above: _Threshold | None = None
    otherwise: Annotated[RuleSettings, BeforeValidator(_spelled_out)] | None = None


_RuleSettings = Annotated[RuleSettings, BeforeValidator(_spelled_out)]
_Uncheckable = UncheckableAction | dict[Kind, UncheckableAction]
_Reduced = _FailureAction | dict[Literal["image", "document"], _FailureAction]


class StageSettings(Section):
    """What one stage decides for itself."""

    default: _RuleSettings | None = None
    categories: dict[str, _RuleSettings] = Field(default_factory=dict)
    unsafe_above: _Threshold | None = None
    on_failure: _FailureAction | None = None
    on_uncheckable: _Uncheckable | None = None
    on_reduced: _Reduced | None = None


class PolicySettings(Section):
    """The policy. An empty one blocks whatever the model calls unsafe, and passes nothing that could not be judged."""

    default: _RuleSettings = RuleSettings(action="block")
    categories: dict[str, _RuleSettings] = Field(default_factory=dict)
    stages: dict[Stage, StageSettings] = Field(default_factory=dict)
    on_failure: _FailureAction = "block"
    on_uncheckable: _Uncheckable | None = None
    on_reduced: _Reduced | None = None
    calibration: str | None = None
    messages: dict[str, dict[str, str]] = Field(default_factory=dict)


RuleSettings.model_rebuild()
