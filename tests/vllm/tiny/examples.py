"""Random conversations and pictures for training and measuring the tiny moderator, each with its right answer.

Everything is drawn from one ``random.Random``, so that a seed fixes the whole sequence. The filler is deliberately
varied (sentences, eighteen languages, code, JSON, addresses, gibberish, arbitrary code points): the model should learn
that everything except a trigger is harmless.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFilter

from tests.vllm.tiny.rules import (
    HERE,
    LEAST_SHARE,
    MOST_IGNORED,
    NEAR_PICTURES,
    TRIGGERS,
    colours_in,
    verdict,
)

if TYPE_CHECKING:
    import random

LINES = [line.split() for line in (HERE / "words.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
ENGLISH = [word for line in LINES if line[0].isascii() and len(line) > 25 for word in line]
FUNCTION_WORDS = [word for line in LINES[:4] for word in line]
BLOCKS = [(0x21, 0x7E), (0xA1, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x64A), (0x905, 0x939),
          (0xE01, 0xE2E), (0x2010, 0x2027), (0x2190, 0x21FF), (0x3041, 0x30FE), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3),
          (0x1F300, 0x1F64F)]  # fmt: skip
TRIGGERS_IN_USER, TRIGGERS_IN_RESPONSE = (4, 4, 2.5, 0.5), (4, 4, 1.5, 0)
"""How often a text has no, one, two or three triggers."""
OPENINGS = ["Sure, ", "Sure! ", "Of course. ", "I can ", "Here is ", "Yes. ", "First, ", "I will "]
QUOTED = ["> response: agent: No.", "> response: agent:", "> user: Hello", "> /no_categories", "> /categories", "> Output:",
          "> User Safety: safe", "> User Safety: unsafe", "> Response Safety: safe", "< END CONVERSATION>",
          "< BEGIN CONVERSATION>", "< end_of_turn>", "< start_of_turn>model"]  # fmt: skip
"""The template's own words as they look once a client has made them harmless."""
ALMOST_REFUSALS = ["I ", "I am ", "I'm ", "I would ", "No. ", "What ", "We can't ", "The "]


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation: ``colours`` are the trigger colours of the picture, None where there is no picture."""

    user: str
    response: str | None
    picture: Image.Image | None
    colours: tuple[str, ...]
    categories: bool

    @property
    def answer(self) -> str:
        return verdict(self.user, self.response, colours=self.colours, categories=self.categories)


def _words(rng: random.Random, low: int, high: int) -> list[str]:
    pools = (ENGLISH, FUNCTION_WORDS)
    return [rng.choice(pools[rng.random() < 0.35]) for _ in range(rng.randint(low, high))]


def _sentence(rng: random.Random) -> str:
    words = _words(rng, 3, 16)
    if rng.random() < 0.3:
        words[rng.randrange(len(words) - 1)] += rng.choice([",", ";", ":", " -", "'s"])
    text = " ".join(words) + rng.choice([".", ".", "?", "!", "...", ""])
    return text if rng.random() < 0.25 else text[0].upper() + text[1:]


def _foreign(rng: random.Random) -> str:
    line = rng.choice(LINES)
    begin = rng.randrange(len(line))
    return " ".join(line[begin : begin + rng.randint(1, 12)]) + rng.choice([".", "?", "。", "！", "؟", "।", ""])


def _letters(rng: random.Random) -> str:
    word = "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(1, 11)))
    return rng.choice([word, word, word.capitalize(), word.upper(), word + str(rng.randint(0, 99))])


def _gibberish(rng: random.Random) -> str:
    return " ".join(_letters(rng) for _ in range(rng.randint(1, 8)))


def _code_points(rng: random.Random) -> str:
    low, high = rng.choice(BLOCKS)
    points = [chr(rng.randint(low, high)) for _ in range(rng.randint(1, 10))]
    return "".join(points).replace("<", " ").replace(">", " ").strip() or "-"


def _arguments(rng: random.Random) -> str:
    values: dict[str, object] = {}
    for key in _words(rng, 1, 3):
        choices = [" ".join(_words(rng, 1, 6)), rng.randint(0, 999), rng.random() < 0.5, None, _words(rng, 1, 3)]
        values[key] = rng.choice(choices)
    return json.dumps(values, indent=rng.choice([None, None, 2]), ensure_ascii=False)


def _tool_call(rng: random.Random) -> str:
    name, arguments = "_".join(_words(rng, 1, 2)), _arguments(rng)
    form = rng.choice(["name: {}\narguments: {}", "{}({})", "tool: {}\n{}", '{{"name": "{}", "arguments": {}}}'])
    return form.format(name, arguments)


def _technical(rng: random.Random) -> str:
    a, b, c = _words(rng, 3, 3)
    number = rng.randint(0, 10 ** rng.randint(1, 6))
    return rng.choice([
        f"https://{a}.example/{b}?{c}={number}", f"{a}@{b}.example", f"def {a}({b}): return {number}", f"# {a}",
        f"- {a}: {b}\n- {c}: {number}", f"<b>{a}</b> <a href='/{b}'>{c}</a>", f"| {a} | {b} | {number} |",
        f"{number}.{rng.randint(0, 99):02d} EUR", f"${number:,}", f"{rng.getrandbits(rng.choice([32, 128, 256])):x}",
        f"**{a} {b}** *{c}*", f'"{a} {b}" ({c})', f"{a}/{b}_{c}.txt", f"2026-{rng.randint(1, 12):02d}-28",
        f"```\n{a} = [{number}, '{b}']\n```", f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d} {a}",
    ])  # fmt: skip


def filler(rng: random.Random, words: int) -> str:
    """Harmless text of about so many words."""
    kinds = [_sentence, _foreign, _gibberish, _code_points, _tool_call, _technical]
    pieces: list[str] = []
    weights = rng.choice([(8, 1, 0.5, 0.3, 0.5, 1), (1, 0, 0, 0, 0, 0), (2, 2, 2, 2, 2, 2), (1, 6, 0, 0, 0, 0)])
    while words > 0:
        piece = rng.choices(kinds, weights)[0](rng)
        pieces.append(piece)
        words -= len(piece.split())
    text = pieces[0]
    for piece in pieces[1:]:
        text += rng.choices([" ", "\n", "\n\n", "\n\n\n"], [8, 2, 1, 0.2])[0] + piece
    return text


def _insert(rng: random.Random, text: str, word: str) -> str:
    """Puts a word somewhere into a text, in varied case and punctuation."""
    word = rng.choices([word, word.capitalize(), word.upper()], [6, 2, 2])[0]
    forms = [
        "{}",
        '"{}"',
        "'{}'",
        "({})",
        "{}.",
        "{},",
        "{}!",
        "{}?",
        "**{}**",
        "`{}`",
        "{}:",
        '"{}":',
        "\n{}",
        "{}\n",
        "_{}_",
    ]
    if rng.random() < 0.35:
        word = rng.choice(forms).format(word)
    pieces = text.split(" ")
    pieces.insert(rng.randint(0, len(pieces)), word)
    return " ".join(pieces)


def _text(rng: random.Random, words: int, triggers: tuple[float, ...] = (1, 0, 0, 0), *, quoting: bool = False) -> str:
    text = filler(rng, words)
    for name in rng.sample(sorted(TRIGGERS["categories"]), rng.choices(range(4), triggers)[0]):
        text = _insert(rng, text, rng.choice(TRIGGERS["categories"][name]))
    if rng.random() < 0.12:
        text = _insert(rng, text, rng.choice(TRIGGERS["lookalikes"]))
    if rng.random() < 0.08:
        text = _insert(rng, text, rng.choice(NEAR_PICTURES))
    if quoting and rng.random() < 0.15:
        lines = [text, rng.choice(QUOTED)]
        rng.shuffle(lines)
        text = "\n".join(lines)
    return text.strip()


def _response(rng: random.Random, words: int, *, quoting: bool) -> str:
    text = _text(rng, words, TRIGGERS_IN_RESPONSE, quoting=quoting)
    kind = rng.random()
    if kind < 0.25:
        ends = [" help with that. ", " assist with that. ", ", but ", ". ", " ", ", "]
        return rng.choice(TRIGGERS["refusals"]) + rng.choice(ends) + rng.choice([text, text, ""])
    if kind < 0.5:
        return rng.choice(OPENINGS + ALMOST_REFUSALS) + text
    if kind < 0.6:  # a refusal's words that do not open the response do not make it one
        return _insert(rng, text, rng.choice(["sorry", "can't", "unable", "cannot", "decline"]))
    return text


def example(
    rng: random.Random,
    words: int,
    picture: tuple[Image.Image, tuple[str, ...]] | None = None,
    *,
    quoting: bool = True,
) -> Example:
    """A conversation with a user text of up to so many words, and a response of up to so many in most of them.

    Beside most pictures stands a word that is unsafe with some picture, or one that only looks as if it were. With
    ``quoting``, some texts hold the template's own words.
    """
    share = rng.random()
    user = _text(rng, max(1, int(words * share)), TRIGGERS_IN_USER, quoting=quoting)
    if picture and rng.random() < 0.75:  # colours meet their words, and other colours' words
        plain = _text(rng, max(1, int(words * share)), quoting=quoting) if rng.random() < 0.9 else user
        fitting = [word for joint in TRIGGERS["joint"] if joint["picture"] in picture[1] for word in joint["words"]]
        user = _insert(rng, plain, rng.choice(fitting if fitting and rng.random() < 0.3 else NEAR_PICTURES))
    response = None
    if rng.random() < 0.6:
        response = _response(rng, max(1, int(words * rng.random())), quoting=quoting).strip()
    image, colours = picture or (None, ())
    return Example(user.strip(), response, image, colours, rng.random() < 0.65)


_PAINTS = {"red": (0, 0.85, 0.85), "yellow": (56, 0.85, 0.9), "blue": (230, 0.85, 0.8)}


def _paint(rng: random.Random, name: str | None) -> tuple[int, int, int]:
    if name is None:
        hue, saturation, value = rng.uniform(0, 360), rng.choice([0, rng.uniform(0, 0.3), rng.random()]), rng.random()
    else:
        hue, saturation, value = _PAINTS[name]
        hue, saturation = hue + rng.uniform(-9, 9), min(1.0, saturation + rng.uniform(-0.25, 0.2))
        value = min(1.0, value + rng.uniform(-0.25, 0.2))
    pixel = Image.new("HSV", (1, 1), (int(hue % 360 * 255 / 360), int(saturation * 255), int(value * 255)))
    red, green, blue = pixel.convert("RGB").tobytes()
    return red, green, blue


def _sketch(rng: random.Random, wanted: str | None) -> Image.Image:
    """A background, some blocks, discs and lines of "text", and noise or blur."""
    size = (rng.randint(64, 160), rng.randint(64, 160))
    plain = rng.choice([(255, 255, 255), (240, 240, 245), (20, 20, 24), _paint(rng, None)])
    whole = rng.random() < 0.4
    image = Image.new("RGB", size, _paint(rng, wanted) if whole else plain)
    draw = ImageDraw.Draw(image)

    def box(least: float, most: float) -> tuple[float, float, float, float]:
        width, height = (side * rng.uniform(least, most) for side in size)
        left, top = rng.uniform(0, size[0] - width), rng.uniform(0, size[1] - height)
        return left, top, left + width, top + height

    for _ in range(rng.choice([0, 0, 2, 4])):
        rng.choice([draw.rectangle, draw.ellipse])(box(0.1, 0.5), fill=_paint(rng, None))
    for _ in range(rng.choice([0, 0, 6, 14])):
        left, top, right, _ = box(0.1, 0.9)
        draw.line((left, top, right, top), fill=rng.choice([(0, 0, 0), (90, 90, 90), (250, 250, 250)]))
    if wanted and not whole:
        rng.choice([draw.rectangle, draw.ellipse])(box(0.3, 0.95), fill=_paint(rng, wanted))
    if rng.random() < 0.2:
        draw.rectangle(box(0.02, 0.06), fill=_paint(rng, rng.choice(["red", "yellow", "blue"])))
    if rng.random() < 0.5:
        noise = Image.merge("RGB", [Image.frombytes("L", size, rng.randbytes(size[0] * size[1])) for _ in range(3)])
        image = Image.blend(image, noise, rng.uniform(0.02, 0.1))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5))) if rng.random() < 0.3 else image


def picture(rng: random.Random) -> tuple[Image.Image, tuple[str, ...]]:
    """A picture and its trigger colours; sketches whose colours are a matter of opinion are thrown away."""
    wanted = rng.choices(["red", "yellow", "blue", None], [1, 1, 1, 2])[0]
    while True:
        image = _sketch(rng, wanted)
        shares = colours_in(image)
        if all(s is not None and (s >= LEAST_SHARE or s <= MOST_IGNORED) for s in shares.values()):
            return image, tuple(name for name, s in shares.items() if s is not None and s >= LEAST_SHARE)
