"""The ways in which one picture may be shown, so that nothing hides in the difference between viewers.

A viewer lays transparency on a light or a dark ground, or drops it; scales deep samples, clips them or stretches them;
applies a colour profile or a gamma, or does not. Where two of these can differ visibly, both are judged. Pillow only;
no numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from turnguard.media.pictures.code_points import Colours
from turnguard.media.pictures.compare import VISIBLE, bands

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_BLOCK = 8
_GAIN = 4  # stretching adds nothing where another way shows all samples with at least a quarter of its contrast
_DEEP = ("I", "F")
_LIGHT, _DARK = (255, 255, 255), (0, 0, 0)

Draw = Callable[["PillowImage"], "PillowImage"]


class Rendition(NamedTuple):
    """One way to show a picture. `draw` turns the picture, or a crop of it, into RGB.

    `base` is drawn in place of the picture where the picture no longer holds what this way shows.
    """

    label: str
    draw: Draw
    whole_only: bool = False
    base: PillowImage | None = None

    def of(self, picture: PillowImage, box: tuple[int, int, int, int] | None = None) -> PillowImage:
        """Return the picture, or one box of it, as RGB."""
        source = picture if self.base is None else self.base
        return self.draw(source if box is None else source.crop(box))


def normalised(picture: PillowImage) -> PillowImage:
    """A loaded picture in one of the modes that `renditions` knows: RGB, RGBA, I (16 or 32 bits) or F."""
    mode = picture.mode
    if mode.startswith("I;16"):
        return picture.convert("I")
    if mode in _DEEP:
        return picture
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        if mode == "La":
            picture = picture.convert("LA")
        if mode != "RGBA":
            picture = picture.convert("RGBA")
        return picture.convert("RGB") if picture.getchannel("A").getextrema()[0] == 255 else picture
    return picture if mode == "RGB" else picture.convert("RGB")


def renditions(
    picture: PillowImage,
    profile: bytes | None = None,
    gamma: float | None = None,
    orientation: int = 1,
    ink: PillowImage | None = None,
    colours: Collection[Colours] = (),
) -> list[Rendition]:
    """The ways to show a normalised, upright picture that may differ visibly, the most usual first.

    `orientation` is the EXIF value that was applied: a viewer that ignores it sees the picture as it was stored. `ink`
    is the same picture in CMYK where it came so: its profile turns inks, not colours, into what is shown.
    """
    if picture.mode in _DEEP:
        ways = [Rendition(label, draw) for label, draw in _depths(picture)]
        ways += _with_transparent_level(picture, ways[0].draw)
    elif picture.mode == "RGBA":
        ways = [Rendition("", _on(_LIGHT))]
        if picture.getchannel("A").reduce(_BLOCK).getextrema()[0] < 255 - VISIBLE:  # type: ignore[operator]
            ways += [Rendition("on dark ground", _on(_DARK)), Rendition("without its transparency", opaque)]
    else:
        ways = [Rendition("", opaque)]
    shown = ways[0].draw
    if profile or gamma or colours:
        from turnguard.media.pictures.colours import managed

        for label, draw, takes_ink in managed(profile, gamma, colours, has_ink=ink is not None):
            ways.append(Rendition(label, draw if takes_ink else _after(shown, draw), base=ink if takes_ink else None))
    if orientation in _UNDO:
        ways.append(Rendition("as stored, not turned upright", _turned_back(shown, orientation), whole_only=True))
    return ways


def opaque(crop: PillowImage) -> PillowImage:
    """Show the colours and drop transparency."""
    return crop if crop.mode == "RGB" else crop.convert("RGB")


def _on(ground: tuple[int, int, int]) -> Draw:
    def draw(crop: PillowImage) -> PillowImage:
        from PIL import Image

        flat = Image.new("RGB", crop.size, ground)
        flat.paste(crop, (0, 0), crop.getchannel("A"))
        return flat

    return draw


def _after(first: Draw, then: Draw) -> Draw:
    return lambda crop: then(first(crop))


# ---------------------------------------------------------------- samples of more than eight bits


def _depths(picture: PillowImage) -> Iterator[tuple[str, Draw]]:
    """Readers scale samples from 16 or 32 bits, clip them, take them for fractions of one, or stretch what there is."""
    low, high = bands(picture)[0]
    sixteen = picture.mode == "I" and low >= 0 and high <= 0xFFFF
    ways = [("clipped to 8 bits", 1.0)]
    if sixteen:
        ways.insert(0, ("scaled from 16 bits", 255 / 0xFFFF))
    elif picture.mode == "I":
        ways.append(("scaled from 32 bits", 255 / 0x7FFFFFFF))
    else:
        ways.append(("as fractions of one", 255.0))
    for at, (label, scale) in enumerate(ways):
        yield label if at else "", _linear(scale, 0.0)
    if low < high:
        stretched = 255.0 / (high - low)
        if not any(scale * _GAIN >= stretched and low >= 0 and high * scale <= 255 for _, scale in ways):
            yield "stretched from its lowest to its highest sample", _linear(stretched, -low * stretched)


def _linear(scale: float, offset: float) -> Draw:
    return lambda crop: crop.convert("F").point(lambda sample: sample * scale + offset).convert("L").convert("RGB")


def _with_transparent_level(picture: PillowImage, shown: Draw) -> list[Rendition]:
    """One grey level of 16 bits may be declared transparent (PNG's tRNS)."""
    level = picture.info.get("transparency")
    if picture.mode != "I" or not isinstance(level, int) or not 0 <= level <= 0xFFFF:
        return []
    mask = picture.point([255] * level + [0] + [255] * (0xFFFF - level), "L")
    if mask.getextrema()[0] == 255:
        return []
    flat = shown(picture)
    flat.putalpha(mask)
    return [
        Rendition("with its transparent level, on light ground", _on(_LIGHT), base=flat),
        Rendition("with its transparent level, on dark ground", _on(_DARK), base=flat),
    ]


# The inverse of what EXIF asks for; names of Pillow's Transpose.
_UNDO = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_90",
    7: "TRANSVERSE",
    8: "ROTATE_270",
}


def _turned_back(shown: Draw, orientation: int) -> Draw:
    def draw(picture: PillowImage) -> PillowImage:
        from PIL import Image

        return shown(picture).transpose(Image.Transpose[_UNDO[orientation]])

    return draw
