"""Contact sheets: frames or pages beyond the budget, several in one view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnguard.media.pictures.compare import differ
from turnguard.media.pictures.encode import encode
from turnguard.media.pictures.frames import Sheet
from turnguard.media.pictures.renditions import Rendition
from turnguard.media.pictures.tiles import COARSE, EYE, FINE
from turnguard.media.types import Coarse, Skipped, View

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_GROUND = (128, 128, 128)
_BEHIND_WHOLE = 1.0  # risk: after every frame with a view of its own, before every tile


class Sheets:
    """Fills at most `most` sheets laid out as `sheet`, cell by cell."""

    def __init__(self, noun: str, sheet: Sheet | None, most: int) -> None:
        self._noun, self._sheet, self._most = noun, sheet, most
        self._canvas: PillowImage | None = None
        self._on_it: list[int] = []
        self._scale = 1.0
        self._cells = 0
        self._views: list[View] = []
        self._skipped: list[Skipped] = []
        self._reduced: list[Coarse] = []

    def add(self, index: int, picture: PillowImage, ways: list[Rendition]) -> None:
        """Put each visibly different rendition of a frame into a cell, and list what finds no room."""
        shown: list[PillowImage] = []
        for way in ways:
            if way.whole_only:
                continue
            cell, scale = self._fitted(way.of(picture))
            if any(not differ(cell, other) for other in shown):
                continue
            name = f"{self._noun} {index + 1}"
            if scale < COARSE:
                self._skipped.append(Skipped(name, "sampled: too large for a contact sheet", True))
                return
            if not self._place(index, cell, scale):
                self._skipped.append(Skipped(name, "sampled: more than fit on contact sheets", True))
                return
            shown.append(cell)

    def done(self) -> tuple[list[View], list[Skipped], list[Coarse]]:
        """The sheets, the frames that found no room, and the scale of those that are shown coarsely."""
        self._close()
        return self._views, self._skipped, self._reduced

    def _fitted(self, drawn: PillowImage) -> tuple[PillowImage, float]:
        from PIL import Image

        assert self._sheet is not None  # noqa: S101 - no frame is shared without one
        wide, high = self._sheet.cell
        scale = min(1.0, wide / drawn.width, high / drawn.height)
        size = max(1, int(drawn.width * scale)), max(1, int(drawn.height * scale))
        if size == drawn.size:
            return drawn, 1.0
        return drawn.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0), round(scale, 2)

    def _place(self, index: int, cell: PillowImage, scale: float) -> bool:
        from PIL import Image

        assert self._sheet is not None  # noqa: S101
        if self._canvas is not None and self._cells == self._sheet.cells:
            self._close()
        if self._canvas is None:
            if len(self._views) >= self._most:
                return False
            self._canvas = Image.new("RGB", (EYE, EYE), _GROUND)
        down, across = divmod(self._cells, self._sheet.across)
        wide, high = self._sheet.cell
        self._canvas.paste(cell, (across * wide, down * high))
        self._cells += 1
        self._scale = min(self._scale, scale)
        if index not in self._on_it:
            self._on_it.append(index)
        return True

    def _close(self) -> None:
        if self._canvas is None:
            return
        label = f"{_ranges(self._noun, self._on_it)} on a contact sheet"
        self._views.append(View(encode(self._canvas), label, _BEHIND_WHOLE))
        if self._scale < FINE:
            self._reduced.append(Coarse(label, self._scale))
        self._canvas, self._on_it, self._cells, self._scale = None, [], 0, 1.0


def _ranges(noun: str, indexes: list[int]) -> str:
    """Such as "frames 2 to 5, 7": ascending indexes as the numbers that people count by."""
    runs: list[list[int]] = []
    for index in indexes:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    said = [f"{run[0] + 1} to {run[-1] + 1}" if len(run) > 1 else f"{run[0] + 1}" for run in runs]
    return f"{noun}{'s' if len(indexes) > 1 else ''} {', '.join(said)}"
