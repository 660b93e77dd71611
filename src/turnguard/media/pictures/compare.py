"""Whether two pictures differ visibly, and how far the levels of one reach. Pillow only; no numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

VISIBLE = 1  # level of 255, averaged over a block of 8 x 8: print of 12 levels of contrast shifts its block by 2
_BLOCK = 8
_STRIP = 512  # rows compared at a time: bounds the memory


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
