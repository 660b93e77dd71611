"""Rule files to rules, once per process."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from turnguard.moderators.rules.text import Phrase, phrase

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class PhraseRule:
    """Unsafe wherever one of the phrases stands, with P(unsafe) = `weight`."""

    category: str
    weight: float
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True, slots=True)
class PatternRule:
    """A regular expression over the text as written: numbers that identify a person."""

    category: str
    weight: float
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class PairRule:
    """An act near an object, of one language. `always`: unsafe without anything that asks for it. `reach` is the most
    characters between the two."""

    category: str
    weight: float
    language: str
    always: bool
    reach: int
    acts: tuple[Phrase, ...]
    objects: tuple[Phrase, ...]


@dataclass(frozen=True, slots=True)
class Cues:
    """What surrounds a match: requests, answers, refusals, compliance, prevention, and words that point at the
    picture."""

    asks: tuple[Phrase, ...]
    answers: tuple[Phrase, ...]
    refusals: tuple[Phrase, ...]
    complies: tuple[Phrase, ...]
    prevents: tuple[Phrase, ...]
    points: tuple[Phrase, ...]


@dataclass(frozen=True, slots=True)
class RuleBook:
    """All rules. `benign` phrases are blanked before anything is looked for."""

    phrases: tuple[PhraseRule, ...]
    patterns: tuple[PatternRule, ...]
    pairs: tuple[PairRule, ...]
    benign: tuple[Phrase, ...]
    cues: Cues


def rule_files() -> dict[str, Mapping[str, Any]]:
    """Every YAML file of the rules, parsed, by file name without its ending."""
    from ruamel.yaml import YAML

    folder = resources.files("turnguard.moderators.rules")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    yaml = YAML(typ="safe")
    return {name.removesuffix(".yaml"): yaml.load((folder / name).read_text("utf-8")) for name in names}


@lru_cache(maxsize=1)
def rule_book() -> RuleBook:
    """The rules of this installation."""
    files = rule_files()
    cues = files.pop("cues")
    categories = {data["category"]: data for data in files.values()}
    return RuleBook(
        phrases=tuple(rule for name, data in categories.items() for rule in _phrases(name, data)),
        patterns=tuple(
            PatternRule(name, group["weight"], re.compile(group["pattern"]))
            for name, data in categories.items()
            for group in data.get("patterns", ())
        ),
        pairs=tuple(rule for name, data in categories.items() for rule in _pairs(name, data)),
        benign=tuple(p for data in categories.values() for p in _by_language(data.get("benign", {}))),
        cues=Cues(**{name: tuple(_by_language(cues[name])) for name in Cues.__dataclass_fields__}),
    )


def _by_language(phrases: Mapping[str, Any]) -> list[Phrase]:
    return [phrase(source, language) for language, sources in phrases.items() for source in sources]


def _phrases(category: str, data: Mapping[str, Any]) -> list[PhraseRule]:
    rules = []
    for group in data.get("phrases", ()):
        words = {language: sources for language, sources in group.items() if language != "weight"}
        rules.append(PhraseRule(category, group["weight"], tuple(_by_language(words))))
    return rules


def _pairs(category: str, data: Mapping[str, Any]) -> list[PairRule]:
    rules = []
    for group in data.get("pairs", ()):
        for language, words in group.items():
            if language in {"weight", "always"}:
                continue
            rules.append(
                PairRule(
                    category,
                    group["weight"],
                    language,
                    bool(group.get("always")),
                    14 if language in {"zh", "ja", "th"} else 40,
                    tuple(phrase(source, language, "act") for source in words["acts"]),
                    tuple(phrase(source, language, "object") for source in words["objects"]),
                )
            )
    return rules
