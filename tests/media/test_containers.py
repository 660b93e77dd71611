"""The pictures that AVIF and HEIC files hold beside their main one."""

from __future__ import annotations

import struct
import time

import pytest

from tests.media.containers import TURNED, boxed, with_further
from tests.media.drawing import AVIF, counted, decoded, details, encoded, page, prepare
from tests.media.planted.drawn import HEIC
from turnguard.media.boxes import MOST, beside

DEPTH = (b"auxC", bytes(4) + b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth\0")
GAIN_MAP = (b"auxC", bytes(4) + b"urn:com:apple:photo:2020:aux:hdrgainmap\0")

FILES = [
    pytest.param("HEIC", id="HEIC"),
    pytest.param("AVIF", id="AVIF", marks=pytest.mark.skipif(not AVIF, reason="no AVIF")),
]


def file(form: str) -> bytes:
    if form == "HEIC":
        pytest.importorskip("pi_heif")
        return HEIC
    return encoded(page((96, 64), "UNSAFE", (220, 40, 40)), "AVIF")


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize(
    ("reference", "properties", "detail"),
    [(b"thmb", (), "its thumbnail"), (b"auxl", (DEPTH,), "its auxiliary picture")],
    ids=["thumbnail", "auxiliary"],
)
async def test_a_further_picture_is_a_view_where_it_shows_something_else(
    form: str, reference: bytes, properties: tuple[tuple[bytes, bytes], ...], detail: str
) -> None:
    plain = file(form)
    alike = await prepare(with_further(plain, reference, *properties))
    assert (details(alike), counted(alike)) == ([""], [])
    other = await prepare(with_further(plain, reference, *properties, TURNED))
    assert (details(other), counted(other)) == (["", detail], [])
    shown, turned = (decoded(view.picture) for view in other.views)
    assert turned.size == shown.size
    assert turned.tobytes() != shown.tobytes()


@pytest.mark.parametrize("form", FILES)
async def test_a_hidden_picture_is_a_view(form: str) -> None:
    assert details(await prepare(with_further(file(form), None, TURNED, hidden=True))) == ["", "a further picture"]


@pytest.mark.parametrize(("form", "expected"), [("HEIC", ["frame 1", "frame 2"]), ("AVIF", ["", "a further picture"])])
async def test_a_picture_of_equal_standing_is_a_view(form: str, expected: list[str]) -> None:
    if form == "AVIF" and not AVIF:
        pytest.skip("no AVIF")
    assert details(await prepare(with_further(file(form), None, TURNED))) == expected


@pytest.mark.parametrize("form", FILES)
async def test_a_further_picture_that_cannot_be_decoded_is_listed(form: str) -> None:
    data = with_further(file(form), b"thmb", TURNED)
    at = data.index(struct.pack(">HHHI", 100, 0, 1, 0)[:6]) + 6
    broken = data[:at] + struct.pack(">II", len(data) - 8, 4) + data[at + 8 :]
    prepared = await prepare(broken)
    assert details(prepared) == [""]
    assert [detail for detail, _ in counted(prepared)] == ["its thumbnail"]


@pytest.mark.parametrize("form", FILES)
async def test_more_pictures_than_are_looked_at_are_listed(form: str) -> None:
    prepared = await prepare(with_further(file(form), b"thmb", count=MOST + 1))
    assert (details(prepared), counted(prepared)) == (
        [""],
        [("further pictures", f"more than {MOST} pictures in one file")],
    )


@pytest.mark.parametrize("form", FILES)
async def test_a_gain_map_is_multiplied_into_its_picture(form: str) -> None:
    assert details(await prepare(with_further(file(form), b"auxl", GAIN_MAP))) == ["", "with its gain map"]


async def test_transparency_is_not_shown_once_more() -> None:
    if not AVIF:
        pytest.skip("no AVIF")
    picture = page((96, 64)).convert("RGBA")
    picture.putalpha(page((96, 64), "UNSAFE").convert("L"))
    prepared = await prepare(encoded(picture, "AVIF", quality=90))
    assert (details(prepared), counted(prepared)) == (["", "on dark ground", "without its transparency"], [])


def test_the_search_for_further_pictures_grows_with_the_file() -> None:
    def seconds(count: int) -> float:
        numbers = [struct.pack(">H", number) for number in range(count)]
        items = [boxed(b"infe", b"\2\0\0\0", number, b"\0\0Exif\0") for number in numbers]
        references = [boxed(b"thmb", number, b"\0\1\0\0") for number in numbers]
        iinf = boxed(b"iinf", bytes(4), struct.pack(">H", count), *items)
        meta = boxed(b"meta", bytes(4), boxed(b"pitm", bytes(6)), iinf, boxed(b"iref", bytes(4), *references))
        start = time.process_time()
        assert list(beside(meta, frames=False)) == []
        return time.process_time() - start

    few = min(seconds(2_000) for _ in range(3))
    assert min(seconds(8_000) for _ in range(3)) < 8 * few  # quadratic work takes 16 times as long
