"""E-mail: every header, every body and every attachment, those of the messages inside too."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.errors import InvalidHeaderDefect, MessageError
from email.header import decode_header, make_header
from email.message import Message
from typing import Any

from turnguard.media.documents.found import Found, joined
from turnguard.media.readings import As

_WORDLESS = re.compile(
    r"(?:x-.*-)?(?:dkim-signature|domainkey-signature|arc-seal|arc-message-signature)", re.IGNORECASE
)
"""Headers that are signatures: base64 of digests."""


def read_mail(found: Found, data: bytes, where: str, depth: int) -> None:
    """Collect what a message holds. The parser keeps whatever it does not understand, as a body or around the parts."""
    headers: list[str] = []
    source_judged = False
    for number, part in enumerate(message_from_bytes(data).walk()):
        found.limits.check()
        inside = joined(where, f"part {number}" if number else "")
        headers += _headers(part)
        if not source_judged and any(isinstance(defect, InvalidHeaderDefect) for defect in part.defects):
            source_judged = True  # the parser drops a header line without a name, which a reader may show
            found.file(data, joined(where, "source"), As.of("text/plain", None), depth + 1)
        for aside in (part.preamble, part.epilogue):
            if aside and aside.strip():
                found.file(_bytes(aside), joined(inside, "between its parts"), As(), depth + 1)
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            body = content if isinstance(content, bytes) else _bytes(str(part.get_payload()))
            declared = f"{part.get_content_type()}; charset={part.get_content_charset() or ''}"
            said = As.of(declared if "content-type" in part else None, _decoded(part.get_filename() or ""))
            found.file(body, joined(inside, "body"), said, depth + 1)
    found.text(joined(where, "headers"), "\n".join(dict.fromkeys(headers)))


def _headers(part: Message[Any, Any]) -> list[str]:
    """The headers, the envelope's line before them, and the lines among them that the parser drops."""
    found = [f"{name}: {_decoded(str(value))}" for name, value in part.items() if not _WORDLESS.fullmatch(name)]
    dropped = (getattr(defect, "line", None) for defect in part.defects if not isinstance(defect, InvalidHeaderDefect))
    aside = (part.get_unixfrom(), *dropped)
    return found + [line.strip() for line in aside if line]


def _decoded(value: str) -> str:
    try:
        return str(make_header(decode_header(value)))
    except (LookupError, ValueError, MessageError):  # an encoding that does not exist: as it stands
        return value


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") if text.isascii() else text.encode("latin-1", "replace")
