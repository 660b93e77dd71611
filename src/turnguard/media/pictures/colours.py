"""Colour profiles and gammas: what a viewer that applies them shows, and whether anything could hide in the difference.

A profile that changes colours smoothly and not by much (sRGB, Display P3, Adobe RGB) shows nothing that the bare
samples do not show. One that pulls neighbouring colours apart, or turns them into others, may show what nobody would
see otherwise: then both are judged.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from turnguard.media.pictures.code_points import Colours, shown
from turnguard.media.pictures.compare import bands

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Draw = Callable[["PillowImage"], "PillowImage"]

# Levels of 255 by which neighbouring colours may part. Measured: Display P3 parts one level into 13, four into 28
# (9 of luma); Adobe RGB into 17 and 42 (12 of luma), both where a saturated colour leaves the gamut.
_MOST_OF_ONE = 18
_MOST_OF_FOUR = 44
_MOST_LUMA_OF_FOUR = 16
_MOST_SHIFT = 32  # levels, averaged over all colours: Display P3 23, Adobe RGB 29, exchanged primaries 88
_STEP = 4
_LEVELS = 256 // _STEP


def managed(
    profile: bytes | None, gamma: float | None, colours: Iterable[Colours] = (), *, has_ink: bool = False
) -> Iterator[tuple[str, Draw, bool]]:
    """How viewers that apply the profile, PNG's gamma or other colours would show the picture, where that may differ in
    substance.

    Gives (label, what turns the bare rendition into the managed one, whether it takes inks instead). All are tried: a
    viewer that finds a profile broken goes by the gamma.
    """
    if profile and (made := _transform(profile)) is not None:
        draw, space = made
        if space == "CMYK" and has_ink:
            yield "with its colour profile", draw, True
        elif space in ("RGB", "GRAY") and _is_wild(profile):
            yield "with its colour profile", draw, False
    if gamma is not None and 0.01 <= gamma <= 100 and _separates(_by_gamma(gamma)):
        yield "with its gamma", _by_gamma(gamma), False
    for coded in colours:
        applied = shown(coded)
        if applied is not None and _differs(coded):
            yield "with its own colours", applied, False


@lru_cache(maxsize=64)
def _differs(coded: Colours) -> bool:
    draw = shown(coded)
    return draw is not None and _separates(draw)


def _transform(profile: bytes) -> tuple[Draw, str] | None:
    """The transform to sRGB and what it takes; None where the profile is broken: viewers then show the samples."""
    try:
        from PIL import ImageCms

        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        mode = {"GRAY": "L", "CMYK": "CMYK"}.get(space, "RGB")
        # of a grey profile littlecms would smooth the steps away
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", flags=flags)
    except Exception:  # noqa: BLE001 - a hostile profile makes littlecms raise anything
        return None

    def draw(crop: PillowImage) -> PillowImage:
        return ImageCms.applyTransform(crop if crop.mode == mode else crop.convert(mode), transform) or crop

    return draw, space


def _by_gamma(gamma: float) -> Draw:
    """PNG `gAMA`: samples are light to the power `gamma`; a screen expects 1 / 2.2."""
    power = 1 / (2.2 * gamma)
    table = [round(255 * (level / 255) ** power) for level in range(256)] * 3
    return lambda crop: crop.point(table)


@lru_cache(maxsize=64)
def _is_wild(profile: bytes) -> bool:
    made = _transform(profile)
    if made is None:
        return False
    draw, space = made
    try:
        return _greys_separate(draw) if space == "GRAY" else _separates(draw)
    except Exception:  # noqa: BLE001 - littlecms on a hostile profile: viewers fail on it too, and show the samples
        return False


def _separates(draw: Draw) -> bool:
    """Whether it pulls neighbouring colours so far apart, or changes colours so much, that something could hide.

    Tried on every fourth level of all three bands, and on every level of the greys and of each band.
    """
    from PIL import Image, ImageChops, ImageStat

    for probe in _cubes():
        now = draw(probe)
        if _parted(now) > _MOST_OF_FOUR or _parted(now.convert("L")) > _MOST_LUMA_OF_FOUR:
            return True
    red, green, blue = ImageChops.difference(probe, now).split()
    if ImageStat.Stat(ImageChops.lighter(ImageChops.lighter(red, green), blue)).mean[0] > _MOST_SHIFT:
        return True
    ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    levels = [Image.new("L", (256, 1), level) for level in (0, 128, 255)]
    ramps = [(ramp, ramp, ramp)]
    ramps += [(ramp, one, other) for one in levels for other in levels]
    ramps += [(one, ramp, other) for one in levels for other in levels]
    ramps += [(one, other, ramp) for one in levels for other in levels]
    return any(_parted(draw(Image.merge("RGB", one))) > _MOST_OF_ONE for one in ramps)


def _greys_separate(draw: Draw) -> bool:
    """Do the same for a renderer that shows greys alone."""
    from PIL import Image, ImageChops, ImageStat

    ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    every_fourth = Image.frombytes("L", (_LEVELS, 1), bytes(range(0, 256, _STEP)))
    now = draw(ramp)
    shift = ImageStat.Stat(ImageChops.difference(ramp, now.convert("L"))).mean[0]
    return _parted(now) > _MOST_OF_ONE or _parted(draw(every_fourth)) > _MOST_LUMA_OF_FOUR or shift > _MOST_SHIFT


def _cubes() -> Iterator[PillowImage]:
    """Yield three pictures of every colour at each fourth level.

    Neighbours in a row differ in red in the first picture, in green in the second and in blue in the third.
    """
    from PIL import Image

    levels = bytes(range(0, 256, _STEP))
    size = (_LEVELS, _LEVELS * _LEVELS)
    fast = Image.frombytes("L", size, levels * (_LEVELS * _LEVELS))
    middle = Image.frombytes("L", size, b"".join(bytes([level]) * _LEVELS for level in levels) * _LEVELS)
    slow = Image.frombytes("L", size, b"".join(bytes([level]) * _LEVELS * _LEVELS for level in levels))
    yield Image.merge("RGB", (fast, middle, slow))
    yield Image.merge("RGB", (slow, fast, middle))
    yield Image.merge("RGB", (middle, slow, fast))


def _parted(picture: PillowImage) -> int:
    """Return the largest difference between two neighbours in a row, over all bands."""
    from PIL import ImageChops

    right = picture.crop((1, 0, *picture.size))
    return max(high for _, high in bands(ImageChops.difference(right, picture.crop((0, 0, right.width, right.height)))))
