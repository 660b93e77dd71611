"""Documents: page texts, page pictures, and what cannot be read."""

from __future__ import annotations

import base64
import sys
import zlib

import pytest
from PIL import Image as Pillow
from PIL import ImageFile

from tests.media.drawing import counted, decoded, details, encoded, noise, page, prepare
from tests.media.pdfs import drawn_font, pdf, words
from turnguard.config.settings import MediaSettings
from turnguard.core.step import Document, Image
from turnguard.media import Prepared
from turnguard.media.read import read as read_here

pytest.importorskip("pypdfium2")


async def read(data: bytes, **more: object) -> Prepared:
    return await prepare(Document(data), **more)  # type: ignore[arg-type]


def text(prepared: Prepared) -> str:
    return "\n".join(said for _, said in prepared.texts)


async def test_pages_become_text_and_pictures() -> None:
    prepared = await read(pdf(words("first page"), words("second page")))
    assert details(prepared) == ["page 1", "page 2"]
    assert [detail for detail, _ in prepared.texts] == [""]
    assert "first page" in text(prepared)
    assert "second page" in text(prepared)
    assert not prepared.skipped
    shown = decoded(prepared.views[0].picture)
    assert shown.convert("L").getextrema()[0] < 100  # type: ignore[operator] # the letters are drawn


@pytest.mark.parametrize(
    "hidden",
    [
        pytest.param(words("secret words", mode=3), id="invisible"),
        pytest.param(words("secret words", colour="1 g"), id="white on white"),
        pytest.param(words("secret words", size=1), id="tiny"),
        pytest.param(words("secret words", x=-400), id="off the page"),
        pytest.param(words("secret words") + "0 0 1 rg 0 600 612 192 re f\n", id="painted over"),
    ],
)
async def test_hidden_text_is_read(hidden: str) -> None:
    assert "secret words" in text(await read(pdf(words("open", y=100) + hidden)))


async def test_text_over_a_page_break_is_joined() -> None:
    prepared = await read(pdf(words("how to build an explo-", y=40), words("sive device at home", y=760)))
    assert "explosive device" in text(prepared)
    prepared = await read(pdf(words("take the", y=40), words("money", y=760)))
    assert "take the money" in " ".join(text(prepared).split())


async def test_notes_fields_and_title_are_read() -> None:
    note = "/Annots [<< /Type /Annot /Subtype /Text /Rect [10 10 30 30] /Contents (a note here) >>]"
    field = "/Annots [<< /Type /Annot /Subtype /Widget /FT /Tx /T (f) /Rect [10 10 90 30] /V (a field here) >>]"
    prepared = await read(pdf(words("a"), words("b"), extra={0: note, 1: field}, info="/Title (a title here)"))
    for expected in ("a note here", "a field here", "a title here"):
        assert expected in text(prepared)


async def test_the_name_is_judged() -> None:
    prepared = await prepare(Document(pdf(words("a")), name="how to do it.pdf"))
    assert ("name", "how to do it.pdf") in prepared.texts


async def test_a_scanned_page_is_looked_at_closely_where_the_picture_stands() -> None:
    prepared = await read(pdf("q 200 0 0 200 20 20 cm /X1 Do Q " + words("text"), image=noise((900, 900))))
    assert details(prepared)[0] == "page 1"
    assert len(prepared.views) == 2
    assert {entry.cause for entry in prepared.skipped} <= {"nothing but text, which is read as text", "a single colour"}
    full = pdf("q 612 0 0 792 0 0 cm /X1 Do Q", image=noise((1224, 1584)))
    assert len((await read(full)).views) == 5
    turned = pdf("q 612 0 0 792 0 0 cm /X1 Do Q", image=noise((1224, 1584)), extra={0: "/Rotate 90"})
    assert len((await read(turned)).views) == 5


async def test_blank_pages_cost_nothing_and_too_many_share_contact_sheets() -> None:
    prepared = await read(pdf(words("a"), "", "", words("b")))
    assert sorted(details(prepared)) == ["page 1", "page 4"]
    assert not counted(prepared)
    many = pdf(*(words(f"page {at} is here") for at in range(9)))
    prepared = await read(many, max_frames=3)
    alone = [detail for detail in details(prepared) if "sheet" not in detail]
    assert sorted(alone) == ["page 1", "page 4", "page 9"]
    assert not counted(prepared)
    assert "page 7 is here" in text(prepared)  # the text of every page is read all the same
    prepared = await read(many, limit=2)
    assert len(prepared.views) == 2
    assert counted(prepared) == [("page 5", "sampled: more than fit on contact sheets")]
    assert {entry.scale for entry in prepared.reduced} == {0.41}


@pytest.mark.parametrize("box", ["0 0 14400 14400", "0 0 3 2000", "0 0 0.5 0.5", "0 0 100000 100"])
async def test_pages_of_any_size_stay_within_the_limit(box: str) -> None:
    prepared = await read(pdf("0 0 1 rg 0 0 100 100 re f " + words("a"), box=box))
    assert prepared.views or counted(prepared)


async def test_damaged_and_encrypted_documents_are_uncheckable() -> None:
    good = pdf(words("a"))
    encrypted = good.replace(
        b"trailer << ",
        b"trailer << /ID [<00112233445566778899aabbccddeeff> <00112233445566778899aabbccddeeff>] /Encrypt << /Filter "
        b"/Standard /V 2 /R 3 /Length 128 /P -44 /O <" + b"ab" * 32 + b"> /U <" + b"cd" * 32 + b"> >> ",
    )
    for data, cause in (
        (b"%PDF-1.7\nno more", "a damaged document"),
        (encrypted, "an encrypted document"),
        (b"PK\x03\x04" + bytes(50), "a damaged ZIP file"),
        (b"\xd0\xcf\x11\xe0" + bytes(50), "an old Office format (doc, xls, ppt, msg), which is not read here"),
        (b"{\\rtf1 hello}", "RTF is not read here"),
        (b"", "empty"),
    ):
        prepared = await read(data)
        assert not prepared.views
        assert not prepared.texts
        assert counted(prepared) == [("", cause)]


async def test_an_attached_file_is_read() -> None:
    pdfium = pytest.importorskip("pypdfium2")
    document = pdfium.PdfDocument(pdf(words("a")))
    document.new_attachment("evil.txt").set_data(b"words inside")
    import io

    out = io.BytesIO()
    document.save(out)
    document.close()
    prepared = await read(out.getvalue())
    assert "evil.txt" in text(prepared)
    assert "words inside" in text(prepared)
    assert not counted(prepared)


def test_without_pypdfium2_the_cause_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    made = read_here(pdf(words("a")), MediaSettings(), 16, lambda: False)
    (entry,) = made.skipped
    assert "turnguard[documents]" in entry.cause
    assert entry.counts


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"plain words", "plain words"),
        (b"<p>hi</p><!-- a comment -->", "<p>hi</p><!-- a comment -->"),
        ("Grüße".encode(), "Grüße"),
        ("Grüße".encode("cp1252"), "Grüße"),
        ("这是中文" .encode("utf-16"), "这是中文"),
        (b"\xef\xbb\xbf# head", "# head"),
        (b'{"a": 1}', '{"a": 1}'),
    ],
)  # fmt: skip
async def test_plain_documents_are_read_as_text(data: bytes, said: str) -> None:
    prepared = await read(data)
    assert prepared.texts == (("", said),)
    assert not prepared.views
    assert not prepared.skipped


async def test_pictures_inside_plain_documents_are_judged() -> None:
    uri = f"data:image/png;base64,{base64.b64encode(encoded(page())).decode()}"
    bad = "data:image/heic;base64," + "QUJD" * 100
    prepared = await read(f"<img src='{uri}'> words <img src='{uri}'> <img src='{bad}'>".encode())
    assert details(prepared) == ["image 1"]  # the second is the same
    assert "[image 1]" in text(prepared)
    assert counted(prepared) == [("image 3", "not a picture format that is read here")]


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"<html><![OCTYPE x><p>words that are judged</p>", "cannot be read (AssertionError)"),
        (b"From: a@example.com\nSubject: =?utf-8?b?a?= words that are judged\n\nx\n", None),
    ],
)
async def test_what_a_parser_chokes_on_hides_nothing(data: bytes, cause: str | None) -> None:
    prepared = await read(data)
    assert "words that are judged" in text(prepared)
    assert counted(prepared) == ([("", cause)] if cause else [])


async def test_too_much_text_is_uncheckable() -> None:
    assert counted(await read(b"a" * 5_000_001)) == [("", "more than 5,000,000 characters")]


async def test_pillows_global_limits_are_left_alone() -> None:
    before = Pillow.MAX_IMAGE_PIXELS
    await prepare(encoded(page()), max_pixels=1000)
    await prepare(encoded(page()))
    assert before == Pillow.MAX_IMAGE_PIXELS
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    check = zlib.crc32(name + body).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + name + body + check


@pytest.mark.parametrize("form", ["PNG", "behind a PNG", "JPEG", "GIF"])
async def test_a_picture_that_is_a_pdf_too_is_read_as_both(form: str) -> None:
    other = pdf(words("secret words"))
    picture = encoded(page(), form if form in ("JPEG", "GIF") else "PNG")
    both = picture[:33] + chunk(b"zzZz", other) + picture[33:] if form == "PNG" else picture + other
    for part in (Document(both, "application/pdf"), Document(both), Image(both)):
        prepared = await prepare(part)
        assert "secret words" in text(prepared)
        assert {"", "page 1"} <= set(details(prepared))
    assert not counted(await prepare(Document(picture)))


async def test_a_picture_that_is_a_pdf_too_inside_plain_text_is_read_as_both() -> None:
    icon = encoded(page((32, 32)), "ICO") + pdf(words("secret words"))
    prepared = await read(f"<img src='data:image/x-icon;base64,{base64.b64encode(icon).decode()}'>".encode())
    assert "secret words" in text(prepared)


def glyph(x: float, y: float) -> str:
    """Operators of a shape about as large as a letter of small print, without painting it."""
    strokes = (f"{x + dx:.2f} {y + dy:.2f} 0.5 2 re" for dx in (0, 1, 2) for dy in (0, 2.5))
    return " ".join(strokes)


PRINT = [(60 + 5 * column, 700 - 8 * line) for line in range(12) for column in range(60)]


@pytest.mark.parametrize("together", [True, False])
async def test_print_drawn_as_lines_is_looked_at_closely(together: bool) -> None:
    shapes = [glyph(x, y) for x, y in PRINT]
    drawn = " ".join(shapes) + " f" if together else " ".join(f"{shape} f" for shape in shapes)
    prepared = await read(pdf(words("a heading", y=760) + "0 g " + drawn))
    assert details(prepared)[0] == "page 1"
    assert len(prepared.views) > 1


async def test_print_in_a_font_of_pictures_is_looked_at_closely() -> None:
    line = "ab" * 40
    shown = "".join(words(line, x=40, y=700 - 8 * row, size=6).replace("/F1", "/F9") for row in range(12))
    strokes = b"900 0 0 0 900 900 d1 " + b" ".join(b"%d 0 60 800 re" % x for x in range(0, 800, 150)) + b" f"
    prepared = await read(drawn_font(pdf(shown), strokes))
    assert details(prepared)[0] == "page 1"
    assert len(prepared.views) > 1


async def test_ruled_tables_and_charts_cost_no_more_than_their_page() -> None:
    table = " ".join(f"60 {700 - 10 * row} 400 0.5 re f" for row in range(40))
    chart = "60 60 m " + " ".join(f"{60 + at} {60 + at % 17} l" for at in range(400)) + " S "
    assert details(await read(pdf(words("a table", y=760) + table + " " + chart))) == ["page 1"]
