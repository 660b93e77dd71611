"""PDF files for the tests, written by hand: no library, nothing binary stored."""

from __future__ import annotations

import io
import zlib

from PIL import Image as Pillow


def pdf(
    *pages: str,
    extra: dict[int, str] | None = None,
    info: str = "",
    image: Pillow.Image | None = None,
    box: str = "0 0 612 792",
) -> bytes:
    """A document with one content stream per page. `extra`: more entries of a page's dictionary, by page.

    Fonts are `/F1`; an `image` is `/X1`, drawn by `q 200 0 0 100 50 50 cm /X1 Do Q`.
    """
    objects: list[bytes] = [b"", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    resources = "/Font << /F1 3 0 R >>"
    if image is not None:
        body = zlib.compress(image.convert("RGB").tobytes())
        size = f"/Width {image.width} /Height {image.height} /ColorSpace /DeviceRGB /BitsPerComponent 8"
        head = f"<< /Type /XObject /Subtype /Image {size} /Filter /FlateDecode /Length {len(body)} >>"
        objects.append(head.encode() + b"\nstream\n" + body + b"\nendstream")
        resources += f" /XObject << /X1 {len(objects)} 0 R >>"
    kids: list[int] = []
    for at, content in enumerate(pages):
        stream = content.encode("latin-1")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        more = (extra or {}).get(at, "")
        page = f"/Type /Page /Parent 2 0 R /MediaBox [{box}] /Resources << {resources} >> {more}"
        page += f" /Contents {len(objects)} 0 R"
        objects.append(f"<< {page} >>".encode("latin-1"))
        kids.append(len(objects))
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R >>"
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>".encode()
    trailer = f"/Size {len(objects) + 2} /Root 1 0 R"
    if info:
        objects.append(f"<< {info} >>".encode("latin-1"))
        trailer += f" /Info {len(objects)} 0 R"
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n")
    starts: list[int] = []
    for number, body in enumerate(objects, 1):
        starts.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    for at in starts:
        out.write(b"%010d 00000 n \n" % at)
    out.write(f"trailer << {trailer} >>\nstartxref\n{start}\n%%EOF".encode())
    return out.getvalue()


def drawn_font(document: bytes, strokes: bytes) -> bytes:
    """`document` with a font `/F9` of type 3: each of its letters is the drawing `strokes`, whatever it says it is.

    Offsets are not kept: PDFium finds the objects again.
    """
    codes = "/FirstChar 97 /LastChar 98 /Widths [1000 1000] /Encoding << /Differences [97 /mark /mark] >>"
    box = "/FontBBox [0 0 1000 1000] /FontMatrix [0.001 0 0 0.001 0 0] /Resources << >>"
    font = f"901 0 obj\n<< /Type /Font /Subtype /Type3 {box} {codes} /CharProcs << /mark 902 0 R >> >>\nendobj\n"
    drawing = b"902 0 obj\n<< /Length %d >>\nstream\n%s\nendstream\nendobj\n" % (len(strokes), strokes)
    document = document.replace(b"/F1 3 0 R", b"/F1 3 0 R /F9 901 0 R")
    head, _, _ = document.partition(b"xref\n0 ")
    return head + font.encode() + drawing + b"trailer << /Root 1 0 R /Size 903 >>\n%%EOF"


def words(text: str, x: int = 72, y: int = 700, size: int = 12, mode: int = 0, colour: str = "0 g") -> str:
    """The operators that show a line of text. Mode 3 is invisible."""
    return f"BT {colour} {mode} Tr /F1 {size} Tf {x} {y} Td ({text}) Tj ET\n"


def document(*objects: bytes, root: bytes = b"") -> bytes:
    """A document of these objects, numbered from 1; the first is the catalog. `root`: more entries of the trailer."""
    out = bytearray(b"%PDF-1.7\n")
    starts: list[int] = []
    for number, body in enumerate(objects, 1):
        starts.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % at for at in starts)
    out += b"trailer << /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, root, start)
    return bytes(out)


def stream(data: bytes, entries: bytes = b"") -> bytes:
    """A stream object."""
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries, len(data), data)


def bomb(doublings: int = 26) -> bytes:
    """Forms that each draw the next one twice: four kilobytes that PDFium never finishes; few doublings are harmless."""
    entries = b"/Type /XObject /Subtype /Form /BBox [0 0 99 99]"
    resources = b" /Resources << /XObject << /X %d 0 R >> >>"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R" + resources % 5 + b" >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        page,
        stream(b"/X Do"),
    ]
    objects += [stream(b"/X Do /X Do", entries + resources % (6 + at)) for at in range(doublings)]
    return document(*objects, stream(b"0 0 1 1 re f", entries))


def pattern_bomb() -> bytes:
    """A tiling pattern with steps of a thousandth of a point."""
    cell = b"/Type /Pattern /PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 9 9] /XStep 0.001 /YStep 0.001 /Resources << >>"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 600] /Contents 4 0 R /Resources << /Pattern << /P 5 0 R >> >> >>"
    return document(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        page,
        stream(b"/Pattern cs /P scn 0 0 600 600 re f"),
        stream(b"0 0 1 1 re f", cell),
    )
