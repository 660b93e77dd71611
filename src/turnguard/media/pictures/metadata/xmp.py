"""XMP: every value of the packet, and every name but the most usual ones. Pure: no parser that could be attacked.

Source: ISO 16684-1. Markup is told from text by its angle brackets and quotes alone, so that what a strict parser would
refuse is shown as well.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from turnguard.media.pictures.metadata.runs import readable

_TAG = re.compile(r"<([^<>]*)>")
_ATTRIBUTE = re.compile(r"([^\s=\"'<>]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_NAME = re.compile(r"[^\s/?!<>\"'=]+")
_PACKET = re.compile(
    r"\?xpacket\s+(?:begin=[\"'].{0,3}[\"']\s+id=[\"']W5M0MpCehiHzreSzNTczkc9d[\"']|end=[\"'][rw][\"'])\?"
)
_NAMESPACE = re.compile(
    r"(?:adobe:ns:meta/|http://ns\.adobe\.com/[\w./:#-]{1,60}|http://www\.w3\.org/1999/02/22-rdf-syntax-ns#|"
    r"http://purl\.org/dc/elements/1\.1/|http://iptc\.org/std/[\w./-]{1,40}|http://cipa\.jp/exif/1\.0/|"
    r"http://ns\.google\.com/photos/1\.0/[\w]{1,20}/)"
)
_USUAL = frozenset(
    """
    x:xmpmeta x:xmptk rdf:RDF rdf:Description rdf:about rdf:Bag rdf:Seq rdf:Alt rdf:li rdf:parseType rdf:resource
    xml:lang xmp:CreatorTool xmp:CreateDate xmp:ModifyDate xmp:MetadataDate xmp:Rating xmp:Label dc:format dc:title
    dc:creator dc:description dc:rights dc:subject dc:date xmpMM:DocumentID xmpMM:InstanceID
    xmpMM:OriginalDocumentID xmpMM:History xmpMM:DerivedFrom stEvt:action stEvt:instanceID stEvt:when
    stEvt:softwareAgent stEvt:changed stEvt:parameters stRef:instanceID stRef:documentID stRef:originalDocumentID
    photoshop:ColorMode photoshop:ICCProfile photoshop:DateCreated tiff:Orientation tiff:Make tiff:Model
    tiff:XResolution tiff:YResolution tiff:ResolutionUnit tiff:ImageWidth tiff:ImageLength exif:ColorSpace
    exif:PixelXDimension exif:PixelYDimension exif:UserComment exif:DateTimeOriginal Resource
    """.split()  # noqa: SIM905 - a table of seventy words
)


def words_of_xmp(data: bytes) -> Iterator[str]:
    """The words of a packet, in their order."""
    text = readable(data)
    at = 0
    for tag in _TAG.finditer(text):
        yield from _lines(text[at : tag.start()])
        at = tag.end()
        yield from _markup(tag[1])
    yield from _lines(text[at:])


def _markup(tag: str) -> Iterator[str]:
    if _PACKET.fullmatch(tag):
        return
    at = 0
    for found in _ATTRIBUTE.finditer(tag):
        yield from _names(tag[at : found.start()])
        at = found.end()
        value = found[2] if found[2] is not None else found[3]
        if found[1].startswith("xmlns") and _NAMESPACE.fullmatch(value):
            continue
        yield from _names(found[1])
        yield from _lines(value)
    yield from _names(tag[at:])


def _names(markup: str) -> Iterator[str]:
    for name in _NAME.findall(markup):
        if name not in _USUAL:
            yield name


def _lines(value: str) -> Iterator[str]:
    yield from html.unescape(value).splitlines()
