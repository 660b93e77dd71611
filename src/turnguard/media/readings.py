"""What a reader could take a file for: by its bytes, by the type that was declared for it and by its name.

Each reading is judged. Pure; one pass over the bytes, and cheap for pictures and plain text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from turnguard.media import sniff

Reading = Literal["image", "pdf", "text", "html", "mail", "zip", "svg", "unread"]

_BY_TYPE: dict[str, Reading] = {
    "application/pdf": "pdf",
    "application/x-pdf": "pdf",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "message/rfc822": "mail",
    "application/zip": "zip",
    "application/x-zip-compressed": "zip",
}
_BY_SUFFIX: dict[str, Reading] = {
    "pdf": "pdf",
    "htm": "html",
    "html": "html",
    "xhtml": "html",
    "eml": "mail",
    "mht": "mail",
    "mhtml": "mail",
    "zip": "zip",
    "docx": "zip",
    "xlsx": "zip",
    "pptx": "zip",
}
_WORD = re.compile(r"\S+")
_TEXT_SUFFIXES = frozenset(
    _WORD.findall(
        """
        txt md markdown rst csv tsv json jsonl yaml yml xml log ini toml srt vtt tex
        """
    )
)
_PDF_OBJECT = re.compile(rb"\d\s+\d+\s+obj\b")
_HTML = re.compile(
    rb"<(?:!doctype\s+html|html|head|body|title|meta|div|p|span|a|table|ul|ol|h[1-6]|script|style|br)[\s/>]",
    re.IGNORECASE,
)
_HEADER = re.compile(rb"[A-Za-z][A-Za-z0-9-]{1,60}:[^\r\n]*\r?\n")
_MAIL = re.compile(
    rb"(?:^|\n)(?:from|to|subject|date|received|return-path|message-id|mime-version|content-type):", re.IGNORECASE
)
_LOOKED_AT = 8192
_ZIP_TAIL = 65_557  # the end record and its longest comment


@dataclass(frozen=True, slots=True)
class As:
    """What was said about a file: nothing of it is trusted, and each of it adds a reading."""

    media_type: str = ""
    """Lower case, without parameters."""
    charset: str = ""
    name: str = field(default="", repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, media_type: str | None, name: str | None = None, password: str | None = None) -> As:
        """Take a declared type apart: `text/plain; charset=utf-8`."""
        declared, _, parameters = (media_type or "").partition(";")
        found = re.search(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", parameters, re.IGNORECASE)
        return cls(declared.strip().lower(), found[1].lower() if found else "", name or "", password)

    @property
    def suffix(self) -> str:
        """The name's ending, lower case, without its dot."""
        return PurePosixPath(self.name.replace("\\", "/")).suffix[1:].lower()


def readings(data: bytes, said: As) -> tuple[Reading, ...]:
    """Every plausible reading of `data`, the one by its bytes first. `unread` is a format that nothing here reads."""
    kind = sniff.what(data)
    found: list[Reading] = []
    if kind in ("image", "pdf", "text", "svg"):
        found.append(kind)
    head = data[:_LOOKED_AT]
    if kind == "text" and _is_mail(head):
        found.append("mail")
    if kind == "text" and _HTML.search(head):
        found.append("html")
    if kind != "pdf" and b"%" in data and b"%PDF-" in data and _PDF_OBJECT.search(data, data.index(b"%PDF-")):
        found.append("pdf")
    if is_zip(data):
        found.append("zip")
    for more in (_BY_TYPE.get(said.media_type), _BY_SUFFIX.get(said.suffix)):
        if more is not None and not (more in ("html", "mail") and kind in ("image", "other")):
            found.append(more)
    if "mail" in found and "text" in found:
        found.remove("text")  # a mail is read with all its lines, but for the attachments: those are read as files
    if said.media_type.startswith("text/") or said.suffix in _TEXT_SUFFIXES or "html" in found:
        found.append("text")
    if not found:
        return ("unread",)
    return tuple(dict.fromkeys(found))


def is_zip(data: bytes) -> bool:
    """Whether some reader of ZIP files finds one, at the start or behind something else."""
    end = data.rfind(b"PK\5\6", max(0, len(data) - _ZIP_TAIL))
    return data.startswith(b"PK\3\4") or (end >= 0 and data.find(b"PK\1\2") >= 0)


def _is_mail(head: bytes) -> bool:
    """Whether it begins with two header lines or more, one of them a usual one."""
    if not (first := _HEADER.match(head)):
        return False
    at, lines = first.end(), 1
    while at < len(head) and (head[at : at + 1] in b" \t" or _HEADER.match(head, at)):
        if head[at : at + 1] not in b" \t":
            lines += 1
        at = head.find(b"\n", at) + 1 or len(head)
    return lines >= 2 and _MAIL.search(head[:at]) is not None
