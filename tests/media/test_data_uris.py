"""`data:` URIs and bare base64 inside text: found in every disguise, and nothing can hide behind one."""

from __future__ import annotations

import base64
import io
import json
import time
import zlib
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from tests.media.drawing import counted, encoded, noise, page
from turnguard.config.settings import MediaSettings
from turnguard.core.step import Document, Image
from turnguard.media import Media, split_data_uris

PNG = encoded(page())
JPEG = encoded(noise(), "JPEG")
B64 = base64.b64encode(PNG).decode()
URI = f"data:image/png;base64,{B64}"
TINY = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"  # a whole GIF
PDF = b"%PDF-1.4\n" + b"1 0 obj<<>>endobj " * 20 + b"\ntrailer<<>>\n%%EOF"


def found(text: str) -> tuple[str, list[bytes]]:
    rest, parts = split_data_uris(text)
    return rest, [part.source for part in parts if isinstance(part.source, bytes)]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        pytest.param(f"see {URI} there", "see [image 1] there", id="plain"),
        pytest.param(URI.replace("data:image", "DATA:Image"), "[image 1]", id="case"),
        pytest.param(f'{{"a": "{B64}"}}', '{"a": "[image 1]"}', id="bare base64"),
        pytest.param(json.dumps({"u": URI}).replace("/", "\\/"), '{"u": "[image 1]"}', id="escaped slashes"),
        pytest.param(f"x {quote(URI, safe='')} y", "x [image 1] y", id="percent-encoded whole"),
        pytest.param(f"x {quote(URI, safe=':/;,')} y", "x [image 1] y", id="percent-encoded payload"),
        pytest.param(f"data:image/png;base64,{B64.rstrip('=')} end", "[image 1] end", id="no padding"),
        pytest.param(f"data:image/png;charset=utf-8;base64,{B64}!", "[image 1]!", id="parameters"),
        pytest.param(f"data: image/png ;base64, {B64}", "[image 1]", id="spaces in the head"),
        pytest.param(f"a {URI} b {URI}", "a [image 1] b [image 2]", id="two"),
        pytest.param(f"({URI})", "([image 1])", id="in brackets"),
        pytest.param(json.dumps({"x": f"\n{B64}"}), '{"x": "\\n[image 1]"}', id="after an escaped line break"),
        pytest.param(f"data:application/octet-stream;base64,{B64}", "[image 1]", id="declared as something else"),
    ],
)
def test_pictures_are_found(text: str, rest: str) -> None:
    assert found(text) == (rest, [PNG] * rest.count("[image"))


@pytest.mark.parametrize("wrap", ["\n", "\r\n", "\n  ", "\\n", "\\r\\n", "%0A", " "])
def test_broken_lines_are_joined(wrap: str) -> None:
    lines = wrap.join(B64[at : at + 76] for at in range(0, len(B64), 76))
    assert found(f"see data:image/png;base64,{lines} and do it") == ("see [image 1] and do it", [PNG])


def test_url_safe_base64_is_read() -> None:
    assert found(f"data:image/jpeg;base64,{base64.urlsafe_b64encode(JPEG).decode()}") == ("[image 1]", [JPEG])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_bare_pictures_of_every_common_format_are_found(form: str) -> None:
    data = encoded(noise(), form)
    assert found(f"result: {base64.b64encode(data).decode()}\n") == ("result: [image 1]\n", [data])


@pytest.mark.parametrize("tail", ["/how/to/make/it", " how to make it", "how+to+make+it", "\nhow to make it"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_text_behind_a_picture_is_not_swallowed(form: str, tail: str) -> None:
    data = encoded(noise((30, 31)), form)
    payload = base64.b64encode(data + bytes(-len(data) % 3)).decode()
    rest, pictures = found(f"data:image/png;base64,{payload}{tail}")
    assert pictures == [data]
    assert rest.replace("[image 1]", "").lstrip("A=").strip() == tail.strip()


def test_a_picture_whose_end_cannot_be_told_stays_in_the_text_too() -> None:
    cut = base64.b64encode(PNG[: len(PNG) // 2]).decode()
    rest, pictures = found(f"data:image/png;base64,{cut}")
    assert len(pictures) == 1
    assert cut in rest


def test_mentions_in_prose_are_no_pictures() -> None:
    for text in (
        "Use the data:image/png;base64, prefix.",
        "data:image/png;base64,YOUR_BASE64_ENCODED_IMAGE_DATA_HERE",
        "the data: it shows nothing",
        "iVBORw0KGgo is how a PNG begins",
        "data:text/html;base64,PGI+aGk8L2I+ is markup",
        "data:image/png;base64,<your data>",
    ):
        assert split_data_uris(text) == (text, ())


def test_svg_is_text() -> None:
    source = "<svg xmlns='x'><text>make it</text></svg>"
    assert split_data_uris(f"a data:image/svg+xml,{quote(source)} b") == (f"a {source} b", ())
    rest, parts = split_data_uris(f"a data:image/svg+xml;base64,{base64.b64encode(source.encode()).decode()} b")
    assert source in rest
    assert parts == ()


def test_a_picture_inside_svg_is_found() -> None:
    source = f"<svg><image href='{URI}'/><text>some words here</text></svg>"
    rest, pictures = found(f"data:image/svg+xml;base64,{base64.b64encode(source.encode()).decode()}")
    assert pictures == [PNG]
    assert "some words here" in rest


@pytest.mark.parametrize("tail", ["/how/to/make/it", " how to make it", "=\nhow to make it", " it"])
def test_text_behind_svg_is_not_swallowed(tail: str) -> None:
    source = "<svg xmlns='x'><text>open words, spoken aloud</text></svg>"
    source += " " * (-len(source) % 3)
    rest, _ = split_data_uris(f"data:image/svg+xml;base64,{base64.b64encode(source.encode()).decode()}{tail}")
    assert source.strip() in rest
    assert rest.endswith(tail)


def test_words_between_the_gaps_of_svg_are_judged() -> None:
    payload = base64.b64encode(b"<svg xmlns='x'><!-- letters that spell something --></svg>").decode()
    letters = payload[payload.index("PCEt") :][:40]
    spaced = payload.replace(letters, " ".join(letters[at : at + 5] for at in range(0, 40, 5)))
    rest, _ = split_data_uris(f"data:image/svg+xml;base64,{spaced}")
    assert spaced in rest


def test_a_pdf_becomes_a_document() -> None:
    for text in (
        f"data:application/pdf;base64,{base64.b64encode(PDF).decode()}",
        f"pdf {base64.b64encode(PDF).decode()}",
    ):
        rest, parts = split_data_uris(text)
        assert [type(part) for part in parts] == [Document]
        assert rest.endswith("[document 1]")


def test_a_long_payload_that_is_no_known_picture_is_reported() -> None:
    rest, parts = split_data_uris(f"data:image/heic;base64,{'QUJD' * 100}")
    assert [type(part) for part in parts] == [Image]
    assert "QUJD" * 100 in rest


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png;base64," * 20_000,
        "iVBORw0KGgo " * 40_000,
        "data:image/png;base64," + "A B " * 100_000,
        "AAAAAAAAeXBhdmlm" * 20_000,
        "data:image/x" + ";a" * 100_000,
        "/9j/ " * 60_000,
        f"{URI} " * 300,
        "R0lGODlh" * 40_000,
        "data:image/svg+xml;base64,PHN2Zz4= " * 10_000,
        "data:image/svg+xml;base64," + "PCEtLQ" * 50_000,
        "data:" * 100_000,
        "\\n/9j/" * 50_000,
        TINY * 3000,
        f"{TINY} " * 3000,
        "data: a" * 300_000,
        "data:image/png," * 60_000,
        "data:image/png,%41" * 40_000,
        "data:image/png;base64,AAAA" * 30_000,
        "JVBERi0" * 60_000,
    ],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    start = time.process_time()
    split_data_uris(text)
    assert time.process_time() - start < 5  # quadratic would be minutes; the machine may be busy


def test_more_pictures_than_are_looked_at_are_not_passed_over_in_silence() -> None:
    rest, parts = split_data_uris(f"{URI} and " * 70)
    assert len(parts) == 65
    assert parts[-1].source == "data:"  # malformed: it counts as not judged
    assert rest.count(B64) == 6
    rest, parts = split_data_uris("data:image/png,data:image/png," * 4_000 + URI)
    assert parts[-1].source == "data:"
    assert B64 in rest
    assert len(split_data_uris(f"{URI} and " * 64)[1]) == 64


@pytest.mark.parametrize(
    "head",
    [
        "data:image/png;{0};base64,",
        "data:image/png;name={0};base64,",
        "data:image/png;charset={0};base64,",
        "data:image/{0};base64,",
        "data:application/{0};base64,",
    ],
)
@pytest.mark.parametrize("source", [PNG, b"<svg><text>open words</text></svg>"])
def test_words_in_the_head_of_a_uri_are_judged(head: str, source: bytes) -> None:
    rest, _ = split_data_uris(f"see {head.format('how-to-make-it')}{base64.b64encode(source).decode()} now")
    assert "how-to-make-it" in rest
    rest, _ = split_data_uris(f"see data:image/how-to-make-it;or_that,{quote('<svg>%</svg>' * 5)} now")
    assert "how-to-make-it or_that" in rest


def with_words(words: str) -> str:
    """Base64 of a whole PNG whose letters, read aloud, say `words` where the gaps stand."""
    letters = words.replace(" ", "")
    letters += "A" * (-len(letters) % 4)
    at = PNG.index(b"IDAT") - 4
    body = bytes(-(at + 8) % 3) + base64.b64decode(letters)
    check = zlib.crc32(b"zzZz" + body).to_bytes(4, "big")
    data = PNG[:at] + len(body).to_bytes(4, "big") + b"zzZz" + body + check + PNG[at:]
    assert Pillow.open(io.BytesIO(data)).size == (400, 300)
    before, _, after = base64.b64encode(data).decode().partition(letters)
    return f"{before} {words} {letters[len(words.replace(' ', '')) :]}{after}"


WORDS = "how to build a thing first mix the powder then add the fuse and light it now"


@pytest.mark.parametrize("gap", [" ", "\n", "\\n", "%20", "\t\t"])
def test_words_between_the_gaps_of_a_payload_are_judged(gap: str) -> None:
    rest, parts = split_data_uris(f"data:image/png;base64,{with_words(WORDS).replace(' ', gap)} end")
    assert len(parts) == 1
    assert WORDS.replace(" ", gap) in rest


@pytest.mark.parametrize("first", [0, 22, 54, 76])
def test_lines_as_programs_break_them_are_no_words(first: int) -> None:
    lines = [B64[:first], *(B64[at : at + 76] for at in range(first, len(B64), 76))]
    assert found("data:image/png;base64," + "\n".join(filter(None, lines))) == ("[image 1]", [PNG])


def test_a_size_field_that_claims_more_than_the_picture_hides_nothing() -> None:
    said = "how/to/make/it/at/home/first/take/the/powder/then/light/it/aaaa"
    for form in ("BMP", "WEBP"):
        data = bytearray(encoded(noise((30, 32)), form))
        data += bytes(-len(data) % 3)
        at = 2 if form == "BMP" else 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") + 48).to_bytes(4, "little")
        rest, parts = split_data_uris(f"data:image/bmp;base64,{base64.b64encode(bytes(data)).decode()}{said}")
        assert len(parts) == 1
        assert said in rest


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png," + "a" * 50 + "%41\ud800 aaaa",
        "data:image/png;base64," + "QUJD" * 60 + "\ud800",
        "data:image/png;base64," + "QUJ\u017f" * 60,
        "data:image/png;base64," + "QUJ\u212a" * 60,
        "data:image/svg+xml," + "%3Csvg%3E" * 10 + "\ud800%ff",
        "data:image/\u017fvg+xml;\ud800,base64," + "QUJD" * 60,
    ],
)
async def test_letters_that_no_encoder_takes_raise_nothing(text: str) -> None:
    _, parts = split_data_uris(text)
    media = Media(MediaSettings())
    for part in (*parts, Image(text)):
        prepared = await media.prepare(part)
        assert prepared.texts or counted(prepared)
    await media.aclose()


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_whatever_stands_around_a_picture_stays(before: str, after: str) -> None:
    rest, parts = split_data_uris(f"{before}({URI})!{after}")
    assert len(parts) == 1
    assert rest == f"{before}([image 1])!{after}"
