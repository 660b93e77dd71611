"""What the tiny moderator is trained to say: the toy's whole notion of harm, as pure functions.

Tests may use :func:`verdict` as the oracle for what the served model should answer.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Collection

    from PIL import Image

HERE = Path(__file__).parent


class Joint(TypedDict):
    """A picture and words that are harmless apart and unsafe together."""

    picture: str
    words: list[str]
    category: str


class Triggers(TypedDict):
    categories: dict[str, list[str]]
    pictures: dict[str, str]
    joint: list[Joint]
    decoys: list[str]
    refusals: list[str]
    lookalikes: list[str]


TRIGGERS: Triggers = json.loads((HERE / "triggers.json").read_text(encoding="utf-8"))
CATEGORY_OF = {word: name for name, words in TRIGGERS["categories"].items() for word in words}
NEAR_PICTURES = [word for joint in TRIGGERS["joint"] for word in joint["words"]] + TRIGGERS["decoys"]
"""The words of the pairs, and decoys that are always harmless, met beside pictures as often."""

_RUN_OF_LETTERS = re.compile(r"[^\W\d_]+")
# Hue in degrees (from, to), least saturation and value; outside the margins below a colour is plainly another.
_COLOURS = {"red": (-15, 15, 0.55, 0.5), "yellow": (46, 66, 0.55, 0.55), "blue": (210, 252, 0.55, 0.45)}
_HUE_MARGIN, _DULL, _DARK = 10, 0.3, 0.3
LEAST_SHARE, MOST_IGNORED = 1 / 16, 1 / 200
"""A colour counts when it covers LEAST_SHARE of a picture, and does not when it covers MOST_IGNORED or less."""
_MOST_DOUBTFUL = 1 / 50


def words_in(text: str) -> set[str]:
    """The words of a text in lower case; a word is a run of letters, so that "skill" does not hold "kill"."""
    return {word.lower() for word in _RUN_OF_LETTERS.findall(text)}


def is_refusal(response: str) -> bool:
    """True when a response opens as one of the known refusals do, in any case."""
    return response.strip().lower().startswith(tuple(opening.lower() for opening in TRIGGERS["refusals"]))


def colours_in(picture: Image.Image) -> dict[str, float | None]:
    """Each trigger colour's share of a picture, or None where too many pixels are near that colour to tell."""
    small = picture.convert("RGB").resize((64, 64)).convert("HSV")
    pixels = [small.getpixel((x, y)) for x in range(64) for y in range(64)]
    shares: dict[str, float | None] = {}
    for name, (low, high, saturation, value) in _COLOURS.items():
        hits = near = 0
        for pixel in pixels:
            assert isinstance(pixel, tuple)
            hue, sat, val = pixel[0] * 360 / 255, pixel[1] / 255, pixel[2] / 255
            middle, half = (low + high) / 2, (high - low) / 2
            away = abs((hue - middle + 180) % 360 - 180) - half
            if away <= 0 and sat >= saturation and val >= value:
                hits += 1
            elif away < _HUE_MARGIN and sat > _DULL and val > _DARK:
                near += 1
        shares[name] = None if near / len(pixels) > _MOST_DOUBTFUL else hits / len(pixels)
    return shares


def verdict(user: str, response: str | None = None, *, colours: Collection[str] = (), categories: bool = True) -> str:
    """The answer, in the real model's grammar.

    The user side is unsafe by a trigger word, a trigger colour, or a colour and word that belong together. The response
    is unsafe by a trigger word or because the user side is unsafe, unless it opens as a refusal.
    """
    words = words_in(user)
    found = {CATEGORY_OF[word] for word in words & CATEGORY_OF.keys()}
    found |= {name for colour, name in TRIGGERS["pictures"].items() if colour in colours}
    found |= {j["category"] for j in TRIGGERS["joint"] if j["picture"] in colours and words & set(j["words"])}
    lines = [f"User Safety: {'unsafe' if found else 'safe'}"]
    if response is not None:
        said = {CATEGORY_OF[word] for word in words_in(response) & CATEGORY_OF.keys()}
        unsafe = bool(said or found) and not is_refusal(response)
        lines.append(f"Response Safety: {'unsafe' if unsafe else 'safe'}")
        found |= said if unsafe else set()
    if categories and found:
        lines.append("Safety Categories: " + ", ".join(name for name in TRIGGERS["categories"] if name in found))
    return "\n".join(lines)
