"""What each family of moderators can do: data alone, so that configuration and lint read it without any moderator.

How a family is asked and read is in `turnguard.moderators.families`, one file each. Native categories map to the
taxonomy here; one that the taxonomy has no name for is `Other`, and the verdict keeps its native name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from turnguard.core.taxonomy import CATEGORIES

DEFAULT = "nemotron-3"


@dataclass(frozen=True, slots=True)
class Family:
    """What the models of one family can do.

    `hub` is where its weights are published, and `models` are pieces of model ids by which such a model is recognised.
    `pictures` is the most that one request takes (0: none). `labels`: with a response beside the prompt the model
    rates `both`, or only the `response`. `labels_only`: it can be asked to name no categories. `categories` maps native
    names to the taxonomy. `own_categories`: it takes definitions of other categories in a request. `controversial`: it
    has a third label between safe and unsafe. `probability` says at which token P(unsafe) is read.
    """

    name: str
    title: str
    hub: str
    models: tuple[str, ...]
    categories: Mapping[str, str] = field(repr=False)
    probability: str
    pictures: int = 0
    labels: Literal["both", "response"] = "both"
    labels_only: bool = False
    own_categories: bool = False
    reasoning: bool = False
    controversial: bool = False

    @property
    def images(self) -> bool:
        """Whether it judges pictures at all."""
        return self.pictures > 0

    @property
    def reaches(self) -> frozenset[str]:
        """Every category of the taxonomy that a verdict of this family can name."""
        return frozenset(self.categories.values())


_NEMOTRON = {name: name for name in CATEGORIES if name != "Economic Harm"}

_LLAMA_GUARD_4 = {
    "S1: Violent Crimes": "Violence",
    "S2: Non-Violent Crimes": "Illegal Activity",
    "S3: Sex-Related Crimes": "Sexual",
    "S4: Child Sexual Exploitation": "Sexual (minor)",
    "S5: Defamation": "Other",
    "S6: Specialized Advice": "Unauthorized Advice",
    "S7: Privacy": "PII/Privacy",
    "S8: Intellectual Property": "Copyright/Trademark/Plagiarism",
    "S9: Indiscriminate Weapons": "Guns and Illegal Weapons",
    "S10: Hate": "Hate/Identity Hate",
    "S11: Suicide & Self-Harm": "Suicide and Self Harm",
    "S12: Sexual Content": "Sexual",
    "S13: Elections": "Political/Misinformation/Conspiracy",
    "S14: Code Interpreter Abuse": "Malware",
}

_QWEN3GUARD = {
    "Violent": "Violence",
    "Non-violent Illegal Acts": "Illegal Activity",
    "Sexual Content or Sexual Acts": "Sexual",
    "PII": "PII/Privacy",
    "Suicide & Self-Harm": "Suicide and Self Harm",
    "Unethical Acts": "Immoral/Unethical",
    "Politically Sensitive Topics": "Political/Misinformation/Conspiracy",
    "Copyright Violation": "Copyright/Trademark/Plagiarism",
    "Jailbreak": "Other",
}

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="nemotron-3",
            title="Nemotron 3 Content Safety",
            hub="nvidia/Nemotron-3-Content-Safety",
            models=("nemotron-3-content-safety", "nemotron-content-safety-vl"),
            categories=_NEMOTRON,
            probability="the token after each label's colon",
            pictures=1,
            labels_only=True,
        ),
        Family(
            name="nemotron-3.5",
            title="Nemotron 3.5 Content Safety",
            hub="nvidia/Nemotron-3.5-Content-Safety",
            models=("nemotron-3.5-content-safety",),
            categories={name: name for name in CATEGORIES},
            probability="the token after each label's colon, behind the reasoning",
            pictures=1,
            labels_only=True,
            own_categories=True,
            reasoning=True,
        ),
        Family(
            name="nemotron-safety-guard-8b-v3",
            title="Llama 3.1 Nemotron Safety Guard 8B v3",
            hub="nvidia/Llama-3.1-Nemotron-Safety-Guard-8B-v3",
            models=("nemotron-safety-guard-8b-v3",),
            categories=_NEMOTRON,
            probability="the token after each label's opening quote",
        ),
        Family(
            name="llama-guard-4",
            title="Llama Guard 4",
            hub="meta-llama/Llama-Guard-4-12B",
            models=("llama-guard-4",),
            categories=_LLAMA_GUARD_4,
            probability="the first token",
            pictures=5,
            labels="response",
        ),
        Family(
            name="qwen3guard",
            title="Qwen3Guard-Gen",
            hub="Qwen/Qwen3Guard-Gen-4B",
            models=("qwen3guard-gen",),
            categories=_QWEN3GUARD,
            probability='the token after "Safety:", one of three words',
            labels="response",
            controversial=True,
        ),
    )
}
"""By name. `turnguard.moderators.families` speaks each."""


def recognised(model: str) -> Family | None:
    """The family that a model's id or folder names, whatever stands between the words."""
    named = _bare(model)
    return next((family for family in FAMILIES.values() if any(_bare(one) in named for one in family.models)), None)


def _bare(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def able(trait: Literal["own_categories", "reasoning", "controversial", "images"]) -> tuple[str, ...]:
    """The names of the families that have a trait, for messages."""
    return tuple(name for name, family in FAMILIES.items() if getattr(family, trait))
