"""The bytes of PDF streams without their filters. pypdf decodes; filters of pictures are left as they are."""

from __future__ import annotations

from typing import Any

from turnguard.media.documents.pdf.objects import Item, Malformed, Name, Objects, Word, parse

_FULL = {
    "AHx": "ASCIIHexDecode",
    "A85": "ASCII85Decode",
    "LZW": "LZWDecode",
    "Fl": "FlateDecode",
    "RL": "RunLengthDecode",
}
_READ = frozenset(_FULL.values())
_MOST_FILTERS = 8
_MOST_IN_STREAM = 20_000


class Undecoded(Exception):
    """A filter that is not read here, or data that it refuses."""


def decoded(item: Item, objects: Objects) -> bytes:
    """The bytes of a stream. Raises `Undecoded`."""
    from pypdf.filters import decode_stream_data
    from pypdf.generic import ArrayObject, NameObject, StreamObject

    names = [_FULL.get(name, name) for name in _listed(objects.get(item.entries.get("Filter")), objects)]
    given = objects.get(item.entries.get("DecodeParms", item.entries.get("DP")))
    parameters = given if isinstance(given, list) else [given]
    if len(names) > _MOST_FILTERS or not _READ.issuperset(names):
        raise Undecoded
    stream = StreamObject()
    stream._data = item.stream or b""
    stream[NameObject("/Filter")] = ArrayObject([NameObject(f"/{name}") for name in names])
    numbers = [_parameters(entry, objects) for entry in (*parameters, *[None] * len(names))][: len(names)]
    stream[NameObject("/DecodeParms")] = ArrayObject(numbers)
    try:
        return bytes(decode_stream_data(stream))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - pypdf raises anything on malformed data
        raise Undecoded(type(error).__name__) from None


def _listed(value: Any, objects: Objects) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [str(name) for name in map(objects.get, found) if isinstance(name, Name)]


def _parameters(value: Any, objects: Objects) -> Any:
    from pypdf.generic import DictionaryObject, NameObject, NumberObject

    out = DictionaryObject()
    for key, number in objects.entries(value).items():
        if isinstance(number := objects.get(number), Word) and number.lstrip(b"-").isdigit() and len(number) < 10:
            out[NameObject(f"/{key}")] = NumberObject(int(number))
    return out


def unpack(objects: Objects) -> None:
    """Add the objects that stand in object streams. One that the file redefines later in plain bytes stays as it is."""
    plain = set(objects.latest)
    for item in [item for item in objects.all if item.entries.get("Type") == "ObjStm"]:
        try:
            data = decoded(item, objects)
            first = int(objects.get(item.entries.get("First")))
            pairs = [int(word) for word in data[:first].split()[: 2 * _MOST_IN_STREAM]]
        except (Undecoded, ValueError, TypeError):
            objects.unread.append(f"objects in stream {item.number}")
            continue
        for number, offset in zip(pairs[::2], pairs[1::2], strict=False):
            try:
                value, _ = parse(data, first + offset, objects.comments)
            except Malformed:
                objects.unread.append(f"object {number}")
                continue
            if number in plain:
                objects.all.append(Item(number, value))
            else:
                objects.add(Item(number, value))
