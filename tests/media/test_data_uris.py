"""`data:` URIs and bare base64 inside text: found in every disguise, and nothing can hide behind one."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.media.drawing import encoded, noise, page
from turnguard.content import Document, Image
from turnguard.media import split_data_uris

PNG = encoded(page())
JPEG = encoded(noise(), "JPEG")
B64 = base64.b64encode(PNG).decode()
URI = f"data:image/png;base64,{B64}"
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
        pytest.param(f"data:image/png;charset=x;base64,{B64}!", "[image 1]!", id="parameters"),
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
    rest, pictures = found(f"data:image/x;base64,{payload}{tail}")
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
    ],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    start = time.perf_counter()
    split_data_uris(text)
    assert time.perf_counter() - start < 5  # quadratic would be minutes; the machine may be busy


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_whatever_stands_around_a_picture_stays(before: str, after: str) -> None:
    rest, parts = split_data_uris(f"{before}({URI})!{after}")
    assert len(parts) == 1
    assert rest == f"{before}([image 1])!{after}"
