"""What a text says once its disguises are off. It is judged beside the text as given, where the two differ.

Pure, no I/O, linear in length. Three kinds of pass repeat in any order until nothing changes:

- undress: what does not show (controls, joiners, escape sequences, overstrike), marks that hide, letters in other forms
  and look-alikes of Latin letters, text in tag characters and variation selectors;
- decode: percent, backslash, HTML and quoted-printable escapes; base64, base32 and hexadecimal, gzip and zlib in them;
- join: words that tags, spaces or signs between their letters took apart.

Plain writing in any language costs nothing. What cannot be undone without guessing is left to the model: rot13,
leetspeak, reversed text, ciphers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from turnguard.text.undisguise.escapes import decode
from turnguard.text.undisguise.glance import Glance, look
from turnguard.text.undisguise.joins import across_seams, join, new_words
from turnguard.text.undisguise.reading import GROWTH, MOST_UNPACKED, Bound, Reading
from turnguard.text.undisguise.runs import write_out
from turnguard.text.undisguise.undress import show, undress

__all__ = ["GROWTH", "MOST_ROUNDS", "MOST_UNPACKED", "Bound", "Undisguised", "across_seams", "undisguise"]

MOST_ROUNDS: Final = 32
"""Disguises over disguises that are taken off. Text that still changes after so many rounds reaches the bound."""


@dataclass(frozen=True, slots=True)
class Undisguised:
    """The result of `undisguise`.

    `plain` is what the text says without its disguises; None where that is what it says anyway. `beside` stands in its
    place where only a few words were taken apart by markup, as in many a web page: these words, each with its
    neighbours, to be read with the text as given. `bound` names the limit that was reached, so that something may be
    left: `size` (unpacked data was cut) or `rounds`; None when nothing is.
    """

    plain: str | None = None
    beside: str | None = None
    bound: Bound | None = None


_NOTHING: Final = Undisguised()


def undisguise(text: str) -> Undisguised:
    """Take the disguises off a text. Any `str` is legal."""
    seen = look(text)
    if not any(seen):
        return _NOTHING
    reading = Reading(text, room=max(1000, GROWTH * len(text)))
    for _ in range(MOST_ROUNDS):
        before = reading.text
        # What is sure comes first. A run is looked for only in text that nothing else changes any more.
        for stage in (_take_off, _show, _write_out):
            stage(reading, seen)
            reading.settle()
            if reading.text != before:
                break
        else:
            break
        seen = look(reading.text)
    else:
        reading.bound = reading.bound or "rounds"
    if reading.text == text or not (reading.told or reading.cut):
        return Undisguised(bound=reading.bound)
    if not reading.told and (words := new_words(text, reading.text)) is not None:
        return Undisguised(beside=words, bound=reading.bound)
    return Undisguised(reading.text, bound=reading.bound)


def _take_off(reading: Reading, seen: Glance) -> None:
    if seen.undress:
        undress(reading)
    if seen.escapes:
        decode(reading)
    if seen.markup or seen.spaced:
        join(reading, seen)


def _show(reading: Reading, seen: Glance) -> None:
    if seen.undress:
        show(reading)


def _write_out(reading: Reading, seen: Glance) -> None:
    if seen.hexadecimal or seen.base32 or seen.base64:
        write_out(reading, seen)
