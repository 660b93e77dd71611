"""Text as the rules compare it: one spelling per word, in every script, and spans of it found by phrase."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\u0640\u064b-\u0652]")
_ACCENT = re.compile("[\u0300-\u036f]")
_SPACES = re.compile(r"\s+")
_NO_SPACES_BETWEEN_WORDS = re.compile("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]")
_HANGUL = re.compile("[\uac00-\ud7af]")
_ARABIC = re.compile("[\u0600-\u06ff]")
# `\w` leaves out the vowel signs of Indic scripts and Thai, which are part of the word.
_IN_WORD = r"[\w\u0900-\u0903\u093a-\u094f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]"
_ARABIC_PREFIX = "(?:[\u0648\u0641])?(?:[\u0628\u0644\u0643])?(?:\u0627\u0644)?"
MIN_RUN_TOGETHER = 4
"""OCR loses spaces: in a picture, a phrase of at least this many letters may touch other letters on one side."""

LONG_ENOUGH = 7
"""A phrase of at least this many letters may touch other letters on both sides, in a picture."""


def normalise(text: str) -> str:
    """Compatibility form, case folded, without accents, invisible characters and line breaks."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    text = unicodedata.normalize("NFC", _ACCENT.sub("", unicodedata.normalize("NFD", text)))
    return _SPACES.sub(" ", text.replace("\u2019", "'").replace("`", "'")).strip()


def is_unspaced(text: str) -> bool:
    """Whether the script writes words without spaces between them (Chinese, Japanese, Thai)."""
    return _NO_SPACES_BETWEEN_WORDS.search(text) is not None


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase to look for. `literal` stands in every text that matches: a cheap test before any pattern is
    compiled."""

    source: str
    language: str
    role: str
    literal: str

    def spans(self, text: str, *, picture: bool = False) -> list[tuple[int, int]]:
        """Where it stands in a normalised text. In a picture, words may have run together."""
        if self.literal not in text:
            return []
        apart, together = _patterns(self.source, self.language, self.role)
        return [match.span() for match in (together if picture else apart).finditer(text)]


def phrase(source: str, language: str, role: str = "") -> Phrase:
    """A phrase of a rule file. A trailing `*` allows any ending. English acts take their endings by themselves, English
    objects their plural."""
    words = normalise(source.rstrip("*")).split(" ")
    literal = max(words, key=len)
    if _inflects(source, language, role) and role == "act":
        literal = words[-1] if len(words) > 1 else words[0].removesuffix("e")
    return Phrase(source, language, role, literal)


def _inflects(source: str, language: str, role: str) -> bool:
    return language == "en" and role in {"act", "object"} and not source.endswith("*")


@cache
def _patterns(source: str, language: str, role: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The pattern for written text, and the one for text in pictures, where words may have run together."""
    words = normalise(source.rstrip("*")).split(" ")
    forms = [re.escape(word) for word in words]
    if _inflects(source, language, role):
        if role == "act":
            forms[0] = _act(words[0])
        else:
            forms[-1] += "(?:e?s|'s)?"
    if is_unspaced(source):
        anywhere = re.compile(" ?".join(forms))
        return anywhere, anywhere
    prefix = _ARABIC_PREFIX if _ARABIC.search(source) else ""
    left = f"(?<!{_IN_WORD}){prefix}"
    right = "" if source.endswith("*") or _HANGUL.search(source) else f"(?!{_IN_WORD})"
    apart = re.compile(f"{left}(?:{'[ -]'.join(forms)}){right}")
    letters = sum(character.isalpha() for character in source)
    loose = f"(?:{'[ -]?'.join(forms)})"
    if letters < MIN_RUN_TOGETHER:
        return apart, apart
    if letters >= LONG_ENOUGH:
        return apart, re.compile(loose)
    one_side = {"act": f"{left}{loose}", "object": f"{loose}{right}"}
    return apart, re.compile(one_side.get(role, f"{left}{loose}|{loose}{right}"))


def _act(word: str) -> str:
    """make, makes, making; kill, kills, killing, killed; stab, stabbing."""
    doubled = f"{word[-1]}?" if word[-1] in "bdgmnprt" else ""
    return f"(?:{re.escape(word)}(?:s|es|d|ed)?|{re.escape(word.removesuffix('e'))}{doubled}ing)"
