"""ZIP files, and the Office files that are made of them: every member, every name, every comment.

In a docx, xlsx or pptx each XML part gives its texts and attributes, whatever the part is called: hidden sheets and
slides, notes, comments, headers and alternative texts are among them.
"""

from __future__ import annotations

import io
import re
import zipfile

from turnguard.media.documents.found import MOST_UNPACKED, Found, joined
from turnguard.media.documents.markup import read_xml
from turnguard.media.readings import As
from turnguard.media.types import Unreadable

_OFFICE = "[Content_Types].xml"
_MARKUP = frozenset(("xml", "rels", "vml"))
_WORDLESS_PARTS = re.compile(
    r".*/(?:printerSettings\d*\.bin|font\d*\.(?:odttf|fntdata)|calcChain\.xml)|xl/(?:worksheets/)?_rels/.*binaryIndex.*",
)
"""Settings of printers, fonts and the order of calculation: no reader shows them as words."""
_USUAL_NAMES = re.compile(
    r"(?:(?:_rels|\[Content_Types\]|docProps|app|core|custom|custom[Xx]ml|item|itemProps|word|xl|ppt|document|styles|stylesWithEffects|settings"
    r"|fontTable|webSettings|numbering|footnotes|endnotes|comments|commentsExtended|commentsIds|commentsExtensible|commentAuthors|people"
    r"|header|footer|theme|themeOverride|media|image|embeddings|oleObject|charts|chart|style|colors|drawings|drawing|vmlDrawing|diagrams|data"
    r"|layout|quickStyle|workbook|worksheets|sheet|sharedStrings|calcChain|tables|table|pivotTables|pivotTable|pivotCache"
    r"|pivotCacheDefinition|pivotCacheRecords|metadata|externalLinks|externalLink|printerSettings|presentation|presProps|viewProps|tableStyles"
    r"|slides|slide|slideLayouts|slideLayout|slideMasters|slideMaster|notesSlides|notesSlide|notesMasters|notesMaster|handoutMasters"
    r"|handoutMaster|tags|tag|fonts|font|thumbnail|glossary|threadedComments|threadedComment|persons|person|ctrlProps|ctrlProp|activeX"
    r"|revisionInfo|changesInfos|changesInfo|authors|Microsoft_Excel_Sheet|Microsoft_Word_Document|Microsoft_Excel_Worksheet)?\d*(?:\.[a-z]{2,5})*/?)+"
)
_OTHERS = {
    b"application/vnd.oasis.opendocument": "OpenDocument is not read here",
    b"application/epub+zip": "EPUB is not read here",
}
_HEADER = 30  # bytes of a local header, without its names
_SLACK = 64  # bytes behind a member: its descriptor and what aligns the next


def read_archive(found: Found, data: bytes, where: str, depth: int) -> None:
    """Collect what a ZIP holds; `Unreadable` for a damaged one and for other formats that are ZIP files."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, UnicodeError):
        raise Unreadable("a damaged ZIP file") from None
    with archive:
        members = archive.infolist()
        names = {member.filename for member in members}
        if "mimetype" in names:
            kind = _bytes(archive, archive.getinfo("mimetype"), 200)
            for beginning, cause in _OTHERS.items():
                if kind.startswith(beginning):
                    raise Unreadable(cause)
        found.strings(joined(where, "names"), [name for name in names if not _USUAL_NAMES.fullmatch(name)])
        comments = [archive.comment, *(member.comment for member in members)]
        found.strings(joined(where, "comments"), [comment.decode("utf-8", "replace") for comment in comments])
        if _has_gaps(data, members):
            found.skip(where, "bytes that its directory does not name")
        office = _Office(found, where) if _OFFICE in names else None
        for member in members:
            found.limits.check()
            if not member.filename.endswith("/"):
                _member(found, archive, member, where, depth, office)
        if office is not None:
            office.finish()


class _Office:
    """The XML parts of an Office file."""

    def __init__(self, found: Found, where: str) -> None:
        self._found, self._where = found, where
        self._attributes: list[str] = []

    def takes(self, name: str, data: bytes) -> bool:
        """Whether it is a part that is read here."""
        if _WORDLESS_PARTS.fullmatch(name):
            self._found.skip(joined(self._where, name), "settings and fonts", counts=False)
            return True
        if name.rpartition(".")[2].lower() not in _MARKUP:
            return False
        if (xml := read_xml(data)) is None:
            self._found.skip(joined(self._where, name), "XML that is malformed or declares entities")
            return True
        self._found.text(joined(self._where, name), "\n".join(xml.texts))
        self._attributes += xml.attributes
        return True

    def finish(self) -> None:
        """Attributes repeat in every part: all of them are one text."""
        self._found.strings(joined(self._where, "attributes"), self._attributes)


def _member(
    found: Found, archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str, depth: int, office: _Office | None
) -> None:
    inside = joined(where, member.filename)
    if member.flag_bits & 1:
        found.skip(inside, "encrypted")
        return
    try:
        data = _bytes(archive, member, MOST_UNPACKED)
    except Unreadable as cause:
        found.skip(inside, str(cause))
        return
    if office is None or not office.takes(member.filename, data):
        # the name was judged with the others
        found.file(data, inside, As(name=member.filename), depth + 1, named=False)


def _bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    try:
        with archive.open(member) as file:
            data = file.read(most + 1)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - zipfile and its decompressors raise anything on malformed files
        raise Unreadable(f"cannot be unpacked ({type(error).__name__})") from None
    if len(data) > most:
        raise Unreadable(f"more than {most:,} bytes")
    return data


def _has_gaps(data: bytes, members: list[zipfile.ZipInfo]) -> bool:
    """Whether there are bytes that some reader could take for members which the directory does not name."""
    at = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        start = member.header_offset
        if at and start - at > _SLACK and data[at:start].strip(b"\0"):
            return True
        names = int.from_bytes(data[start + 26 : start + 28], "little") + int.from_bytes(
            data[start + 28 : start + 30], "little"
        )
        at = start + _HEADER + names + member.compress_size
    return data.find(b"PK\3\4", at) >= 0
