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

    `pictures` is the most that one request takes (0: none). `labels`: with a response beside the prompt the model
    rates `both`, or only the `response`. `categories` maps native names to the taxonomy. `own_categories`: it takes
    definitions of other categories in a request. `controversial`: it has a third label between safe and unsafe.
    `probability` says at which token P(unsafe) is read. `template_tokens` is what its template adds to every prompt.
    `models` are pieces of model ids, in lower case, by which such a model is recognised.
    """

    name: str
    title: str
    models: tuple[str, ...]
    categories: Mapping[str, str] = field(repr=False)
    probability: str
    template_tokens: int
    pictures: int = 0
    labels: Literal["both", "response"] = "both"
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


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="nemotron-3",
            title="Nemotron 3 Content Safety",
            models=("nemotron-3-content-safety", "nemotron-content-safety-vl"),
            categories=_NEMOTRON,
            probability="the token after each label's colon",
            template_tokens=480,  # about 464 fixed prompt tokens in the recorded usage of 3.5
            pictures=1,
        ),
        Family(
            name="nemotron-3.5",
            title="Nemotron 3.5 Content Safety",
            models=("nemotron-3.5-content-safety",),
            categories={name: name for name in CATEGORIES},
            probability="the token after each label's colon, behind the reasoning",
            template_tokens=480,
            pictures=1,
            own_categories=True,
            reasoning=True,
        ),
    )
}
"""By name. `turnguard.moderators.families` speaks each."""


def able(trait: Literal["own_categories", "reasoning", "controversial", "images"]) -> tuple[str, ...]:
    """The names of the families that have a trait, for messages."""
    return tuple(name for name, family in FAMILIES.items() if getattr(family, trait))
