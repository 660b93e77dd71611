"""PDF: the text of all pages as one, every other string, what hides in layers and annotations, the files inside, and a
picture of each page.

What is drawn is read by PDFium; what stands in the bytes is found without it, so that no reader finds more than is
judged here. What cannot be read is listed.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from turnguard.media.documents.found import MOST_CHARACTERS, Found, joined
from turnguard.media.documents.markup import read_xml
from turnguard.media.documents.pdf.objects import Item, Malformed, Name, Objects, Ref, parse, scan, walk
from turnguard.media.documents.pdf.pages import (
    MOST_PAGES,
    PdfPages,
    beyond_edges,
    opened,
    page_text,
    whole_text,
)
from turnguard.media.documents.pdf.reach import Reached, reach
from turnguard.media.documents.pdf.sheets import Loose, form, laid_out, loose, without_layers
from turnguard.media.documents.pdf.streams import Undecoded, decoded, unpack
from turnguard.media.documents.pdf.words import names_of, strings_of, texts_of
from turnguard.media.pictures.compare import differ
from turnguard.media.pictures.views import views_of
from turnguard.media.readings import As
from turnguard.media.types import Unreadable

_WORDLESS_STREAMS = frozenset(
    ("FontFile", "FontFile2", "FontFile3", "ToUnicode", "CIDToGIDMap", "CIDSet", "JBIG2Globals", "DestOutputProfile")
)
"""Keys whose streams are fonts, code tables and colour profiles: no reader shows them as words."""
_WORDLESS_ENTRIES = frozenset(("FunctionType", "ShadingType", "HalftoneType", "CMapName", "Length1"))
_STRUCTURE = re.compile(
    rb"%PDF-\d\.\d|%%EOF|%[\x80-\xff][^\r\n]*|startxref\s+\d+|endobj"
    rb"|xref\s+(?:\d+[ ]+\d+\s+(?:\d{10}[ ]\d{5}[ ][nf]\s*)*)+"
)
_CODES = (b"%!PS-Adobe-3.0 Resource-CMap", b"/CIDInit /ProcSet findresource")
_TRAILER = re.compile(rb"trailer(?=\s*<<)")
_SEARCHED = 2_000_000_000  # characters compared while repeats are left out


def read_pdf(found: Found, data: bytes, where: str, said: As, depth: int) -> None:
    """Collect what a PDF holds; `Unreadable` where it is encrypted, damaged, or the extra is not installed."""
    start = max(0, data.find(b"%PDF-"))
    body = data[start:]
    document = opened(body, said.password)
    try:
        _Reader(found, where, depth, document, body).read(data[:start])
    finally:
        document.close()


class _Reader:
    """One PDF at work."""

    def __init__(self, found: Found, where: str, depth: int, document: Any, data: bytes) -> None:
        self.found, self.where, self.depth = found, where, depth
        self.document, self.data = document, data
        self.text = ""
        self.objects = Objects()
        self.reached = Reached()

    def read(self, lead: bytes) -> None:
        self._try("text", self._read_text)
        self._try("objects", self._read_objects)
        parts: tuple[list[Loose], list[Loose]] = self._try("streams", self._read_streams) or ([], [])
        self._try("strings", self._read_strings)
        self._try("bytes between its objects", lambda: self._read_outside(lead))
        spare = min(len(parts[1]), self.found.room.views // 4)
        room = self.found.room
        pages = PdfPages(self.document, room.max_pixels)
        self.found.show(self.where, views_of(pages, room._replace(views=room.views - spare), numbered=True))
        self._try("parts in no page's text", lambda: self._read_sheets(parts[0], shown=False))
        self._try("parts that no page shows", lambda: self._read_sheets(parts[1], shown=True))
        self._try("layers", self._read_layers)
        self._try("pictures beyond the edges of pages", self._read_edges)

    def _try(self, what: str, work: Callable[[], Any]) -> Any:
        """One damaged thing must not hide the others."""
        self.found.limits.check()
        try:
            return work()
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # noqa: BLE001 - PDFium, ctypes and pypdf raise anything on damaged files
            cause = str(error) if isinstance(error, Unreadable) else f"cannot be read ({type(error).__name__})"
            self.found.skip(joined(self.where, what), cause)
            return None

    # ------------------------------------------------------------ words

    def _read_text(self) -> None:
        self.text = self._text_of(self.document, self.where)
        self.found.text(self.where, self.text)

    def _text_of(self, document: Any, where: str) -> str:
        said: list[str] = []
        length, count = 0, len(document)
        for index in range(count):
            self.found.limits.check()
            if index >= MOST_PAGES or length > MOST_CHARACTERS:
                self.found.skip(joined(where, f"text of pages {index + 1} to {count}"), "more text than is read")
                break
            try:
                said.append(page_text(document, index))
            except Exception as error:  # noqa: BLE001 - one damaged page must not hide the others
                cause = f"cannot be read ({type(error).__name__})"
                self.found.skip(joined(where, f"text of page {index + 1}"), cause)
                continue
            length += len(said[-1])
        return whole_text(said)

    def _read_objects(self) -> None:
        plain = self.data
        if b"/Encrypt" in plain:
            plain = self._decrypted()
        self.objects = scan(plain, self.found.limits.check)
        unpack(self.objects)
        self.reached = reach(self.objects)

    def _decrypted(self) -> bytes:
        import pypdfium2.raw as pdfium

        out = io.BytesIO()
        self.document.save(out, flags=pdfium.FPDF_REMOVE_SECURITY)
        return out.getvalue()

    def _read_strings(self) -> None:
        for entry in self.objects.unread:
            self.found.skip(joined(self.where, entry), "malformed")
        comments = (text for comment in self.objects.comments for text in texts_of(comment))
        strings = self._new([*strings_of(self.objects.all), *comments])
        self.found.strings(joined(self.where, "notes, forms, links, titles and other strings"), strings)
        self.found.strings(joined(self.where, "names"), self._new(names_of(self.objects.all)))

    def _new(self, strings: Iterable[str]) -> list[str]:
        """Those that the text of the pages does not say."""
        distinct = list(dict.fromkeys(" ".join(string.split()) for string in strings))
        text = " ".join(self.text.split())
        if len(text) * len(distinct) > _SEARCHED:
            return distinct
        return [string for string in distinct if string not in text]

    def _read_outside(self, lead: bytes) -> None:
        """What stands before the head, between objects and after the end: comments, text, other files."""
        where = joined(self.where, "before its head")
        if lead.strip():
            self.found.file(lead, where, As(), self.depth + 1)
        outside = (
            self.objects.outside if b"/Encrypt" not in self.data else scan(self.data, self.found.limits.check).outside
        )
        between: list[bytes] = []
        for start, end in outside:
            last = self.data.find(b"%%EOF", start, end) if end == len(self.data) else -1
            cut = last + 5 if last >= 0 else end
            between += [_without_structure(self.data[start:cut]), self.data[cut:end]]
        rests = [stripped for rest in between if (stripped := rest.strip(b" \r\n\t\f\0"))]
        for number, rest in enumerate(rests, 1):
            self.found.file(rest, joined(self.where, f"between its objects {number}"), As(), self.depth + 1)

    # ------------------------------------------------------------ streams

    def _read_streams(self) -> tuple[list[Loose], list[Loose]]:
        """Read the streams that are files. Gives back what is in no page's text, and what no page shows."""
        keys: defaultdict[int, set[str]] = defaultdict(set)
        letters: set[int] = set()
        private: set[int] = set()
        for item in self.objects.all:
            for key, value, _ in walk(item.value):
                if isinstance(value, Ref):
                    keys[value.number].add(key)
                elif key == "CharProcs":
                    letters |= _refs(self.objects.entries(value))
            if "PieceInfo" in item.entries:
                private |= self._below(item.entries["PieceInfo"])
        shown: list[Item] = []
        lost: list[Item] = []
        lost_pages: list[Loose] = []
        forms: list[bytes] = []
        linear = b"/Linearized" in self.data[:2048]
        for item in self.objects.all:
            entries, number = item.entries, item.number
            if item.stream is None or entries.get("Type") in ("XRef", "ObjStm", "CMap"):
                continue
            latest = self.objects.latest.get(number) is item
            said = keys[number]
            if (
                said & _WORDLESS_STREAMS
                or _WORDLESS_ENTRIES & {*entries}
                or number in letters
                or _is_profile(entries, said)
            ):
                continue
            if "BBox" in entries or ("Width" in entries and "Height" in entries):
                if not latest or number not in self.reached.drawn | self.reached.shown:
                    lost.append(item)
                elif number in self.reached.shown and "BBox" in entries:
                    shown.append(item)
            elif number in self.reached.contents and latest:
                continue
            elif "Contents" in said and not {*entries} & {"Type", "Subtype"}:
                lost_pages += self._as_forms(item)
            elif number in private:
                self.found.skip(joined(self.where, f"stream {number}"), "private data of the program", counts=False)
            elif linear and not said and "S" in entries:
                continue  # the hint table of a file made for the web
            else:
                self._read_stream(item, said, forms)
        if forms:
            self._read_xml(b"".join(forms), joined(self.where, "form"))
        return loose(shown, self.objects), loose(lost, self.objects) + lost_pages

    def _read_stream(self, item: Item, keys: set[str], forms: list[bytes]) -> None:
        where = joined(self.where, f"stream {item.number}")
        try:
            data = decoded(item, self.objects)
        except Undecoded:
            self.found.skip(where, "its filter is not read here")
            return
        if "XFA" in keys:
            forms.append(data)
        elif item.entries.get("Type") == "Metadata" or item.entries.get("Subtype") == "XML":
            self._read_xml(data, joined(self.where, "metadata"))
        elif not keys and data.startswith(_CODES):
            return  # TeX leaves tables behind that no font uses
        elif data.strip():
            subtype = item.entries.get("Subtype")
            declared = str(subtype) if isinstance(subtype, Name) and "/" in subtype else None
            self.found.file(data, where, As.of(declared, self._name_of(item.number)), self.depth + 1)

    def _read_xml(self, data: bytes, where: str) -> None:
        xml = read_xml(data)
        if xml is None:  # as it stands
            self.found.file(data, where, As(media_type="text/plain"), self.depth + 1)
        else:
            self.found.strings(
                where, self._new(text for said in (*xml.texts, *xml.attributes) for text in texts_of(said.encode()))
            )

    def _name_of(self, number: int) -> str:
        """The name that an attached file has."""
        for item in self.objects.all:
            for _, value, _ in walk(item.value):
                if isinstance(value, dict) and "EF" in value and number in _refs(self.objects.entries(value["EF"])):
                    name = self.objects.get(value.get("UF", value.get("F")))
                    return "".join(texts_of(name)) if isinstance(name, bytes) else ""
        return ""

    def _below(self, value: Any) -> set[int]:
        """Every object that a value leads to."""
        found: set[int] = set()
        todo = [value]
        while todo:
            for key, inner, _ in walk(todo.pop()):
                if isinstance(inner, Ref) and inner.number not in found and key not in ("Parent", "P", "Pg"):
                    found.add(inner.number)
                    todo.append(self.objects.get(inner))
        return found

    def _as_forms(self, item: Item) -> list[Loose]:
        """The content of a page that no tree holds, or an earlier version of one, as a form."""
        pages = [
            page.entries
            for page in self.objects.all
            if page.entries.get("Type") == "Page" and item.number in _refs(page.entries.get("Contents"), self.objects)
        ]
        made: list[Loose | None] = []
        for page in pages[:1]:
            box = self.objects.get(page.get("MediaBox")) or parse(b"[0 0 612 792]", 0)[0]
            entries = {**item.entries, "BBox": box, "Resources": page.get("Resources", {})}
            made.append(form(entries, item.stream or b"", self.objects))
        return [part for part in made if part is not None]

    # ------------------------------------------------------------ pictures

    def _read_sheets(self, parts: list[Loose], *, shown: bool) -> None:
        """Lay out what pages leave out, and read it like pages: its text, and pictures where no page shows them."""
        if not parts:
            return
        where = joined(self.where, "parts that no page shows" if shown else "annotations, patterns and masks")
        document = opened(laid_out(parts, self.objects))
        try:
            lines = self._text_of(document, where).splitlines()
            self.found.strings(where, self._new(lines))
            if shown:
                sheets = PdfPages(document, self.found.limits.max_pixels)
                sheets.noun = "sheet"
                self.found.show(where, views_of(sheets, self.found.room, numbered=True))
        finally:
            document.close()

    def _read_layers(self) -> None:
        """Pages that look different with every layer shown."""
        if not any("OCProperties" in item.entries for item in self.objects.all):
            return
        document = opened(without_layers(self.objects))
        try:
            pages = PdfPages(self.document, self.found.limits.max_pixels)
            layered = PdfPages(document, self.found.limits.max_pixels)
            for index in range(min(pages.count, layered.count)):
                self.found.limits.check()
                if differ(pages.load(index)[0], layered.load(index)[0]):
                    self._show(layered, index, "with every layer")
        finally:
            document.close()

    def _read_edges(self) -> None:
        pages = PdfPages(self.document, self.found.limits.max_pixels)
        for index in range(pages.count):
            self.found.limits.check()
            if beyond_edges(self.document, index):
                self._show(pages, index, "beyond its edges")

    def _show(self, pages: PdfPages, index: int, how: str) -> None:
        where = joined(self.where, f"page {index + 1} {how}")
        if not self.found.room.views:
            self.found.skip(where, f"beyond {self.found.limits.views} requests")
            return
        self.found.show(where, views_of(_OnePage(pages, index), self.found.room))


class _OnePage:
    """A page as a picture of its own."""

    noun = "page"
    count = 1
    any_order = True

    def __init__(self, pages: PdfPages, index: int) -> None:
        self._pages, self._index = pages, index

    def load(self, index: int) -> Any:
        return self._pages.load(self._index)

    def regions(self, index: int) -> Any:
        return self._pages.regions(self._index)


def _refs(value: Any, objects: Objects | None = None) -> set[int]:
    found = {inner.number for _, inner, _ in walk(value) if isinstance(inner, Ref)}
    if objects is not None:
        for number in tuple(found):
            inner = objects.get(Ref(number))
            if isinstance(inner, list):
                found |= _refs(inner)
    return found


def _is_profile(entries: dict[str, Any], keys: set[str]) -> bool:
    """A colour profile: the number of its colours is all that its dictionary says."""
    return "N" in entries and "Type" not in entries and bool(keys) and "EF" not in keys


def _without_structure(data: bytes) -> bytes:
    """Bytes between objects without tables of references and trailers."""
    out, at = bytearray(), 0
    while match := _TRAILER.search(data, at):
        out += data[at : match.start()]
        try:
            _, at = parse(data, match.end())
        except Malformed:
            out += data[match.start() : match.end()]
            at = match.end()
    out += data[at:]
    return _STRUCTURE.sub(b"", bytes(out))
