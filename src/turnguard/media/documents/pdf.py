"""PDF: the text of all pages as one, hidden layers, notes, fields and title included, and a picture of each page.

PDFium is not thread-safe, not even across documents: one lock stands around every use of it. It runs no JavaScript
here.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import threading
from typing import TYPE_CHECKING, Any

from turnguard.media.memo import Made
from turnguard.media.pictures.renditions import Rendition, renditions
from turnguard.media.pictures.tiles import LEGIBLE, Box
from turnguard.media.pictures.views import Limits, views_of
from turnguard.media.types import Skipped, Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_LOCK = threading.Lock()
_MOST_PAGES = 2000  # pages whose text is read
_MOST_CHARACTERS = 5_000_000
_MOST_OBJECTS = 2000  # objects of a page that are looked at
_MANY_PATHS = 300  # more may be text drawn as outlines
_MANY_SEGMENTS = 1500  # the same in few paths: 50 letters of 30 lines and curves
_FINE = 2.0  # pixels per point: print of 6 points is 12 pixels high
_BROKEN_WORD = re.compile(r"(?:\x02|\ufffe|\xad|(?<=\w)-)[ \t]*(?:\r\n|\r|\n)(?=\w)")
_INFO = ("Title", "Subject", "Keywords", "Author")


def _forget() -> None:
    """In a forked child nobody is at it, whoever in the parent was."""
    global _LOCK  # noqa: PLW0603 - PDFium has one lock per process
    _LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def read_pdf(data: bytes, limits: Limits) -> Made:
    """Text and page views of a PDF; `Unreadable` where it is encrypted, damaged, or pypdfium2 is not installed."""
    try:
        import pypdfium2
    except ImportError:
        raise Unreadable("reading a PDF needs the extra: pip install 'turnguard[documents]'") from None
    while not _LOCK.acquire(timeout=0.2):
        limits.check()
    try:
        limits.check()
        try:
            document = pypdfium2.PdfDocument(data)
        except pypdfium2.PdfiumError as error:
            encrypted = "password" in str(error).lower() or "security" in str(error).lower()
            raise Unreadable("an encrypted document" if encrypted else "a damaged document") from None
        try:
            return _read(document, limits)
        except pypdfium2.PdfiumError:
            raise Unreadable("a damaged document") from None
        finally:
            document.close()
    finally:
        _LOCK.release()


def _read(document: Any, limits: Limits) -> Made:
    pages = PdfPages(document, limits.max_pixels)
    if not pages.count:
        raise Unreadable("a document without pages")
    texts, skipped = _texts(document, pages.count, limits)
    made = views_of(pages, limits, numbered=True)
    if (attached := document.count_attachments()) > 0:
        skipped.append(Skipped("attachments", f"{attached} attached files are not read", True))
    return made._replace(texts=texts, skipped=(*skipped, *made.skipped))


def _texts(document: Any, count: int, limits: Limits) -> tuple[tuple[tuple[str, str], ...], list[Skipped]]:
    """One text for all pages, so that what runs over a page break is whole, and words broken there are joined."""
    said: list[str] = []
    skipped: list[Skipped] = []
    length = 0
    for index in range(count):
        limits.check()
        if index >= _MOST_PAGES or length > _MOST_CHARACTERS:
            skipped.append(Skipped(f"text of pages {index + 1} to {count}", "more text than is read", True))
            break
        try:
            text = _page_text(document, index)
        except Exception as error:  # noqa: BLE001 - one damaged page must not hide the others
            skipped.append(Skipped(f"text of page {index + 1}", f"cannot be read ({type(error).__name__})", True))
            continue
        length += len(text)
        said.append(text)
    about = "\n".join(filter(None, (document.get_metadata_value(key).strip() for key in _INFO)))
    whole = _BROKEN_WORD.sub("", "\n".join(said)).replace("\r\n", "\n").replace("\x00", "")
    texts = [("", whole)] if whole.strip() else []
    if about:
        texts.append(("title and description", about))
    return tuple(texts), skipped


def _page_text(document: Any, index: int) -> str:
    page = document.get_page(index)
    try:
        textpage = page.get_textpage()
        try:
            text = str(textpage.get_text_range(0, textpage.count_chars()))  # the default stays on the page in 4.30
        finally:
            textpage.close()
        return "\n".join(filter(None, (text, *_notes(page))))
    finally:
        page.close()


def _notes(page: Any) -> list[str]:
    """What stands in annotations and form fields."""
    import pypdfium2.raw as pdfium

    notes: list[str] = []
    for at in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MOST_OBJECTS)):
        annotation = pdfium.FPDFPage_GetAnnot(page, at)
        if not annotation:
            continue
        try:
            for key in (b"Contents", b"V", b"TU"):
                size = pdfium.FPDFAnnot_GetStringValue(annotation, key, None, 0)
                if 2 < size < 2 * _MOST_CHARACTERS:
                    buffer = ctypes.create_string_buffer(size)
                    pointer = ctypes.cast(buffer, ctypes.POINTER(pdfium.FPDF_WCHAR))
                    pdfium.FPDFAnnot_GetStringValue(annotation, key, pointer, size)
                    notes.append(buffer.raw[: size - 2].decode("utf-16-le", "replace"))
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)
    return notes


class PdfPages:
    """The pages of an open document as pictures. The lock must be held."""

    noun = "page"
    any_order = True

    def __init__(self, document: Any, max_pixels: int) -> None:
        self._document = document
        self._max_pixels = max_pixels
        self.count = len(document)
        document.init_forms()

    def load(self, index: int) -> tuple[PillowImage, list[Rendition]]:
        """Page `index`, drawn so that print of 9 points is legible in one view, or of 6 where it holds pictures."""
        try:
            page = self._document.get_page(index)
            try:
                bitmap = page.render(scale=self._scale(page), may_draw_forms=True)
                picture = bitmap.to_pil().convert("RGB")
                bitmap.close()
            finally:
                page.close()
        except Unreadable:
            raise
        except Exception as error:  # noqa: BLE001 - PDFium and ctypes raise anything on damaged pages
            raise Unreadable(f"the page cannot be drawn ({type(error).__name__})") from None
        return picture, renditions(picture)

    def regions(self, index: int) -> list[Box] | None:
        """Where on the drawn page a tile could show what the text does not say; None: anywhere."""
        page = self._document.get_page(index)
        try:
            found = _pictured(page)
            if found is None:
                return None
            scale, height = self._scale(page), page.get_height()
            return [
                Box(
                    math.floor(left * scale),
                    math.floor((height - top) * scale),
                    math.ceil(right * scale),
                    math.ceil((height - bottom) * scale),
                )
                for left, bottom, right, top in found
            ]
        finally:
            page.close()

    def _scale(self, page: Any) -> float:
        width, height = page.get_size()
        if not (0 < width < 1e6 and 0 < height < 1e6):
            raise Unreadable("a page of impossible size")
        scale = LEGIBLE / max(width, height)
        if _pictured(page) != []:
            scale = max(scale, _FINE)
        most: float = math.sqrt(self._max_pixels / (width * height)) * 0.99  # PDFium rounds up to whole pixels
        return float(min(scale, most, 20.0))


def _pictured(page: Any) -> list[tuple[float, float, float, float]] | None:
    """(left, bottom, right, top) in points of what is no text; None where that cannot be told: then anywhere."""
    import pypdfium2.raw as pdfium

    if page.get_rotation() or page.get_cropbox()[:2] != (0, 0):
        return None
    found: list[tuple[float, float, float, float]] = []
    paths = segments = 0
    for number, item in enumerate(page.get_objects(max_depth=1)):
        if number >= _MOST_OBJECTS:
            return None
        if item.type in (pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_FORM):
            found.append(tuple((item.get_bounds if hasattr(item, "get_bounds") else item.get_pos)()))
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
