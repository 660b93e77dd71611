"""What a whole view loses of a picture, block by block: which tiles would show something new."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from turnguard.media.pictures.compare import VISIBLE, bands
from turnguard.media.pictures.tiles import EYE, Box, layout

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

LOST = 1  # level, averaged over a block and rounded: below it not even faint print (8 levels of contrast) is lost
_BLOCK = 8
_STRIP = 512  # rows; a multiple of the block
_FLAT = 2

Draw = Callable[[Box], "PillowImage"]
"""Draws a region of a picture as RGB."""


class Losses(NamedTuple):
    """Small maps of one drawing. `across` and `down` are the sides of a block of `lost` and `shown`, in pixels."""

    lost: PillowImage
    shown: PillowImage
    differences: tuple[PillowImage, ...]
    """How far the drawing differs from each earlier one, in blocks of 8 x 8."""
    across: int
    down: int

    @classmethod
    def of(cls, drawn: PillowImage, base: PillowImage, whole: PillowImage, earlier: Iterable[Draw]) -> Losses:
        """What `whole` loses of `base`, the drawing or its halves. `earlier` draw the renditions shown before it."""
        from PIL import Image

        lost = _lost(base, whole, drawn.size)
        scaled = layout(*drawn.size).scaled  # without the padding of a strip
        shown = whole.resize(lost.size, Image.Resampling.BOX, box=(0, 0, *scaled))
        differences = tuple(_difference(drawn, draw) for draw in earlier)
        return cls(lost, shown, differences, _BLOCK * factor(drawn.width), _BLOCK * factor(drawn.height))

    def most(self, box: Box) -> int:
        """The most that is lost in a block of the box, in levels of 255."""
        return max(high for _, high in bands(self.lost.crop(self._blocks(box))))

    def repeats(self, box: Box) -> bool:
        """Whether an earlier drawing looks the same there."""
        blocks = _blocks(box, _BLOCK, _BLOCK)
        return any(max(high for _, high in bands(one.crop(blocks))) <= VISIBLE for one in self.differences)

    def is_flat(self, box: Box) -> bool:
        """Whether the box is of a single colour, as far as the whole view shows."""
        return all(high - low <= _FLAT for low, high in bands(self.shown.crop(self._blocks(box))))

    def _blocks(self, box: Box) -> Box:
        return _blocks(box, self.across, self.down)


def factor(side: int) -> int:
    """2 for a side that holds twice what the whole view will show even when halved, else 1."""
    return 2 if side >= 4 * EYE else 1


def halved(drawn: PillowImage) -> PillowImage:
    """The picture at half size along each side that is long enough: the whole view is made from it, and what that
    loses is measured against it.
    """
    factors = factor(drawn.width), factor(drawn.height)
    return drawn.reduce(factors) if factors != (1, 1) else drawn


def _blocks(box: Box, across: int, down: int) -> Box:
    return Box(box.left // across, box.upper // down, -(-box.right // across), -(-box.lower // down))


def _lost(base: PillowImage, whole: PillowImage, size: tuple[int, int]) -> PillowImage:
    """What the whole view loses of `base` (of `size`, perhaps halved), a pixel per block. In strips, to save memory."""
    from PIL import Image, ImageChops

    shown = layout(*size).scaled
    lost = Image.new("RGB", (-(-base.width // _BLOCK), -(-base.height // _BLOCK)))
    for upper in range(0, base.height, _STRIP):
        strip = base.crop((0, upper, base.width, min(upper + _STRIP, base.height)))
        rows = (0.0, upper * shown[1] / base.height, float(shown[0]), (upper + strip.height) * shown[1] / base.height)
        again = whole.resize(strip.size, Image.Resampling.NEAREST, box=rows)
        lost.paste(ImageChops.difference(strip, again).reduce(_BLOCK), (0, upper // _BLOCK))
    return lost


def _difference(drawn: PillowImage, draw: Draw) -> PillowImage:
    from PIL import Image, ImageChops

    found = Image.new("RGB", (-(-drawn.width // _BLOCK), -(-drawn.height // _BLOCK)))
    for upper in range(0, drawn.height, _STRIP):
        box = Box(0, upper, drawn.width, min(upper + _STRIP, drawn.height))
        found.paste(ImageChops.difference(drawn.crop(box), draw(box)).reduce(_BLOCK), (0, upper // _BLOCK))
    return found
