"""The categories that the moderator may name, and how a name is recognised.

Names, never codes: the numbering differs between sibling models (Reasoning-4B has no `Other`, so its S14 to S22 are
shifted by one). The first 23 are Nemotron 3's; `Economic Harm` came with 3.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

CATEGORIES: tuple[str, ...] = (
    "Violence",
    "Sexual",
    "Criminal Planning/Confessions",
    "Guns and Illegal Weapons",
    "Controlled/Regulated Substances",
    "Suicide and Self Harm",
    "Sexual (minor)",
    "Hate/Identity Hate",
    "PII/Privacy",
    "Harassment",
    "Threat",
    "Profanity",
    "Needs Caution",
    "Other",
    "Manipulation",
    "Fraud/Deception",
    "Malware",
    "High Risk Gov Decision Making",
    "Political/Misinformation/Conspiracy",
    "Copyright/Trademark/Plagiarism",
    "Unauthorized Advice",
    "Illegal Activity",
    "Immoral/Unethical",
    "Economic Harm",
)


MINOR = "Sexual (minor)"
"""Content of this category is never kept, for whatever purpose."""


def folded(name: str) -> str:
    """A name for comparing: case and spacing do not count, neither do spaces around the slash or bracket."""
    return "".join(name.split()).casefold()


_BY_KEY = {folded(name): name for name in CATEGORIES}


def canonical(name: str) -> str | None:
    """The taxonomy's own spelling of `name`, case and spacing aside; None when it is not a category."""
    return _BY_KEY.get(folded(name))


def on_record(name: str) -> str:
    """The name for records and logs. An unknown one is the model's own text, and may repeat what it read."""
    return canonical(name) or "unknown"


def nearest(name: str, own: Iterable[str] = ()) -> str:
    """The category whose name is closest to `name`, for error messages. `own` are names beside the taxonomy's."""
    names = _BY_KEY | {folded(each): each for each in own}
    match = get_close_matches(folded(name), names, n=1, cutoff=0.0)
    return names[match[0]]
