"""What a person reads when something was withheld: built-in texts in 18 languages, and the choice among them.

Each language is one JSON file in this package. Its keys are ``default`` (a refusal), ``failure`` (it could not be
checked just now), ``uncheckable`` (a part that cannot be checked), ``removed`` (stands where content was taken out of a
conversation), ``cut`` (ends a text of which ``{cut}`` of ``{total}`` characters were cut off), ``left_out`` (ends the
text of a file of which the rest could not be checked), and the categories of the taxonomy. One text serves a blocked
user message and a withheld answer alike.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Final, Literal

from turnguard.text.language import LANGUAGES, primary

__all__ = ["KINDS", "LANGUAGES", "MessageKind", "builtin", "message_for"]

MessageKind = Literal["verdict", "failure", "uncheckable", "removed", "cut", "left_out"]

KINDS: Final = ("default", "failure", "uncheckable", "removed", "cut", "left_out")
"""The keys beside the categories, in the files and in the policy's ``messages``."""


def builtin(language: str) -> Mapping[str, str]:
    """Return the built-in messages of one language (a tag's region is cut), read once per process.

    Raises ``KeyError`` for a language that is not one of ``LANGUAGES``.
    """
    code = primary(language)
    if code not in LANGUAGES:
        raise KeyError(f"no built-in messages for {language!r}; there are {', '.join(LANGUAGES)}")
    return _read(code)


@cache
def _read(code: str) -> Mapping[str, str]:
    from importlib import resources  # ten modules that only a withheld step needs

    file = resources.files(__name__).joinpath(f"{code}.json")
    texts: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return MappingProxyType(texts)


def message_for(
    *,
    categories: Sequence[str],
    kind: MessageKind,
    language: str,
    overrides: Mapping[str, Mapping[str, str]],
) -> str:
    """Return what to tell the person. There is always a text.

    ``categories`` are the canonical names of the strictest fired rule, most specific first; only ``kind="verdict"``
    reads them. ``overrides`` is the policy's ``messages``: key (a category or one of ``KINDS``) to language to text. A
    language is a BCP 47 tag; an override for the whole tag comes before one for its language. A blank text counts as
    absent. The first that exists is taken:

    1. for each category, the user's text in the person's language, then in English;
    2. the user's ``default`` in the person's language;
    3. for each category, the built-in text in the person's language, then the built-in ``default`` in it;
    4. the user's ``default`` in English;
    5. for each category, the built-in text in English, then the built-in ``default``.

    For the other kinds the kind stands in the category's place and ``default`` is never read: a refusal would tell
    someone whose message merely could not be checked that they did something wrong. So: the user's text in the person's
    language, then in English, then the built-in text in the person's language, then in English.

    One exception: the built-in self-harm text, which says that help exists, gives way to the user's own text for that
    category and never to their ``default``: a plain refusal is the wrong answer to a person in need.
    """
    return next(
        text
        for text in _candidates([kind] if kind != "verdict" else categories, kind, language, overrides)
        if text and text.strip()
    )


def _candidates(
    keys: Sequence[str], kind: MessageKind, language: str, overrides: Mapping[str, Mapping[str, str]]
) -> Iterator[str | None]:
    def own(key: str, tag: str) -> str | None:
        # Tags match in any case, with either separator.
        texts = {name.strip().replace("_", "-").lower(): text for name, text in overrides.get(key, {}).items()}
        whole = texts.get(tag.strip().replace("_", "-").lower())
        return whole if whole and whole.strip() else texts.get(primary(tag))

    def ours(tag: str) -> Iterator[str | None]:
        if primary(tag) in LANGUAGES:
            texts = builtin(tag)
            yield from (texts.get(key) for key in (*keys, "default"))  # a kind is always there, so ends the search

    refusal = kind == "verdict" and "Suicide and Self Harm" not in keys
    for key in keys:
        yield own(key, language)
        yield own(key, "en")
    if refusal:
        yield own("default", language)
    yield from ours(language)
    if refusal:
        yield own("default", "en")
    yield from ours("en")
