"""What a policy defines for the model: categories beside the taxonomy, or a text of its own in the taxonomy's place.

Here stands what may be written, and how the names are recognised.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from turnguard.core.exchange import OwnCategories, OwnCategory
from turnguard.core.policy_settings import OwnSettings, PolicySettings
from turnguard.core.taxonomy import canonical, folded
from turnguard.core.validate import Problem

MOST = 64
LONGEST = 4000
"""Characters of a definition, and of all its examples together."""
LONGEST_POLICY = 8000
"""Characters of a policy in words."""
LONGEST_NAME = 80
"""Of a longer one the model's reply would be cut."""
AT = ("policy", "custom")

_MARK = re.compile(r"<[|/]?\w[^<>\n]{0,40}>|\[(?:@\w+@|/?[A-Z]+|multimodal)\]|</?\||\|>", re.ASCII)
"""What a tokenizer could take for a token of control: `<end_of_turn>`, `<|im_end|>`, `[@BOS@]`, `[INST]`."""


def spelling(settings: PolicySettings) -> dict[str, str]:
    """The names of a policy's own categories, by how they compare."""
    return {folded(name): name for name in settings.custom}


def known(name: str, own: Mapping[str, str]) -> str | None:
    """The one spelling of a category, the taxonomy's or the policy's own; None where it is neither."""
    return canonical(name) or own.get(folded(name))


def defined(settings: PolicySettings) -> OwnCategories | None:
    """What the moderator is told to judge by, beside or instead of the taxonomy; None where the taxonomy is all."""
    if settings.custom_policy is not None:
        return OwnCategories.of(text=settings.custom_policy)
    if not settings.custom:
        return None
    return OwnCategories.of(
        OwnCategory(name, one.definition, one.disallowed, one.allowed) for name, one in settings.custom.items()
    )


def mistakes(settings: PolicySettings, reserved: frozenset[str]) -> Iterator[Problem]:
    """What is wrong with the names and the definitions. `reserved` are words that stand for something else."""
    if len(settings.custom) > MOST:
        yield Problem(AT, f"{len(settings.custom)} categories of your own; at most {MOST}")
    seen: dict[str, str] = {}
    for name, one in settings.custom.items():
        yield from _name(name, reserved)
        if folded(name) in seen:
            yield Problem((*AT, name), f"the category is given twice, as {seen[folded(name)]!r} and as {name!r}")
        seen.setdefault(folded(name), name)
        yield from _texts(name, one)
    if settings.custom_policy is not None:
        yield from _policy(settings.custom_policy, bool(settings.custom))


def _name(name: str, reserved: frozenset[str]) -> Iterator[Problem]:
    at = (*AT, name)
    taxonomy = canonical(name)
    if taxonomy is not None:
        yield Problem(
            at, f"{taxonomy!r} is a category already: choose another name, or give it a rule under categories"
        )
    elif folded(name) in reserved:
        yield Problem(at, f"{name!r} has a meaning of its own: choose another name")
    if not name.strip():
        yield Problem(at, "a category needs a name")
    elif "," in name or not name.isprintable():
        yield Problem(at, "a name holds no comma and no line break: the model lists names with commas, on one line")
    elif len(name) > LONGEST_NAME:
        yield Problem(at, f"a name of {len(name)} characters; at most {LONGEST_NAME}")
    elif _MARK.search(name):
        yield Problem(at, "the name holds what a model could take for its own control text: leave the brackets out")


def _texts(name: str, one: OwnSettings) -> Iterator[Problem]:
    at = (*AT, name)
    if len(one.definition) > LONGEST:
        yield Problem((*at, "definition"), f"{len(one.definition):,} characters; at most {LONGEST:,}")
    examples = sum(map(len, (*one.disallowed, *one.allowed)))
    if examples > LONGEST:
        yield Problem((*at, "disallowed"), f"the examples have {examples:,} characters; at most {LONGEST:,} together")
    for key, texts in (("definition", (one.definition,)), ("disallowed", one.disallowed), ("allowed", one.allowed)):
        yield from _unreadable(texts, (*at, key))


def _policy(text: str, beside_categories: bool) -> Iterator[Problem]:
    at = ("policy", "custom_policy")
    if beside_categories:
        yield Problem(at, "it replaces every category, those under custom too: use one of the two")
    if len(text) > LONGEST_POLICY:
        yield Problem(at, f"{len(text):,} characters; at most {LONGEST_POLICY:,}")
    yield from _unreadable((text,), at)


def _unreadable(texts: tuple[str, ...], at: tuple[str, ...]) -> Iterator[Problem]:
    if not all(text.strip() for text in texts):
        yield Problem(at, "an empty text says nothing to the model")
    found = next((match[0] for text in texts if (match := _MARK.search(text))), None)
    if found is not None:
        yield Problem(at, f"{found!r} is what a model could take for its own control text: leave the brackets out")
    elif any(not (c.isprintable() or c in "\n\t") for text in texts for c in text):
        yield Problem(at, "holds characters that cannot be seen")
