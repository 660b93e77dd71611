"""The pictures that AVIF and HEIC files hold beside their main one."""

from __future__ import annotations

import struct

import pytest

from tests.media.drawing import AVIF, counted, decoded, details, encoded, page, prepare
from tests.media.planted.drawn import HEIC
from turnguard.media.boxes import MOST, Box, boxes

TURNED = (b"irot", b"\2")
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


def boxed(name: bytes, *inside: bytes) -> bytes:
    body = b"".join(inside)
    return struct.pack(">I", 8 + len(body)) + name + body


def with_further(
    data: bytes, reference: bytes | None, *properties: tuple[bytes, bytes], hidden: bool = False, count: int = 1
) -> bytes:
    """The file with its own coded picture `count` times more, with these properties, referring so to the main one."""

    def body(box: Box) -> bytes:
        return data[box.start : box.end]

    outer = {box.name: box for box in boxes(data)}
    meta = {box.name: box for box in boxes(data, outer[b"meta"].start + 4, outer[b"meta"].end)}
    iprp = {box.name: box for box in boxes(data, meta[b"iprp"].start, meta[b"iprp"].end)}
    ipco = [(box.name, body(box)) for box in boxes(data, iprp[b"ipco"].start, iprp[b"ipco"].end)]
    main = int.from_bytes(body(meta[b"pitm"])[4:6], "big")
    places = _places(body(meta[b"iloc"]))
    infes = list(boxes(data, meta[b"iinf"].start + 6, meta[b"iinf"].end))
    kind = next(body(box)[8:12] for box in infes if int.from_bytes(body(box)[4:6], "big") == main)
    ipma = body(iprp[b"ipma"])
    at = next(at for at in range(8, len(ipma)) if ipma[at : at + 2] == struct.pack(">H", main))
    own = ipma[at + 3 : at + 3 + ipma[at + 2]]
    numbers = range(100, 100 + count)
    essential = {b"irot": 0x80}  # a reader that does not know it must not show the picture
    more = own + bytes(essential.get(name, 0) | at for at, (name, _) in enumerate(properties, len(ipco) + 1))
    ipco += properties
    entries = struct.pack(">I", int.from_bytes(ipma[4:8], "big") + count) + ipma[8:]
    entries += b"".join(struct.pack(">HB", number, len(more)) + more for number in numbers)
    flags = b"\2\0\0\1" if hidden else b"\2\0\0\0"
    items = [boxed(b"infe", body(box)) for box in infes]
    items += [boxed(b"infe", flags, struct.pack(">HH", number, 0), kind, b"\0") for number in numbers]
    iref = body(meta[b"iref"]) if b"iref" in meta else bytes(4)
    if reference is not None:
        iref += b"".join(boxed(reference, struct.pack(">HHH", number, 1, main)) for number in numbers)

    def made(shift: int) -> bytes:
        all_places = {**places, **dict.fromkeys(numbers, places[main])}
        iloc = b"\0\0\0\0\x44\0" + struct.pack(">H", len(all_places))
        for number, (start, size) in all_places.items():
            iloc += struct.pack(">HHHII", number, 0, 1, start + shift, size)
        inner = boxed(
            b"meta", bytes(4), boxed(b"hdlr", body(meta[b"hdlr"])), boxed(b"pitm", body(meta[b"pitm"])), boxed(b"iloc", iloc),
            boxed(b"iinf", bytes(4), struct.pack(">H", len(items)), *items),
            boxed(b"iprp", boxed(b"ipco", *(boxed(*each) for each in ipco)), boxed(b"ipma", ipma[:4], entries)),
            boxed(b"iref", iref),
        )  # fmt: skip
        return boxed(b"ftyp", body(outer[b"ftyp"])) + inner

    head = made(0)
    return made(len(head) + 8 - outer[b"mdat"].start) + boxed(b"mdat", body(outer[b"mdat"]))


def _places(iloc: bytes) -> dict[int, tuple[int, int]]:
    """Where the bytes of each item stand, of a table of version 0 with offsets and lengths of four bytes."""
    assert (iloc[0], iloc[4]) == (0, 0x44)
    base = iloc[5] >> 4
    found, at = {}, 8
    for _ in range(int.from_bytes(iloc[6:8], "big")):
        number = int.from_bytes(iloc[at : at + 2], "big")
        start = int.from_bytes(iloc[at + 4 : at + 4 + base], "big")
        at += 4 + base
        extents, offset, size = struct.unpack(">HII", iloc[at : at + 10])
        assert extents == 1
        found[number] = start + offset, size
        at += 10
    return found


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
