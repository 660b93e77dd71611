"""Files of boxes (HEIC, AVIF) with further pictures in them, and with a film behind them."""

from __future__ import annotations

import struct

from turnguard.media.boxes import Box, boxes

FILM = b"\0\0\0\x18ftypmp42" + bytes(400)
TURNED = (b"irot", b"\2")
"""A property by which a picture stands upside down."""


def mpvd(film: bytes) -> bytes:
    """The box that Android puts behind a HEIC or AVIF photo."""
    return boxed(b"mpvd", film)


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
