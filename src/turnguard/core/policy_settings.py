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

    action: Action = Field(description="What happens: allow, flag, rewrite, review or block.")
    way: Literal["redact", "replace", "drop"] = Field(
        "replace",
        alias="with",
        description="How a rewrite is done: replace the text by a notice, drop the part, or redact the unsafe pieces.",
    )
    above: _Threshold | None = Field(
        None, description="The rule fires only when P(unsafe) is greater than this; else 'otherwise' applies."
    )
    otherwise: Annotated[RuleSettings, BeforeValidator(_spelled_out)] | None = Field(
        None, description="The action below 'above'; flag when it is not given."
    )


class OwnSettings(RuleSettings):
    """A category of your own: what the moderator is told about it, and its rule."""

    definition: str = Field(description="What the category is, in a sentence or two; at most 4,000 characters.")
    disallowed: tuple[str, ...] = Field((), description="Examples of what falls under it.")
    allowed: tuple[str, ...] = Field((), description="Examples of what does not, though it may look like it.")


_RuleSettings = Annotated[RuleSettings, BeforeValidator(_spelled_out)]
_Uncheckable = UncheckableAction | dict[Kind, UncheckableAction]
_Reduced = _FailureAction | dict[Literal["image", "document"], _FailureAction]


class StageSettings(Section):
    """What one stage decides for itself."""

    default: _RuleSettings | None = Field(
        None, description="At this stage: a category with no rule of its own here or in policy.categories."
    )
    categories: dict[str, _RuleSettings] = Field(
        default_factory=dict, description="At this stage: a rule per category, before policy.categories."
    )
    unsafe_above: _Threshold | None = Field(
        None, description="Unsafe from this P(unsafe) on, whatever the label says. Needs logprobs."
    )
    on_failure: _FailureAction | None = Field(None, description="At this stage: when the moderator gave no verdict.")
    on_uncheckable: _Uncheckable | None = Field(
        None, description="At this stage: what cannot be judged, or an action per kind."
    )
    on_reduced: _Reduced | None = Field(
        None, description="At this stage: what is judged at a low resolution, or an action per kind."
    )


class PolicySettings(Section):
    """The policy. An empty one blocks whatever the model calls unsafe, and passes nothing that could not be judged."""

    default: _RuleSettings = Field(
        RuleSettings(action="block"), description="A category with no rule; an unsafe verdict with no category."
    )
    categories: dict[str, _RuleSettings] = Field(
        default_factory=dict, description="A rule per category, for all stages."
    )
    custom: dict[str, OwnSettings] = Field(
        default_factory=dict,
        description="Categories of your own, where the family takes them: a definition, examples, and a rule.",
    )
    custom_policy: str | None = Field(
        None,
        description="A policy in your own words, where the family takes one. It replaces the model's categories: what "
        "breaks it is unsafe.",
    )
    stages: dict[Stage, StageSettings] = Field(
        default_factory=dict,
        description="A stage's own rules: input, retrieval, tool_call, tool_result, output, tools.",
    )
    on_failure: _FailureAction = Field(
        "block", description="The moderator gave no verdict: block, review, flag or allow; per stage too."
    )
    on_uncheckable: _Uncheckable | None = Field(
        None,
        description="What cannot be judged, per kind; one word sets all. It blocks by default, but text and documents "
        "of tool results and retrievals are trimmed, and so is a film behind a picture.",
    )
    on_reduced: _Reduced | None = Field(
        None, description="Judged whole, but too coarsely for 12-pixel print; one word sets both."
    )
    calibration: str | None = Field(None, description="A file that `turnguard calibrate` wrote.")
    shadow: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="A file that holds a policy to try: decided from the same verdicts, without any effect."
    )
    messages: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="What the person reads: per category, default, failure, uncheckable, removed, cut or left_out.",
    )


RuleSettings.model_rebuild()
