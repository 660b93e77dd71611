"""Small print anywhere on a 4K screen reaches the model: read by OCR after the squeeze that the vision tower does.

This is also the measurement behind `LEGIBLE` in `_tiles.py`.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from tests.media.drawing import RGB, decoded, encoded, font, noise, prepare
from turnguard.core.exchange import Picture
from turnguard.media.pictures.tiles import EYE, Box, grid

numpy = pytest.importorskip("numpy")
rapidocr = pytest.importorskip("rapidocr")

SCREEN = (3840, 2160)
PHRASES = [
    "kill the witness", "burn the archive", "steal his wallet", "poison the water", "forge a passport",
    "bomb the station", "hack the payroll", "sell the secrets", "rob the old bank", "wreck the bridge",
    "crash the server", "cheat the voters", "hurt the teacher", "bribe the judges", "smuggle the guns",
    "hide the victims", "threaten a child", "flood the market", "drug the patient", "break the locks",
    "fake the reports", "leak the records", "trap the animals", "harm the session",
]  # fmt: skip


@pytest.fixture(scope="module")
def ocr() -> Any:
    return rapidocr.RapidOCR(params={"Global.log_level": "error"})


def size_of(height: int) -> float:
    """The font size at which a line is `height` pixels high, from the highest letter to the lowest."""
    for tenths in range(80, 300):
        _, upper, _, lower = font(tenths / 10).getbbox("kill pgq")
        if lower - upper >= height:
            return tenths / 10
    raise AssertionError


def read_by(ocr: Any, picture: Picture) -> str:
    """What OCR reads in a view once it is squeezed to what the tower sees, without blanks (OCR drops them)."""
    seen = decoded(picture).convert("RGB").resize((EYE, EYE), Pillow.Resampling.BILINEAR)
    found = ocr(numpy.ascontiguousarray(numpy.array(seen)[:, :, ::-1]))
    return "\n".join(text.replace(" ", "") for text in found.txts or ())


def positions(width: int) -> list[tuple[int, int]]:
    """Corners, edges, and across every border between tiles, in both directions."""
    boxes = grid(*SCREEN)
    borders = sorted({box.left for box in boxes} - {0})
    across = [3, *(left + 80 - width // 2 for left in borders), 1500, SCREEN[0] - width - 3]
    seam = next(box.upper for box in boxes if box.upper)
    down = [3, 500, seam + 10, SCREEN[1] - 18]
    return list(itertools.product(across, down))


def screenshot(ground: RGB, ink: RGB) -> tuple[Pillow.Image, list[tuple[int, int]]]:
    """A 4K screen with windows on it and one phrase at each position."""
    picture = Pillow.new("RGB", SCREEN, ground)
    draw = ImageDraw.Draw(picture)
    print_ = font(size_of(12))
    width = int(max(print_.getlength(phrase) for phrase in PHRASES))
    places = positions(width)
    shade = (ground[0] // 2 + 60, ground[1] // 2 + 70, ground[2] // 2 + 90)
    for left in range(200, 3600, 520):
        draw.rectangle((left, 800, left + 330, 1000), fill=shade)
    for place, phrase in zip(places, PHRASES, strict=True):
        draw.text(place, phrase, font=print_, fill=ink)
    return picture, places


@pytest.mark.parametrize(
    ("ground", "ink"),
    [
        pytest.param((250, 250, 250), (25, 25, 25), id="light"),
        pytest.param((24, 24, 28), (230, 230, 230), id="dark", marks=pytest.mark.exhaustive),
    ],
)
async def test_small_print_anywhere_on_a_4k_screen_is_legible_in_a_tile_and_not_in_the_whole(
    ocr: Any, ground: RGB, ink: RGB
) -> None:
    picture, places = screenshot(ground, ink)
    assert len(places) == 24
    prepared = await prepare(encoded(picture))
    views = {view.detail: read_by(ocr, view.picture) for view in prepared.views}
    assert len(views) <= 9
    whole = views.pop("")
    phrases = [phrase.replace(" ", "") for phrase in PHRASES]
    assert not [phrase for phrase in phrases if phrase in whole]
    everything = "\n".join(views.values())
    missed = [(place, phrase) for place, phrase in zip(places, phrases, strict=True) if phrase not in everything]
    assert not missed, views


async def test_a_larger_tile_would_not_be_legible(ocr: Any) -> None:
    """LEGIBLE is not timid: a fifth more loses print (so that fewer tiles would not do)."""
    lost = 0
    for phrase in PHRASES[:6]:
        picture = Pillow.new("RGB", (1320, 1320), (250, 250, 250))
        ImageDraw.Draw(picture).text((400, 600), phrase, font=font(size_of(12)), fill=(25, 25, 25))
        seen = Picture.of(encoded(picture), "image/png")
        lost += phrase.replace(" ", "") not in read_by(ocr, seen)
    assert lost


async def test_small_print_on_a_photograph_survives_the_encoding(ocr: Any) -> None:
    """JPEG is chosen for grain; print on it stays legible."""
    grain = Pillow.effect_noise((900, 900), 20).convert("RGB").point(lambda level: level // 4 + 180)
    ImageDraw.Draw(grain).text((300, 400), "kill the witness", font=font(16), fill=(20, 20, 20))
    prepared = await prepare(encoded(grain))
    assert prepared.views[0].picture.media_type == "image/jpeg"
    assert "killthewitness" in read_by(ocr, prepared.views[0].picture)


async def test_faint_print_among_other_print_survives_the_encoding(ocr: Any) -> None:
    """A crowded screen goes as JPEG too. (Half of this contrast OCR does not read in the original either.)"""
    picture = Pillow.new("RGB", (900, 900), (240, 240, 240))
    draw = ImageDraw.Draw(picture)
    for upper in (340, 360, 380, 422, 440):
        draw.text((4, upper), "many small words stand here and there " * 2, font=font(14), fill=(20, 20, 20))
    draw.text((300, 400), "kill the witness", font=font(16), fill=(180, 180, 180))
    picture.paste(noise((900, 300)), (0, 600))
    prepared = await prepare(encoded(picture))
    assert prepared.views[0].picture.media_type == "image/jpeg"
    assert "killthewitness" in read_by(ocr, prepared.views[0].picture)


def test_the_phrases_fit_the_overlap() -> None:
    print_ = font(size_of(12))
    assert max(len(phrase) for phrase in PHRASES) == 16
    assert max(print_.getlength(phrase) for phrase in PHRASES) < 150
    assert isinstance(grid(*SCREEN)[0], Box)
