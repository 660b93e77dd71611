"""One check: a step on its way to a decision. `prepare`, `judge` and `apply` each fill in their part of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from turnguard.checking.arguments import Shown, shown, shown_call
from turnguard.checking.trim import Kept
from turnguard.core.decision import Outcome
from turnguard.core.errors import ConfigError
from turnguard.core.exchange import Exchange
from turnguard.core.policy import Policy
from turnguard.core.step import Document, Image, Kind, Part, Step, Text, ToolCall, ToolDefinition
from turnguard.core.verdict import Coverage, Covered, Judgement, Reduced, Side
from turnguard.media import Fetches, Media, split_data_uris
from turnguard.moderators.base import Deadline, Moderator
from turnguard.text.own_messages import OwnWords

if TYPE_CHECKING:
    from turnguard.config.settings import MediaSettings, ModeratorSettings


@dataclass(slots=True)
class Setup:
    """What every check of one guard uses. `policies` are the named ones."""

    policy: Policy
    policies: Mapping[str, Policy]
    moderator: Moderator
    media: Media
    own_words: OwnWords
    moderator_settings: ModeratorSettings
    media_settings: MediaSettings

    def chosen(self, policy: str | Policy | None) -> Policy:
        """The policy of that name; without one the guard's own. One that was chosen before stays what it is.

        Raises `ConfigError` for an unknown name.
        """
        if policy is None:
            return self.policy
        if isinstance(policy, Policy):
            return policy
        if not isinstance(policy, str):
            raise TypeError(f"a policy is chosen by its name, not by {type(policy).__name__}")
        try:
            return self.policies[policy]
        except KeyError:
            raise ConfigError(_unknown(policy, self.policies)) from None


def _unknown(name: str, policies: Mapping[str, Policy]) -> str:
    near = get_close_matches(name, policies, n=1, cutoff=0.0)
    known = f", did you mean {near[0]!r}?" if near else ": the guard has none; name files under 'policies:'"
    return f"unknown policy {name!r}{known}"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much goes into one request, and how many requests a step may make. `partly` names the kinds of text of which
    the beginning is judged where the rest is too long. `images`: whether the moderator judges pictures.
    """

    tokens: int
    max_windows: int
    max_requests: int
    partly: frozenset[Kind] = frozenset()
    images: bool = True


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One exchange to judge, which label decides, what of the step it covers, and the indexes of the parts it shows."""

    exchange: Exchange
    decides: Side
    covers: tuple[Covered, ...]
    parts: tuple[int, ...]


@dataclass(slots=True)
class Plan:
    """What will be asked about a step, what cannot be, and the parts as they will be passed on (pinned).

    `kept` is each part that can be cut, as far as it is judged. `failed` stands for the whole step where
    preparing it failed: then nothing is asked.
    """

    parts: list[Part]
    inquiries: list[Inquiry] = field(default_factory=list)
    not_judged: list[Covered] = field(default_factory=list)
    reduced: list[Reduced] = field(default_factory=list)
    kept: dict[int, Kept | Image | Document] = field(default_factory=dict)
    failed: Judgement | None = None


NOTHING = Coverage()
UNDECIDED = Outcome("block")


@dataclass(slots=True)
class Check:
    """A step, what it is judged with and by when; then what each stage of the pipeline found.

    `heavy` says whether anything must be decoded or fetched; `shown` are the parts that are text, calls and definitions
    of tools among them, by their index: with placeholders where `data:` URIs stood, and what those held. `prepare`
    fills in `plan`; `judge` the judgements, the coverage and the outcome. `started` is a moment of `perf_counter`.
    `fetches` keeps what was fetched for this step.
    """

    step: Step
    setup: Setup
    policy: Policy
    shown: Mapping[int, Shown]
    heavy: bool
    deadline: Deadline
    started: float
    plan: Plan
    fetches: Fetches | None = None
    judgements: tuple[Judgement, ...] = ()
    coverage: Coverage = NOTHING
    outcome: Outcome = UNDECIDED

    @classmethod
    def of(cls, step: Step, setup: Setup, policy: Policy) -> Check:
        """A check that begins now. Its one deadline is longer where pictures or documents must be read."""
        structured, heavy = _looked_at(step)
        seconds = setup.media_settings.deadline if heavy else setup.moderator_settings.deadline
        started, deadline = time.perf_counter(), Deadline(time.monotonic() + seconds)
        return cls(step, setup, policy, structured, heavy, deadline, started, Plan(list(step.parts)))

    def again(self, step: Step) -> Check:
        """A check of a rewritten step, before the same deadline."""
        structured, heavy = _looked_at(step)
        return replace(self, step=step, shown=structured, heavy=heavy, plan=Plan(list(step.parts)))


def _looked_at(step: Step) -> tuple[dict[int, Shown], bool]:
    """The parts that are text, and whether anything in the step must be decoded or fetched."""
    texts: dict[int, Shown] = {}
    heavy = bool(step.prompt_images)
    for index, part in enumerate(step.parts):
        if isinstance(part, Text):
            found = Shown(part.text)
        elif isinstance(part, (ToolCall, ToolDefinition)):
            found = shown_call(part) if isinstance(part, ToolCall) else shown(part.definition)
        else:
            heavy = heavy or isinstance(part, (Image, Document))
            continue
        text, files = split_data_uris(found.text)
        texts[index] = Shown(text, (*files, *found.files), found.missed)
        heavy = heavy or bool(files or found.files)
    return texts, heavy
