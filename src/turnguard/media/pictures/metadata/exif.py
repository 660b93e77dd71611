"""EXIF and TIFF: the texts of every directory, and the runs of text between them. Pure.

Source: TIFF 6.0 (directories of entries of 12 bytes) and EXIF 2.32 (which tags hold text, and how it is encoded).
"""

from __future__ import annotations

from collections.abc import Iterator

from turnguard.media.pictures.metadata.runs import readable, runs

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_ASCII, _SHORT, _LONG = 2, 3, 4
_DIRECTORIES = (0x8769, 0x8825, 0xA005, 0x014A)  # EXIF, GPS, interoperability, further directories
_WINDOWS = range(0x9C9B, 0x9CA0)  # title, comment, author, keywords, subject: UTF-16
_USER_COMMENT = 0x9286
_XMP, _PROFILE = 0x02BC, 0x8773
_PIXELS = {0x0111: 0x0117, 0x0144: 0x0145, 0x0201: 0x0202}  # strips, tiles, thumbnail: offsets, and the lengths' tag
_MOST_DIRECTORIES = 64
_MOST_ENTRIES = 2000


def words_of_exif(data: bytes) -> Iterator[str]:
    """The texts of a TIFF structure. What no directory leads to is searched for runs of text."""
    walk = _Walk(data)
    walk.directory(walk.number(4, 4), 0)
    yield from walk.words
    at = 8
    for start, end in sorted(walk.elsewhere):
        yield from runs(data[at:start])
        at = max(at, end)
    yield from runs(data[at:])


class _Walk:
    """Follows the directories of one structure, each once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._little = data[:2] == b"II"
        self._seen: set[int] = set()
        self.words: list[str] = []
        self.elsewhere: list[tuple[int, int]] = []
        """Where pixels stand, and what was read in its own way."""

    def number(self, at: int, size: int) -> int:
        return int.from_bytes(self._data[at : at + size], "little" if self._little else "big")

    def directory(self, at: int, depth: int) -> None:
        while at and at not in self._seen and len(self._seen) < _MOST_DIRECTORIES and depth < 8:
            self._seen.add(at)
            count = min(self.number(at, 2), _MOST_ENTRIES)
            where: dict[int, list[int]] = {}
            for entry in range(at + 2, at + 2 + 12 * count, 12):
                tag, kind, values = self.number(entry, 2), self.number(entry + 2, 2), self.number(entry + 4, 4)
                size = _SIZES.get(kind, 1) * values
                start = entry + 8 if size <= 4 else self.number(entry + 8, 4)
                self._entry(tag, kind, self._data[start : start + size])
                if tag in (_XMP, _PROFILE):
                    self.elsewhere.append((start, start + size))
                if kind in (_SHORT, _LONG, 13):
                    step = _SIZES[kind]
                    span = range(start, min(start + size, len(self._data)), step)
                    where[tag] = [self.number(position, step) for position in span]
                    if tag in _DIRECTORIES:
                        for further in where[tag][:_MOST_DIRECTORIES]:
                            self.directory(further, depth + 1)
            for offsets, lengths in _PIXELS.items():
                pairs = zip(where.get(offsets, ()), where.get(lengths, ()), strict=False)
                self.elsewhere += [(start, start + length) for start, length in pairs]
            at = self.number(at + 2 + 12 * count, 4)

    def _entry(self, tag: int, kind: int, value: bytes) -> None:
        if tag == _USER_COMMENT:
            charset, value = value[:8], value[8:]
            if charset.startswith(b"UNICODE"):
                order = "utf-16-le" if self._little else "utf-16-be"
                self.words += [value.decode(order, "replace"), readable(value)]
            elif charset.startswith(b"JIS"):
                self.words.append(value.decode("iso2022_jp", "replace"))
            else:
                self.words.append(readable(value))
        elif tag in _WINDOWS:
            self.words += [value.decode("utf-16-le", "replace"), readable(value)]
        elif kind == _ASCII:
            for said in value.split(b"\0"):
                self.words += readable(said).splitlines()
        elif tag == _XMP:
            from turnguard.media.pictures.metadata.xmp import words_of_xmp

            self.words += words_of_xmp(value)
        elif tag == _PROFILE:
            from turnguard.media.pictures.metadata.icc import words_of_profile

            self.words += words_of_profile(value)
