"""The pages of a PDF through PDFium: their text, and pictures of them. PDFium runs no JavaScript here.

PDFium is not thread-safe: it is only ever used in a child that reads one document at a time.
"""

from __future__ import annotations

import ctypes
import math
import re
from typing import TYPE_CHECKING, Any

from turnguard.media.pictures.renditions import Rendition, renditions
from turnguard.media.pictures.tiles import LEGIBLE, Box
from turnguard.media.types import Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MOST_PAGES = 2000
"""Pages whose text is read."""
_MOST_OBJECTS = 2000  # objects of a page that are looked at
_MANY_PATHS = 300  # more may be text drawn as outlines
_MANY_SEGMENTS = 1500  # the same in few paths: 50 letters of 30 lines and curves
_FINE = 2.0  # pixels per point: print of 6 points is 12 pixels high
_NESTED = 15  # forms inside forms whose pictures are looked for
_BROKEN_WORD = re.compile(r"(?:\x02|\ufffe|\xad|(?<=\w)-)[ \t]*(?:\r\n|\r|\n)(?=\w)")

Area = tuple[float, float, float, float]
"""Left, bottom, right, top, in points of the page's own space."""


def opened(data: bytes, password: str | None = None) -> Any:
    """A PDFium document. `Unreadable` where it is encrypted or damaged, or pypdfium2 is not installed."""
    try:
        import pypdf  # noqa: F401 - a part of the same extra
        import pypdfium2
    except ImportError:
        raise Unreadable("reading a PDF needs the extra: pip install 'turnguard[documents]'") from None
    try:
        document = pypdfium2.PdfDocument(data, password=password)
    except pypdfium2.PdfiumError as error:
        encrypted = "password" in str(error).lower() or "security" in str(error).lower()
        wrong = "an encrypted document, and the password does not open it"
        cause = (wrong if password else "an encrypted document") if encrypted else "a damaged document"
        raise Unreadable(cause) from None
    if not len(document):
        document.close()
        raise Unreadable("a document without pages")
    return document


def page_text(document: Any, index: int) -> str:
    """All text of a page, whether it is visible or not."""
    page = document.get_page(index)
    try:
        textpage = page.get_textpage()
        try:
            text = str(textpage.get_text_range(0, textpage.count_chars()))  # the default stays on the page in 4.30
        finally:
            textpage.close()
    finally:
        page.close()
    return text.replace("\x00", "")


def whole_text(pages: list[str]) -> str:
    """The text of pages as one: what runs over a page break is whole, and words broken there are joined."""
    return _BROKEN_WORD.sub("", "\n".join(pages)).replace("\r\n", "\n")


class PdfPages:
    """The pages of an open document as pictures."""

    noun = "page"
    any_order = True

    def __init__(self, document: Any, max_pixels: int, stamped: dict[int, list[Area]] | None = None) -> None:
        """`stamped`: by page, where annotations show more than text."""
        self._document = document
        self._max_pixels = max_pixels
        self._stamped = stamped or {}
        self.count = len(document)
        document.init_forms()

    def load(self, index: int) -> tuple[PillowImage, list[Rendition]]:
        """Page `index`, drawn so that print of 9 points is legible in one view, or of 6 where it holds pictures."""
        try:
            page = self._document.get_page(index)
            try:
                bitmap = page.render(scale=self._scale(page, index), may_draw_forms=True)
                picture = bitmap.to_pil().convert("RGB")
                bitmap.close()
            finally:
                page.close()
        except (Unreadable, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - PDFium and ctypes raise anything on damaged pages
            raise Unreadable(f"the page cannot be drawn ({type(error).__name__})") from None
        return picture, renditions(picture)

    def regions(self, index: int) -> list[Box] | None:
        """Where on the drawn page a tile could show what the text does not say; None: anywhere."""
        page = self._document.get_page(index)
        try:
            areas = self._areas(page, index)
            if areas is None:
                return None
            scale = self._scale(page, index)
            return [_on_drawing(page, area, scale) for area in areas]
        finally:
            page.close()

    def _areas(self, page: Any, index: int) -> list[Area] | None:
        found = _pictured(page)
        return None if found is None else found + self._stamped.get(index, [])

    def _scale(self, page: Any, index: int) -> float:
        width, height = page.get_size()
        if not (0 < width < 1e6 and 0 < height < 1e6):
            raise Unreadable("a page of impossible size")
        scale = LEGIBLE / max(width, height)
        if self._areas(page, index) != []:
            scale = max(scale, _FINE)
        most: float = math.sqrt(self._max_pixels / (width * height)) * 0.99  # PDFium rounds up to whole pixels
        return float(min(scale, most, 20.0))


def beyond_edges(document: Any, index: int) -> bool:
    """Move a page's edges out to where its pictures are, if much of one lies outside them. Whether that was needed."""
    import pypdfium2.raw as pdfium

    page = document.get_page(index)
    try:
        left, bottom, right, top = edges = page.get_cropbox()
        for item in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_FORM], max_depth=1):
            x0, y0, x1, y1 = _bounds(item)
            inside = max(0.0, min(x1, edges[2]) - max(x0, edges[0])) * max(0.0, min(y1, edges[3]) - max(y0, edges[1]))
            if inside < 0.9 * (x1 - x0) * (y1 - y0):
                left, bottom, right, top = min(left, x0), min(bottom, y0), max(right, x1), max(top, y1)
        if (left, bottom, right, top) == tuple(edges):
            return False
        middle = 7000.0  # a page is at most 14,400 points long
        box = (max(left, -middle), max(bottom, -middle), min(right, middle), min(top, middle))
        page.set_mediabox(*box)
        page.set_cropbox(*box)
        return True
    finally:
        page.close()


def _bounds(item: Any) -> Area:
    left, bottom, right, top = (item.get_bounds if hasattr(item, "get_bounds") else item.get_pos)()
    return float(left), float(bottom), float(right), float(top)


def _on_drawing(page: Any, area: Area, scale: float) -> Box:
    """An area as pixels of the drawing, whatever way the page is turned and cut."""
    import pypdfium2.raw as pdfium

    width, height = (math.ceil(side * scale) for side in page.get_size())
    x, y = ctypes.c_int(), ctypes.c_int()
    points: list[tuple[int, int]] = []
    for across in area[::2]:
        for up in area[1::2]:
            pdfium.FPDF_PageToDevice(page.raw, 0, 0, width, height, 0, across, up, x, y)
            points.append((x.value, y.value))
    columns, rows = [point[0] for point in points], [point[1] for point in points]
    return Box(min(columns), min(rows), max(columns) + 1, max(rows) + 1)


def _pictured(page: Any) -> list[Area] | None:
    """Areas of what is no text; None where that cannot be told: then anywhere."""
    import pypdfium2.raw as pdfium

    found: list[Area] = []
    paths = segments = 0
    around: Area | None = None  # of the form whose objects come next, until it is known to hold a picture
    for number, item in enumerate(page.get_objects(max_depth=_NESTED)):
        if number >= _MOST_OBJECTS:
            return None
        if item.level == 0:
            around = None
        if item.type == pdfium.FPDF_PAGEOBJ_FORM:
            around = _bounds(item) if item.level == 0 else around
        elif item.type in (pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_SHADING):
            if item.level == 0 and item.type == pdfium.FPDF_PAGEOBJ_IMAGE:
                found.append(_bounds(item))
            elif around is not None:
                found.append(around)
                around = None
        elif item.type == pdfium.FPDF_PAGEOBJ_PATH:
            paths += 1
            segments += max(0, pdfium.FPDFPath_CountSegments(item.raw))
        elif item.type == pdfium.FPDF_PAGEOBJ_TEXT and _in_drawn_letters(item):
            return None
        if paths > _MANY_PATHS or segments > _MANY_SEGMENTS:
            return None
    return found


def _in_drawn_letters(item: Any) -> bool:
    """Whether text is in a font of type 3, whose letters are drawings: they need not show what the text says.

    PDFium tells no font's type; of the embedded ones only these have no font file.
    """
    import pypdfium2.raw as pdfium

    font = pdfium.FPDFTextObj_GetFont(item.raw)
    if not font or pdfium.FPDFFont_GetIsEmbedded(font) != 1:
        return False
    size = ctypes.c_size_t(0)
    return not pdfium.FPDFFont_GetFontData(font, None, 0, size) or not size.value
