"""A PDF made of another one's parts: what no page shows is laid out on sheets, so that PDFium can read and draw it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from turnguard.media.documents.pdf.objects import Item, Name, Objects, Ref, Word, walk, written

_SIDE = 550.0  # points: a sheet is legible in one view (tiles.LEGIBLE at two pixels a point)
_LONGEST = 2000.0
_GAP = 6.0
_MOST_COPIED = 50_000
_ELSEWHERE = frozenset(
    ("Parent", "P", "Pg", "Annots", "StructParent", "StructParents", "Metadata", "PieceInfo", "OC", "Popup")
)
"""Keys that lead away from what is drawn. Without `OC` every layer is shown."""

Rectangle = tuple[float, float, float, float]
_Numbered = tuple[int, Any, bytes | None]
"""An object's number, value and stream."""


@dataclass(frozen=True, slots=True)
class Loose:
    """A form or a picture to lay out: its dictionary, its encoded bytes, and where it stands in its own space."""

    entries: dict[str, Any]
    stream: bytes
    box: Rectangle


def form(entries: dict[str, Any], stream: bytes, objects: Objects) -> Loose | None:
    """A form, an appearance or the cell of a pattern. None where it has no area."""
    box = _numbers(entries.get("BBox"), objects, 4)
    if box is None:
        return None
    matrix = _numbers(entries.get("Matrix"), objects, 6) or [1, 0, 0, 1, 0, 0]
    if "PatternType" in entries:
        matrix = [1, 0, 0, 1, 0, 0]  # a pattern's is of the page that it fills
    a, b, c, d, e, f = matrix
    corners = [(a * x + c * y + e, b * x + d * y + f) for x in box[::2] for y in box[1::2]]
    across, down = [x for x, _ in corners], [y for _, y in corners]
    drawn = {key: value for key, value in entries.items() if key in ("Resources", "Filter", "DecodeParms", "Group")}
    numbers = [Word(b"%.4f" % value) for value in matrix]
    drawn |= {"Type": Name("XObject"), "Subtype": Name("Form"), "BBox": entries["BBox"], "Matrix": numbers}
    return Loose(drawn, stream, (min(across), min(down), max(across), max(down)))


def picture(entries: dict[str, Any], stream: bytes, objects: Objects) -> Loose | None:
    """A picture, at two pixels a point."""
    size = _numbers([entries.get("Width"), entries.get("Height")], objects, 2)
    if size is None or min(size) < 1:
        return None
    drawn = {**entries, "Type": Name("XObject"), "Subtype": Name("Image")}
    return Loose(drawn, stream, (0.0, 0.0, size[0] / 2, size[1] / 2))


def laid_out(parts: Sequence[Loose], objects: Objects) -> bytes:
    """A document with all `parts`: small ones side by side, each large one on a page of its own."""
    number = max(objects.latest, default=0) + 1
    out: list[_Numbered] = []
    pages: list[tuple[float, float, list[bytes], dict[str, Any]]] = []
    x = y = row = _SIDE * 2
    for part in parts:
        left, lower, right, upper = part.box
        wide, high = right - left, upper - lower
        scale = min(1.0, _LONGEST / max(wide, high))
        wide, high = wide * scale, high * scale
        if max(wide, high) > _SIDE:
            page = (wide, high, list[bytes](), dict[str, Any]())
            pages.insert(0, page)
            at = (0.0, 0.0)
        else:
            if x + wide > _SIDE:
                x, y, row = 0.0, y + row + _GAP, 0.0
            if y + high > _SIDE or not pages:
                pages.append((_SIDE, _SIDE, [], {}))
                x, y, row = 0.0, 0.0, 0.0
            page, at = pages[-1], (x, y)
            x, row = x + wide + _GAP, max(row, high)
        name = f"X{number}"
        across, down = (
            scale * size for size in ((right - left, upper - lower) if part.entries["Subtype"] == "Image" else (1, 1))
        )
        shift = (at[0], at[1]) if part.entries["Subtype"] == "Image" else (at[0] - scale * left, at[1] - scale * lower)
        page[2].append(b"q %.4f 0 0 %.4f %.4f %.4f cm /%s Do Q" % (across, down, *shift, name.encode()))
        page[3][name] = Ref(number)
        out.append((number, part.entries, part.stream))
        number += 1
    out += _copied(out, objects)
    return _document(out, pages, number)


def without_layers(objects: Objects) -> bytes:
    """The same document with every layer shown."""
    items = [(item.number, item.entries or item.value, item.stream) for item in objects.latest.values()]
    root = next((item for item in reversed(objects.all) if item.entries.get("Type") == "Catalog"), None)
    if root is None:
        return b""
    catalog = {key: value for key, value in root.entries.items() if key != "OCProperties"}
    return _written(
        [(number, value, stream) for number, value, stream in items if number != root.number], root.number, catalog
    )


def _copied(made: Iterable[_Numbered], objects: Objects) -> list[_Numbered]:
    """Every object that `made` leads to."""
    todo = [entries for _, entries, _ in made]
    found: dict[int, _Numbered] = {}
    while todo and len(found) < _MOST_COPIED:
        for key, value, _ in walk(todo.pop()):
            if isinstance(value, Ref) and key not in _ELSEWHERE and value.number not in found:
                item = objects.latest.get(value.number)
                if item is not None:
                    kept = {k: v for k, v in item.entries.items() if k not in _ELSEWHERE} or item.value
                    found[value.number] = (value.number, kept, item.stream)
                    todo.append(kept)
    return list(found.values())


def _document(
    items: list[_Numbered],
    pages: list[tuple[float, float, list[bytes], dict[str, Any]]],
    number: int,
) -> bytes:
    tree = number
    kids: list[Any] = []
    for wide, high, drawing, forms in pages:
        content, page = number + 1, number + 2
        number += 2
        box = [Word(b"0"), Word(b"0"), Word(b"%.2f" % max(wide, 1)), Word(b"%.2f" % max(high, 1))]
        items.append((content, {}, b"\n".join(drawing)))
        entries = {"Type": Name("Page"), "Parent": Ref(tree), "MediaBox": box, "Contents": Ref(content)}
        items.append((page, {**entries, "Resources": {"XObject": forms}}, None))
        kids.append(Ref(page))
    items.append((tree, {"Type": Name("Pages"), "Kids": kids, "Count": Word(b"%d" % len(kids))}, None))
    return _written(items, number + 1, {"Type": Name("Catalog"), "Pages": Ref(tree)})


def _written(items: Iterable[_Numbered], root: int, catalog: dict[str, Any]) -> bytes:
    out = bytearray(b"%PDF-1.7\n")
    starts: dict[int, int] = {}
    for number, value, stream in (*items, (root, catalog, None)):
        if isinstance(value, dict) and value.get("Type") in ("XRef", "ObjStm"):
            continue
        starts[number] = len(out)
        if stream is None:
            out += b"%d 0 obj\n%s\nendobj\n" % (number, written(value))
        else:
            entries = {**value, "Length": Word(b"%d" % len(stream))}
            out += b"%d 0 obj\n%s\nstream\n%s\nendstream\nendobj\n" % (number, written(entries), stream)
    start = len(out)
    out += b"xref\n0 1\n0000000000 65535 f \n"
    for number, at in sorted(starts.items()):
        out += b"%d 1\n%010d 00000 n \n" % (number, at)
    trailer = {"Size": Word(b"%d" % (max(starts) + 1)), "Root": Ref(root)}
    out += b"trailer %s\nstartxref\n%d\n%%%%EOF" % (written(trailer), start)
    return bytes(out)


def _numbers(value: Any, objects: Objects, count: int) -> list[float] | None:
    value = objects.get(value)
    if not isinstance(value, list) or len(value) != count:
        return None
    try:
        numbers = [float(objects.get(entry)) for entry in value]
    except (TypeError, ValueError):
        return None
    return numbers if all(-1e6 < number < 1e6 for number in numbers) else None


def loose(items: Iterable[Item], objects: Objects) -> list[Loose]:
    """What of `items` can be laid out."""
    found = [
        (picture if "Width" in item.entries else form)(item.entries, item.stream, objects)
        for item in items
        if item.stream is not None
    ]
    return [part for part in found if part is not None]
