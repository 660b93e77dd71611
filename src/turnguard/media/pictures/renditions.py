"""The ways in which one picture may be shown, so that nothing hides in the difference between viewers.

A viewer lays transparency on a light or a dark ground, or drops it; scales 16-bit samples or clips them; applies a
colour profile or a gamma, or does not. Where two of these can differ visibly, both are judged. Pillow only; no numpy.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

VISIBLE = 1  # level of 255, averaged over a block of 8 x 8: print of 12 levels of contrast shifts its block by 2
_BLOCK = 8
_TAME = 48  # levels: a profile or a gamma that shifts colours less than this hides nothing
_STRIP = 512  # rows compared at a time: bounds the memory


class Rendition(NamedTuple):
    """One way to show a picture. `draw` turns the picture, or a crop of it, into RGB."""

    label: str
    draw: Callable[[PillowImage], PillowImage]
    whole_only: bool = False


def normalised(picture: PillowImage) -> PillowImage:
    """A loaded picture in one of the modes that `renditions` knows: RGB, RGBA or I (16 bits, 0..65535)."""
    mode = picture.mode
    if mode.startswith("I;16"):
        return picture.convert("I")
    if mode == "I" and bands(picture)[0][0] >= 0 and bands(picture)[0][1] <= 0xFFFF:
        return picture
    if mode in ("I", "F"):
        low, high = bands(picture)[0]
        if not low < high:
            return picture.convert("L").convert("RGB")
        scale = 255.0 / (high - low)
        return picture.convert("F").point(lambda sample: sample * scale - low * scale).convert("L").convert("RGB")
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        if mode == "La":
            picture = picture.convert("LA")
        if mode != "RGBA":
            picture = picture.convert("RGBA")
        return picture.convert("RGB") if picture.getchannel("A").getextrema()[0] == 255 else picture
    return picture if mode == "RGB" else picture.convert("RGB")


def renditions(
    picture: PillowImage, profile: bytes | None = None, gamma: float | None = None, orientation: int = 1
) -> list[Rendition]:
    """The ways to show a normalised, upright picture that may differ visibly, the most usual first.

    `orientation` is the EXIF value that was applied: a viewer that ignores it sees the picture as it was stored.
    """
    if picture.mode == "I":
        ways = [Rendition("", _scaled), Rendition("clipped to 8 bits", _clipped)]
    elif picture.mode == "RGBA":
        ways = [Rendition("", _on((255, 255, 255)))]
        if picture.getchannel("A").reduce(_BLOCK).getextrema()[0] < 255 - VISIBLE:  # type: ignore[operator]
            ways += [Rendition("on dark ground", _on((0, 0, 0))), Rendition("without its transparency", _opaque)]
    else:
        ways = [Rendition("", _opaque)]
    shown = ways[0].draw
    managed = _by_profile(profile) if profile else _by_gamma(gamma) if gamma else None
    if managed is not None and _is_wild(managed):
        label = "with its colour profile" if profile else "with its gamma"
        ways.append(Rendition(label, lambda crop: managed(shown(crop))))
    if orientation in _UNDO:
        ways.append(Rendition("as stored, not turned upright", _turned_back(shown, orientation), whole_only=True))
    return ways


def differ(one: PillowImage, other: PillowImage) -> bool:
    """Whether two pictures of one mode differ visibly somewhere."""
    from PIL import ImageChops

    if one.size != other.size or one.mode != other.mode:
        return True
    if one.mode not in ("RGB", "RGBA"):
        return one.tobytes() != other.tobytes()
    for upper in range(0, one.height, _STRIP):
        box = (0, upper, one.width, min(upper + _STRIP, one.height))
        blocks = ImageChops.difference(one.crop(box), other.crop(box)).reduce(_BLOCK)
        if any(high > VISIBLE for _, high in bands(blocks)):
            return True
    return False


def is_flat(picture: PillowImage, *, within: int = 2) -> bool:
    """Whether an RGB picture is of a single colour."""
    return all(high - low <= within for low, high in bands(picture))


def bands(picture: PillowImage) -> list[tuple[int, int]]:
    """The lowest and the highest level of each band."""
    extrema = picture.getextrema()
    return list(extrema) if isinstance(extrema[0], tuple) else [extrema]  # type: ignore[list-item]


def _opaque(crop: PillowImage) -> PillowImage:
    return crop if crop.mode == "RGB" else crop.convert("RGB")


def _on(ground: tuple[int, int, int]) -> Callable[[PillowImage], PillowImage]:
    def draw(crop: PillowImage) -> PillowImage:
        from PIL import Image

        flat = Image.new("RGB", crop.size, ground)
        flat.paste(crop, (0, 0), crop.getchannel("A"))
        return flat

    return draw


def _scaled(crop: PillowImage) -> PillowImage:
    return crop.point(lambda sample: sample * (255 / 65535)).convert("L").convert("RGB")


def _clipped(crop: PillowImage) -> PillowImage:
    return crop.convert("L").convert("RGB")


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


def _turned_back(shown: Callable[[PillowImage], PillowImage], orientation: int) -> Callable[[PillowImage], PillowImage]:
    def draw(picture: PillowImage) -> PillowImage:
        from PIL import Image

        return shown(picture).transpose(Image.Transpose[_UNDO[orientation]])

    return draw


def _by_profile(profile: bytes) -> Callable[[PillowImage], PillowImage] | None:
    """The transform to sRGB; None where the profile is broken or Pillow lacks littlecms: viewers then show it raw."""
    try:
        from PIL import ImageCms

        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), "RGB", "RGB"
        )
    except Exception:  # noqa: BLE001 - a hostile profile makes littlecms raise anything
        return None
    return lambda crop: ImageCms.applyTransform(crop, transform) or crop


def _by_gamma(gamma: float) -> Callable[[PillowImage], PillowImage] | None:
    """PNG `gAMA`: samples are light to the power `gamma`; a screen expects 1 / 2.2."""
    if not 0.01 <= gamma <= 100:
        return None
    power = 1 / (2.2 * gamma)
    table = [round(255 * (level / 255) ** power) for level in range(256)] * 3
    return lambda crop: crop.point(table)


def _is_wild(managed: Callable[[PillowImage], PillowImage]) -> bool:
    """Whether it changes colours so much that something could be hidden: tried on every grey, every ramp and a cube."""
    from PIL import Image, ImageChops

    ramps = [(v, v, v) for v in range(256)] + [
        (v if band == 0 else 0, v if band == 1 else 0, v if band == 2 else 0) for band in range(3) for v in range(256)
    ]
    cube = [(r, g, b) for r in range(0, 256, 17) for g in range(0, 256, 17) for b in range(0, 256, 17)]
    probe = Image.new("RGB", (len(ramps) + len(cube), 1))
    probe.putdata(ramps + cube)
    try:
        return any(high > _TAME for _, high in bands(ImageChops.difference(probe, managed(probe))))
    except Exception:  # noqa: BLE001 - littlecms on a hostile profile
        return False
