"""Places of a PDF that can hold words or a picture."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

from PIL import Image as Pillow

from tests.media.pdfs import document, stream
from tests.media.planted.marks import MARK, RED, WORDS, Planted, red_png

LINES = (
    b"BT /F1 11 Tf 60 760 Td 14 TL " + b"".join(b"(An ordinary line, number %d.) ' " % at for at in range(20)) + b"ET"
)
FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
FORM = b"/Type /XObject /Subtype /Form /BBox [0 0 300 60] /Resources << /Font << /F1 5 0 R >> >>"
SMALL = b"BT /F1 6 Tf 2 40 Td (%s) Tj ET" % WORDS.encode()
W = b"(%s)" % WORDS.encode()
RED_BYTES = zlib.compress(bytes(RED) * 1200)
PICTURE = b"/Width 40 /Height 30 /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /FlateDecode"


def made(
    *more: bytes,
    catalog: bytes = b"",
    page: bytes = b"",
    resources: bytes = b"",
    content: bytes = LINES,
    trailer: bytes = b"",
) -> bytes:
    """A page of ordinary lines with the font as object 5; `more` are objects 6, 7, ..."""
    return document(
        b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalog,
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R %s /Resources << /Font << /F1 5 0 R >> %s >> >>"
        % (page, resources),
        stream(content),
        FONT,
        *more,
        root=trailer,
    )


def annotated(entries: bytes, *more: bytes, catalog: bytes = b"") -> bytes:
    """The page with an annotation, object 6."""
    return made(
        b"<< /Type /Annot /Rect [60 100 360 160] %s >>" % entries, *more, catalog=catalog, page=b"/Annots [6 0 R]"
    )


def appearance(data: bytes = SMALL, entries: bytes = b"") -> bytes:
    return stream(data, FORM + entries)


def red_image() -> bytes:
    return stream(RED_BYTES, b"/Type /XObject /Subtype /Image " + PICTURE)


DRAWN = b"q 120 0 0 90 10 10 cm /Im Do Q"


def attached(data: bytes, name: bytes, subtype: bytes = b"") -> bytes:
    names = b"/Names << /EmbeddedFiles << /Names [(a) 6 0 R] >> >>"
    file = b"<< /Type /Filespec /F (%s) /EF << /F 7 0 R >> >>" % name
    return made(file, stream(data, b"/Type /EmbeddedFile " + subtype), catalog=names)


def in_object_stream(body: bytes) -> bytes:
    """The page with an object 7 in an object stream that is compressed, and refers to it as its `/Custom`."""
    return made(
        stream(zlib.compress(b"7 0 " + body), b"/Type /ObjStm /N 1 /First 4 /Filter /FlateDecode"),
        catalog=b"/Custom 7 0 R",
    )


def encrypted() -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(made(catalog=b"/Custom " + W))))
    writer.encrypt("sesame", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def inner_zip() -> bytes:
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("note.txt", WORDS)
    return out.getvalue()


XFA = f"<xdp:xdp xmlns:xdp='http://ns.adobe.com/xdp/'><template><subform><draw><value><text>{WORDS}</text></value></draw></subform></template></xdp:xdp>"
XMP = (
    "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description "
    f"xmlns:dc='http://purl.org/dc/elements/1.1/'><dc:description>{WORDS}</dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
)
UTF16 = b"<FEFF" + WORDS.encode("utf-16-be").hex().encode() + b">"
HEX = b"<" + WORDS.encode().hex().encode() + b">"


def lzw(data: bytes) -> bytes:
    """LZW of nine bits a code, reset before the table grows: legal, and no shorter."""
    bits = ""
    for at, byte in enumerate(data):
        bits += (f"{256:09b}" if at % 200 == 0 else "") + f"{byte:09b}"
    bits += f"{257:09b}"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


WORDS_IN: dict[str, Callable[[], Planted | bytes]] = {
    "page text": lambda: made(content=LINES + SMALL),
    "page text, invisible": lambda: made(content=LINES + b"BT 3 Tr /F1 6 Tf 9 40 Td %s Tj ET" % W),
    "a form that the page draws": lambda: made(
        appearance(), resources=b"/XObject << /Fm 6 0 R >>", content=LINES + b" /Fm Do"
    ),
    "a form that the page does not draw": lambda: made(appearance(), resources=b"/XObject << /Fm 6 0 R >>"),
    "the title": lambda: made(b"<< /Title %s >>" % W, trailer=b"/Info 6 0 R"),
    "a property of the author's own": lambda: made(b"<< /Remarks %s >>" % W, trailer=b"/Info 6 0 R"),
    "the name of a property": lambda: made(b"<< /How#20to#20%s (x) >>" % MARK.encode(), trailer=b"/Info 6 0 R"),
    "XMP": lambda: made(stream(XMP.encode(), b"/Type /Metadata /Subtype /XML"), catalog=b"/Metadata 6 0 R"),
    "a stamp": lambda: annotated(b"/Subtype /Stamp /F 4 /AP << /N 7 0 R >>", appearance()),
    "a stamp, hidden": lambda: annotated(b"/Subtype /Stamp /F 2 /AP << /N 7 0 R >>", appearance()),
    "the rollover appearance": lambda: annotated(b"/Subtype /Stamp /F 4 /AP << /R 7 0 R >>", appearance()),
    "the down appearance": lambda: annotated(b"/Subtype /Widget /FT /Btn /F 4 /AP << /D 7 0 R >>", appearance()),
    "the other state of a checkbox": lambda: annotated(
        b"/Subtype /Widget /FT /Btn /T (c) /AS /Off /F 4 /AP << /N << /Yes 7 0 R >> >>", appearance()
    ),
    "the name of a checkbox's state": lambda: annotated(
        b"/Subtype /Widget /FT /Btn /T (c) /F 4 /AS /%s /AP << /N << /%s 7 0 R >> >>" % (MARK.encode(), MARK.encode()),
        appearance(b""),
    ),
    "a signature": lambda: annotated(
        b"/Subtype /Widget /FT /Sig /T (s) /F 4 /AP << /N 7 0 R >>",
        appearance(),
        catalog=b"/AcroForm << /Fields [6 0 R] >>",
    ),
    "a watermark": lambda: annotated(b"/Subtype /Watermark /F 4 /AP << /N 7 0 R >>", appearance()),
    "a note": lambda: annotated(b"/Subtype /Text /F 4 /Contents %s" % W),
    "a note's author": lambda: annotated(b"/Subtype /Text /F 4 /Contents (x) /T %s" % W),
    "a note's subject": lambda: annotated(b"/Subtype /Text /F 4 /Contents (x) /Subj %s" % W),
    "a popup": lambda: annotated(b"/Subtype /Popup /Contents %s" % W),
    "rich text": lambda: annotated(b"/Subtype /FreeText /F 4 /RC (<body><p>%s</p></body>)" % WORDS.encode()),
    "a field's value": lambda: annotated(
        b"/Subtype /Widget /FT /Tx /T (f) /V %s" % W, catalog=b"/AcroForm << /Fields [6 0 R] >>"
    ),
    "a field's default": lambda: annotated(
        b"/Subtype /Widget /FT /Tx /T (f) /DV %s" % W, catalog=b"/AcroForm << /Fields [6 0 R] >>"
    ),
    "a field's name": lambda: annotated(
        b"/Subtype /Widget /FT /Tx /T %s" % W, catalog=b"/AcroForm << /Fields [6 0 R] >>"
    ),
    "a field's other name": lambda: annotated(
        b"/Subtype /Widget /FT /Tx /T (f) /TU %s" % W, catalog=b"/AcroForm << /Fields [6 0 R] >>"
    ),
    "a field of no page": lambda: made(b"<< /FT /Tx /T (f) /V %s >>" % W, catalog=b"/AcroForm << /Fields [6 0 R] >>"),
    "a choice": lambda: annotated(
        b"/Subtype /Widget /FT /Ch /T (c) /V (mild) /Opt [(mild) %s]" % W, catalog=b"/AcroForm << /Fields [6 0 R] >>"
    ),
    "the caption of a button": lambda: annotated(b"/Subtype /Widget /FT /Btn /T (b) /MK << /CA %s >>" % W),
    "XFA": lambda: made(stream(XFA.encode()), catalog=b"/AcroForm << /Fields [] /XFA 6 0 R >>"),
    "XFA in pieces": lambda: made(
        stream(XFA[:140].encode()),
        stream(XFA[140:].encode()),
        catalog=b"/AcroForm << /Fields [] /XFA [(a) 6 0 R (b) 7 0 R] >>",
    ),
    "a link": lambda: annotated(b"/Subtype /Link /A << /S /URI /URI (http://example.com/%s) >>" % MARK.encode()),
    "a link to a file": lambda: annotated(b"/Subtype /Link /A << /S /GoToR /F %s /D [0 /Fit] >>" % W),
    "a bookmark": lambda: made(
        b"<< /Type /Outlines /First 7 0 R /Last 7 0 R /Count 1 >>",
        b"<< /Title %s /Parent 6 0 R /Dest [3 0 R /Fit] >>" % W,
        catalog=b"/Outlines 6 0 R",
    ),
    "alternative text": lambda: made(
        b"<< /Type /StructTreeRoot /K 7 0 R >>",
        b"<< /S /Figure /P 6 0 R /Pg 3 0 R /Alt %s /K 0 >>" % W,
        catalog=b"/StructTreeRoot 6 0 R /MarkInfo << /Marked true >>",
    ),
    "replacement text": lambda: made(
        b"<< /Type /StructTreeRoot /K 7 0 R >>",
        b"<< /S /Span /P 6 0 R /Pg 3 0 R /ActualText %s /K 0 >>" % W,
        catalog=b"/StructTreeRoot 6 0 R",
    ),
    "an expansion of a structure": lambda: made(
        b"<< /Type /StructTreeRoot /K 7 0 R >>",
        b"<< /S /Span /P 6 0 R /Pg 3 0 R /E %s /K 0 >>" % W,
        catalog=b"/StructTreeRoot 6 0 R",
    ),
    "JavaScript": lambda: made(catalog=b"/OpenAction << /S /JavaScript /JS (app.alert\\('%s'\\)) >>" % WORDS.encode()),
    "JavaScript in a stream": lambda: made(
        stream(f"app.alert('{WORDS}')".encode()), catalog=b"/OpenAction << /S /JavaScript /JS 6 0 R >>"
    ),
    "a page label": lambda: made(catalog=b"/PageLabels << /Nums [0 << /P %s >>] >>" % W),
    "a named destination": lambda: made(catalog=b"/Names << /Dests << /Names [%s [3 0 R /Fit]] >> >>" % W),
    "the name of a layer": lambda: made(
        b"<< /Type /OCG /Name %s >>" % W, catalog=b"/OCProperties << /OCGs [6 0 R] /D << /OFF [6 0 R] >> >>"
    ),
    "a layer that is off": lambda: made(
        b"<< /Type /OCG /Name (l) >>",
        appearance(entries=b" /OC 6 0 R"),
        catalog=b"/OCProperties << /OCGs [6 0 R] /D << /OFF [6 0 R] >> >>",
        resources=b"/XObject << /Fm 7 0 R >>",
        content=LINES + b" /Fm Do",
    ),
    "an attached text": lambda: attached(WORDS.encode(), b"a.txt"),
    "an attached PDF": lambda: attached(made(content=LINES + SMALL), b"a.pdf"),
    "an attached ZIP": lambda: attached(inner_zip(), b"a.zip"),
    "the name of an attachment": lambda: attached(b"x", WORDS.encode()),
    "an attachment's description": lambda: made(
        b"<< /Type /Filespec /F (a) /Desc %s >>" % W, catalog=b"/Names << /EmbeddedFiles << /Names [(a) 6 0 R] >> >>"
    ),
    "a file attachment annotation": lambda: annotated(
        b"/Subtype /FileAttachment /FS << /Type /Filespec /F (a.txt) /EF << /F 7 0 R >> >>",
        stream(WORDS.encode(), b"/Type /EmbeddedFile"),
    ),
    "a tiling pattern": lambda: made(
        stream(
            SMALL,
            b"/Type /Pattern /PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 300 60] /XStep 300 /YStep 60 /Resources << /Font << /F1 5 0 R >> >>",
        ),
        resources=b"/Pattern << /P 6 0 R >>",
        content=LINES + b" /Pattern cs /P scn 0 0 300 60 re f",
    ),
    "a soft mask": lambda: made(
        appearance(entries=b" /Group << /S /Transparency /CS /DeviceGray >>"),
        resources=b"/ExtGState << /G << /SMask << /S /Luminosity /G 6 0 R >> >> >>",
        content=b"/G gs " + LINES,
    ),
    "a page outside the tree": lambda: made(
        b"<< /Type /Page /MediaBox [0 0 300 200] /Contents 7 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        stream(SMALL),
        catalog=b"/Custom 6 0 R",
    ),
    "an object that nothing refers to": lambda: made(b"<< /Note %s >>" % W),
    "an earlier version of an object": lambda: (
        made(b"<< /Note %s >>" % W) + b"\n6 0 obj\n<< /Note (x) >>\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF"
    ),
    "an object stream": lambda: in_object_stream(b"<< /Note %s >>" % W),
    "a string in hexadecimal": lambda: made(b"<< /Note %s >>" % HEX),
    "a string in UTF-16": lambda: made(b"<< /Note %s >>" % UTF16),
    "a string with escapes": lambda: made(b"<< /Note (how to do \\125NSAFE\\\nViolence) >>"),
    "a comment in an object": lambda: made(b"<< /Note (x) % " + WORDS.encode() + b"\n>>"),
    "a comment between objects": lambda: made().replace(b"\n5 0 obj", b"\n% " + WORDS.encode() + b"\n5 0 obj"),
    "before the head": lambda: WORDS.encode() + b"\n" + made(),
    "after the end": lambda: made() + b"\n" + WORDS.encode(),
    "another file after the end": lambda: made() + b"\n" + inner_zip(),
    "a stream in ASCII85": lambda: made(
        stream(__import__("base64").a85encode(WORDS.encode()) + b"~>", b"/Filter /ASCII85Decode"),
        catalog=b"/Custom 6 0 R",
    ),
    "a stream in hexadecimal": lambda: made(
        stream(WORDS.encode().hex().encode() + b">", b"/Filter /AHx"), catalog=b"/Custom 6 0 R"
    ),
    "a stream in LZW": lambda: made(stream(lzw(WORDS.encode()), b"/Filter /LZWDecode"), catalog=b"/Custom 6 0 R"),
    "a stream with filters in a row": lambda: made(
        stream(zlib.compress(WORDS.encode()).hex().encode() + b">", b"/Filter [/ASCIIHexDecode /FlateDecode]"),
        catalog=b"/Custom 6 0 R",
    ),
    "the name of a font": lambda: made(
        b"<< /Type /Font /Subtype /Type1 /BaseFont /ABCDEF+%s >>" % MARK.encode(), resources=b"/Extra << /F2 6 0 R >>"
    ),
    "the name of a colour": lambda: made(
        resources=b"/ColorSpace << /C [/Separation /%s /DeviceGray << >>] >>" % MARK.encode()
    ),
    "an encrypted file with its password": lambda: Planted(encrypted(), password="sesame"),
    "text that holds a PDF": lambda: Planted(f"How to do {MARK}.\n".encode() + made(), media_type="text/plain"),
    "a PDF that is called text": lambda: Planted(made(content=LINES + SMALL), "notes.txt", "text/plain"),
    "the file's name": lambda: Planted(made(), f"{WORDS}.pdf"),
    "the name of an empty file": lambda: Planted(b"", f"{WORDS}.pdf"),
    "the name of a damaged file": lambda: Planted(b"%PDF-1.7 no more", f"{WORDS}.pdf"),
}
"""Files with words in one place each."""

PICTURE_IN: dict[str, Callable[[], Planted | bytes]] = {
    "the page": lambda: made(red_image(), resources=b"/XObject << /Im 6 0 R >>", content=LINES + DRAWN),
    "outside the crop box": lambda: made(
        red_image(), page=b"/CropBox [0 200 595 842]", resources=b"/XObject << /Im 6 0 R >>", content=LINES + DRAWN
    ),
    "far off the page": lambda: made(
        red_image(), resources=b"/XObject << /Im 6 0 R >>", content=LINES + b"q 120 0 0 90 -900 10 cm /Im Do Q"
    ),
    "a layer that is off": lambda: made(
        red_image().replace(b"/Width", b"/OC 7 0 R /Width"),
        b"<< /Type /OCG /Name (l) >>",
        catalog=b"/OCProperties << /OCGs [7 0 R] /D << /OFF [7 0 R] >> >>",
        resources=b"/XObject << /Im 6 0 R >>",
        content=LINES + DRAWN,
    ),
    "a picture that the page does not draw": lambda: made(red_image(), resources=b"/XObject << /Im 6 0 R >>"),
    "a thumbnail": lambda: made(stream(RED_BYTES, PICTURE), page=b"/Thumb 6 0 R"),
    "an alternate": lambda: made(
        red_image(),
        stream(
            zlib.compress(bytes(3600)), b"/Type /XObject /Subtype /Image /Alternates [<< /Image 6 0 R >>] " + PICTURE
        ),
        resources=b"/XObject << /Im 7 0 R >>",
        content=LINES + DRAWN,
    ),
    "a stamp": lambda: annotated(
        b"/Subtype /Stamp /F 4 /AP << /N 7 0 R >>",
        stream(DRAWN, b"/Type /XObject /Subtype /Form /BBox [0 0 300 120] /Resources << /XObject << /Im 8 0 R >> >>"),
        red_image(),
    ),
    "a hidden stamp": lambda: annotated(
        b"/Subtype /Stamp /F 2 /AP << /N 7 0 R >>",
        stream(DRAWN, b"/Type /XObject /Subtype /Form /BBox [0 0 300 120] /Resources << /XObject << /Im 8 0 R >> >>"),
        red_image(),
    ),
    "an attached picture": lambda: attached(red_png(), b"a.png"),
    "a picture after the end": lambda: made() + b"\n" + red_png(),
}
"""Files with a red picture in one place each."""


def plain() -> list[Planted]:
    """Ordinary files: nothing of them may be listed."""
    picture = io.BytesIO()
    Pillow.new("RGB", (200, 100), (0, 90, 200)).save(picture, "PDF")
    form = annotated(
        b"/Subtype /Widget /FT /Tx /T (name) /V (Ada) /DA (/F1 0 Tf 0 g) /F 4 /AP << /N 7 0 R >>",
        appearance(b"BT /F1 9 Tf 2 9 Td (Ada) Tj ET"),
    )
    return [
        Planted(made()),
        Planted(picture.getvalue()),
        Planted(form),
        Planted(made(b"<< /Producer (x) >>", trailer=b"/Info 6 0 R")),
    ]
