"""HTTP/1.1 replies: bytes in, a reply out (RFC 9112). Pure, and strict: what is doubtful is no reply.

Only what a request for a verdict needs. Refused are replies that two readers could take for two different ones: two
lengths, a length beside a transfer coding, folded or odd header lines, bytes before or after what was announced.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_REPLY = 1_000_000
"""Bytes. A verdict with logprobs is a few kilobytes; what is far larger is no verdict."""
MAX_HEAD = 65_536
"""Bytes of one head, or of one line between chunks."""
MAX_INTERIM = 64
"""Replies of the kind `100 Continue` before the one that counts."""

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*|;[\t\x20-\x7e\x80-\xff]*)")
_FRAMES = (b"content-length", b"transfer-encoding")


class BrokenReply(Exception):
    """What came is no reply, or only a part of one. The text holds nothing of it."""


class Reply(NamedTuple):
    """A reply. A body longer than `MAX_REPLY` is cut one byte after it; a `reusable` connection can take a request."""

    status: int
    body: bytes
    retry_after: str | None
    coding: str | None
    reusable: bool


class _Head(NamedTuple):
    status: int
    length: int | None
    chunked: bool
    keep: bool
    retry_after: str | None
    coding: str | None


class Reader:
    """Reads one reply from the bytes of a connection, however they are cut."""

    __slots__ = ("_body", "_buffer", "_head", "_interim", "_left")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._body = bytearray()
        self._left = -1  # bytes of the chunk in progress and its line end; -1 between chunks, -2 in the trailer
        self._interim = 0

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return bool(self._buffer) or self._head is not None or self._interim > 0

    def feed(self, data: bytes) -> Reply | None:
        """The reply, once it is whole. Raises `BrokenReply`."""
        self._buffer += data
        while self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if not b"HTTP/1.".startswith(self._buffer[:7]):
                raise BrokenReply("no HTTP")
            if end < 0 and len(self._buffer) <= MAX_HEAD:
                return None
            if end < 0 or end > MAX_HEAD:
                raise BrokenReply("a head without end")
            head = _head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            if 100 <= head.status < 200 and head.status != 101:
                self._interim += 1
                if self._interim > MAX_INTERIM:
                    raise BrokenReply("interim replies without end")
                if not self._buffer:
                    return None
            else:
                self._head = head
        return self._with_body(self._head)

    def end(self) -> Reply:
        """The reply when the other side has closed the connection: whole only where that is how it ends."""
        head = self._head
        if head is None or head.length is not None or head.chunked:
            raise BrokenReply("cut off")
        return Reply(head.status, bytes(self._buffer), head.retry_after, head.coding, reusable=False)

    def _with_body(self, head: _Head) -> Reply | None:
        buffer = self._buffer
        if head.status in (101, 204, 304):
            return Reply(
                head.status,
                b"",
                head.retry_after,
                head.coding,
                reusable=head.keep and head.status != 101 and not buffer,
            )
        if head.chunked:
            return self._with_chunks(head)
        if head.length is not None and head.length <= MAX_REPLY:
            if len(buffer) < head.length:
                return None
            return Reply(
                head.status,
                bytes(buffer[: head.length]),
                head.retry_after,
                head.coding,
                reusable=head.keep and len(buffer) == head.length,
            )
        return (
            Reply(head.status, bytes(buffer[: MAX_REPLY + 1]), head.retry_after, head.coding, reusable=False)
            if len(buffer) > MAX_REPLY
            else None
        )

    def _with_chunks(self, head: _Head) -> Reply | None:
        buffer = self._buffer
        while True:
            if self._left > 0:
                piece = buffer[: self._left]
                del buffer[: len(piece)]
                self._left -= len(piece)
                self._body += piece
                if len(self._body) > MAX_REPLY + 2:
                    return Reply(
                        head.status, bytes(self._body[: MAX_REPLY + 1]), head.retry_after, head.coding, reusable=False
                    )
                if self._left:
                    return None
                if self._body[-2:] != b"\r\n":
                    raise BrokenReply("a chunk longer than it says")
                del self._body[-2:]
                self._left = -1
            end = buffer.find(b"\r\n")
            if end < 0 or end > MAX_HEAD:
                if len(buffer) > MAX_HEAD:
                    raise BrokenReply("a line without end")
                return None
            line = bytes(buffer[:end])
            del buffer[: end + 2]
            if self._left == -2:
                if not line:
                    return Reply(
                        head.status, bytes(self._body), head.retry_after, head.coding, reusable=head.keep and not buffer
                    )
                trailer = _HEADER.fullmatch(line)
                if trailer is None or trailer[1].lower() in _FRAMES:
                    raise BrokenReply("an odd trailer")
                continue
            size = _CHUNK.fullmatch(line)
            if size is None:
                raise BrokenReply("a chunk without a length")
            self._left = int(size[1], 16) + 2 if int(size[1], 16) else -2


def _head(data: bytes) -> _Head:
    status, *lines = data.split(b"\r\n")
    first = _STATUS.fullmatch(status)
    if first is None:
        raise BrokenReply("an odd status line")
    length: bytes | None = None
    keep = first[1] == b"1"
    chunked = False
    retry_after = coding = None
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise BrokenReply("an odd header line")
        name, value = header[1].lower(), header[2].rstrip(b" \t")
        if name == b"content-length":
            if not value.isdigit() or len(value) > 15 or length not in (None, value):
                raise BrokenReply("an odd length")
            length = value
        elif name == b"transfer-encoding":
            if chunked or value.lower() != b"chunked":
                raise BrokenReply("an odd transfer coding")
            chunked = True
        elif name == b"connection":
            keep = keep and b"close" not in value.lower() and b"upgrade" not in value.lower()
        elif name == b"content-encoding":
            coding = value.decode("latin-1").lower()
        elif name == b"retry-after":
            retry_after = value.decode("latin-1")
    if chunked and length is not None:
        raise BrokenReply("a length beside a transfer coding")
    size = None if length is None else int(length)
    return _Head(int(first[2]), size, chunked, keep, retry_after, None if coding == "identity" else coding)
