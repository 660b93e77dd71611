"""The words of XML: every text and every attribute, minus what is known to be wordless. Expat only streams: no tree."""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.parsers import expat

_WORDLESS = re.compile(
    r"[\W\d_]*"  # numbers and punctuation
    r"|https?://(?:schemas\.(?:openxmlformats|microsoft)\.(?:org|com)|purl\.o(?:rg|clc\.org)|www\.w3\.org|ns\.adobe\.com)"
    r"/[\w./:#-]*"  # namespaces
    r"|urn:schemas-microsoft-com:[\w:]*"
    r"|(?:rId|_x0000_[a-z]|Id)\d+|[0-9A-Fa-f]{6,}|#[0-9A-Fa-f]{3,8}|-?[\d.]+(?:pt|px|cm|mm|in|em|%|pc)"
    r"|\{?[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}?|\d{4}-\d\d-\d\d(?:T[\d:.]+(?:Z|[-+][\d:]+)?)?"
    r"|true|false|on|off|none|auto|[a-z]{2,3}-[A-Z]{2,4}|[a-zA-Z]{1,2}|\$?[A-Z]{1,3}\$?\d+(?::\$?[A-Z]{1,3}\$?\d+)?"
)
_RUNS = frozenset(("t", "delText", "instrText"))
"""Elements of Office whose texts make words together: a word may be cut anywhere into runs."""
_BREAKS = frozenset(("p", "tab", "br", "cr", "si", "tc", "comment"))
"""Elements of Office that end a run of them."""


class Xml(NamedTuple):
    """What an XML file says."""

    texts: list[str]
    attributes: list[str]


def is_wordless(text: str) -> bool:
    """Whether it is a number, a colour, a date, an identifier of Office's own, or a switch."""
    return _WORDLESS.fullmatch(text.strip()) is not None


def read_xml(data: bytes) -> Xml | None:
    """The texts and attributes of XML in their order, comments and instructions too.

    None where it is not well-formed, or declares entities: readers differ in what they make of those.
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.CommentHandler = reader.aside
    parser.ProcessingInstructionHandler = lambda target, text: reader.aside(f"{target} {text}")
    parser.EntityDeclHandler = reader.entity
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, _EntityDeclared, ValueError, LookupError):
        return None
    reader.flush()
    return Xml(reader.texts, list(reader.attributes))


class _EntityDeclared(Exception):
    pass


class _Reader:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.attributes: dict[str, None] = {}
        self._run: list[str] = []
        self._open: list[bool] = [False]
        """For each open element, whether it holds text of its own."""
        self._name = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._name = name.rpartition(":")[2]
        self._open.append(False)
        for value in attributes.values():
            if not is_wordless(value):
                self.attributes[value] = None

    def end(self, name: str) -> None:
        local = name.rpartition(":")[2]
        if local in _BREAKS or (self._open[-1] and local not in _RUNS):
            self.flush()
        self._open.pop()
        self._name = ""

    def text(self, text: str) -> None:
        if self._name in _RUNS:
            self._run.append(text)
        elif text.strip():
            self._run.append(text)
            self._open[-1] = True

    def aside(self, text: str) -> None:
        if not is_wordless(text):
            self.texts.append(text)

    def entity(self, *_: object) -> None:
        raise _EntityDeclared

    def flush(self) -> None:
        text = "".join(self._run).strip()
        self._run.clear()
        if text and not is_wordless(text):
            self.texts.append(text)
