"""The boxes of ISO 14496-12 files, and the pictures beside the main one of AVIF and HEIC (ISO 23008-12). Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

MOST = 16
"""Pictures of one container that are looked at."""
_NO_PICTURES = (b"Exif", b"mime", b"uri ", b"tmap")
"""Types of items that are metadata, or a rule for how two pictures are combined."""
_NAMES = {b"thmb": "its thumbnail", b"auxl": "its auxiliary picture"}
_HIDDEN = 1


class Box(NamedTuple):
    """A box: where its content begins and ends."""

    name: bytes
    start: int
    end: int


def boxes(data: bytes, at: int = 0, end: int | None = None) -> Iterator[Box]:
    """The boxes that stand one behind another from `at` on. The last one ends with the data, whatever it claims."""
    end = len(data) if end is None else end
    while at + 8 <= end:
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        until = min(at + size, end) if size >= head else end
        yield Box(data[at + 4 : at + 8], at + head, until)
        at = until


class _Reference(NamedTuple):
    kind: bytes
    at: int
    """Where its kind stands."""
    source: int
    targets: tuple[int, ...]


def beside(data: bytes, *, frames: bool) -> Iterator[tuple[str, bytes]]:
    """What each further picture of a container is, and the container with that one as its main picture.

    Thumbnails, auxiliary pictures (depths, gain maps, transparency) and hidden ones; not the tiles that the main
    picture is made of. `frames`: the format's reader gives pictures of equal standing as frames: they are left out.
    """
    found = {
        box.name: box
        for outer in boxes(data)
        if outer.name == b"meta"
        for box in boxes(data, outer.start + 4, outer.end)
    }
    if not {b"pitm", b"iinf"} <= found.keys():
        return
    at = found[b"pitm"].start + 4
    width = 4 if data[at - 4] else 2
    main = int.from_bytes(data[at : at + width], "big")
    items = dict(_items(data, found[b"iinf"]))
    references = list(_references(data, found[b"iref"])) if b"iref" in found else []
    tiles = {
        target
        for each in references
        if each.kind == b"dimg" and items.get(each.source, (b"tmap", 0))[0] != b"tmap"
        for target in each.targets
    }
    named: defaultdict[int, list[_Reference]] = defaultdict(list)
    for each in references:
        if each.kind in _NAMES:
            named[each.source].append(each)
    for number, (kind, flags) in items.items():
        own = named[number]
        is_frame = frames and not own and not data[flags] & _HIDDEN
        if number == main or number in tiles or kind in _NO_PICTURES or is_frame:
            continue
        made = bytearray(data)
        made[at : at + width] = number.to_bytes(4, "big")[-width:]
        made[flags] &= ~_HIDDEN
        for each in own:
            made[each.at : each.at + 4] = b"free"  # no longer anyone's thumbnail
        yield _NAMES[own[0].kind] if own else "a further picture", bytes(made)


def _items(data: bytes, iinf: Box) -> Iterator[tuple[int, tuple[bytes, int]]]:
    """The number of each item, its type, and where the byte of its flags stands."""
    for box in boxes(data, iinf.start + (8 if data[iinf.start] else 6), iinf.end):
        version, at = data[box.start], box.start + 4
        width = 4 if version == 3 else 2
        if box.name == b"infe" and version >= 2:
            yield int.from_bytes(data[at : at + width], "big"), (data[at + width + 2 : at + width + 6], box.start + 3)


def _references(data: bytes, iref: Box) -> Iterator[_Reference]:
    width = 4 if data[iref.start] else 2
    for box in boxes(data, iref.start + 4, iref.end):
        numbers = [int.from_bytes(data[at : at + width], "big") for at in range(box.start + width + 2, box.end, width)]
        source = int.from_bytes(data[box.start : box.start + width], "big")
        yield _Reference(box.name, box.start - 4, source, tuple(numbers))
