"""What a document holds, collected while it is read: texts, views, files inside files, and what could not be read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from turnguard.media.pictures.views import Limits
from turnguard.media.readings import As
from turnguard.media.types import Coarse, Made, Skipped, Unreadable, View

MOST_CHARACTERS = 5_000_000
MOST_DEPTH = 5
"""Files inside files inside ..."""
MOST_FILES = 1000
MOST_UNPACKED = 250_000_000
"""Bytes of all files inside a file, together."""

ReadPicture = Callable[[bytes, Limits], Made]
ReadFile = Callable[["Found", bytes, str, As, int], None]
"""Reads a file into what was found: (found, data, where, said, depth)."""


@dataclass(slots=True)
class Found:
    """Collects what one part holds. Bounded: what does not fit is listed, once for each kind of bound."""

    limits: Limits
    read_file: ReadFile
    texts: list[tuple[str, str]] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    reduced: list[Coarse] = field(default_factory=list)
    pictures: list[tuple[str, bytes]] = field(default_factory=list)
    wanted: int = 0
    _characters: int = 0
    _files: int = 0
    _unpacked: int = 0
    _seen: dict[bytes, str] = field(default_factory=dict)
    _full: set[str] = field(default_factory=set)

    @property
    def room(self) -> Limits:
        """The limits with the views that are left."""
        return self.limits._replace(views=max(0, self.limits.views - len(self.views)))

    def text(self, where: str, text: str) -> None:
        """Text to judge; white space alone is none."""
        if not text.strip():
            return
        self._characters += len(text)
        if self._characters > MOST_CHARACTERS:
            self._once(where, f"more than {MOST_CHARACTERS:,} characters")
            return
        self.texts.append((where, text))

    def strings(self, where: str, strings: list[str]) -> None:
        """Many short strings as one text, each once."""
        self.text(where, "\n".join(dict.fromkeys(said for string in strings if (said := string.strip()))))

    def skip(self, where: str, cause: str, *, counts: bool = True) -> None:
        """What was not judged and why."""
        self.skipped.append(Skipped(where, cause, counts))

    def file(self, data: bytes, where: str, said: As, depth: int, *, named: bool = True) -> None:
        """A file inside the file: its name is text, and it is read as if it had come by itself, each content once."""
        if said.name and named:
            self.text(f"name of {where}", said.name)
        if not data:
            return
        digest = hashlib.sha256(data).digest() + said.media_type.encode() + said.suffix.encode()
        if digest in self._seen:
            self.skip(where, f"the same as {self._seen[digest]}", counts=False)
            return
        self._seen[digest] = where
        self._files += 1
        self._unpacked += len(data)
        if depth > MOST_DEPTH:
            self.skip(where, f"more than {MOST_DEPTH} files inside one another")
        elif self._files > MOST_FILES:
            self._once(where, f"more than {MOST_FILES:,} files in one file")
        elif self._unpacked > MOST_UNPACKED:
            self._once(where, f"files of more than {MOST_UNPACKED:,} bytes in one file")
        else:
            self.read_file(self, data, where, said, depth)

    def picture(self, where: str, data: bytes) -> None:
        """A picture inside, each content once; it is read when all are known."""
        digest = b"picture" + hashlib.sha256(data).digest()
        if digest in self._seen:
            self.skip(where, f"the same as {self._seen[digest]}", counts=False)
        else:
            self._seen[digest] = where
            self.pictures.append((where, data))

    def show(self, where: str, made: Made) -> None:
        """What was made of something inside."""
        self.views += [replace(view, detail=joined(where, view.detail)) for view in made.views]
        self.skipped += [replace(entry, detail=joined(where, entry.detail)) for entry in made.skipped]
        self.reduced += [replace(entry, detail=joined(where, entry.detail)) for entry in made.reduced]
        self.wanted += made.wanted
        for detail, text in made.texts:
            self.text(joined(where, detail), text)

    def draw(self, read_picture: ReadPicture) -> None:
        """Make views of the pictures that were collected: the views that are left are shared among them."""
        # the small ones leave the large ones what they do not need
        for at, (where, data) in enumerate(sorted(self.pictures, key=lambda picture: len(picture[1]))):
            self.limits.check()
            room = self.room
            share = -(-room.views // (len(self.pictures) - at))
            if not share:
                self.wanted += 1
                self.skip(where, f"beyond {self.limits.views} requests")
                continue
            try:
                self.show(where, read_picture(data, room._replace(views=share)))
            except Unreadable as cause:
                self.skip(where, str(cause))
        self.pictures = []

    def made(self) -> Made:
        """Everything, riskiest views first."""
        views = tuple(sorted(self.views, key=lambda view: -view.risk))
        return Made(views, tuple(self.texts), tuple(self.skipped), tuple(self.reduced), self.wanted)

    def _once(self, where: str, cause: str) -> None:
        if cause not in self._full:
            self._full.add(cause)
            self.skip(where, cause)


def joined(where: str, detail: str) -> str:
    """Two details as one."""
    return ", ".join(filter(None, (where, detail)))
