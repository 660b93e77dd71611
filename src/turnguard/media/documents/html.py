"""HTML: the text that a person would see. Its source is judged beside it, as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from turnguard.media.documents.encodings import decodings
from turnguard.media.documents.found import Found, joined
from turnguard.media.readings import As

_WORD = re.compile(r"\S+")
_BLOCKS = frozenset(
    _WORD.findall(
        """
        address article aside blockquote body br button caption dd details dialog div dl dt fieldset figcaption figure
        footer form h1 h2 h3 h4 h5 h6 head header hr html iframe legend li main meta nav ol optgroup option p pre
        section select summary table tbody td template textarea tfoot th thead title tr ul video
        """
    )
)
_UNSEEN = frozenset(("script", "style", "template", "noscript"))
_VOID = frozenset(
    _WORD.findall(
        """
        area base br col embed hr img input link meta source track wbr
        """
    )
)
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|font-size\s*:\s*0(?!\.?\d*[1-9])|opacity\s*:\s*0(?![.\d])",
    re.IGNORECASE,
)


def read_html(found: Found, data: bytes, where: str, said: As) -> None:
    """Lines that the source does not say as a browser shows them. Styles that name a class are not followed."""
    for source in decodings(data, said.charset)[0]:
        shown = [line for line in visible(source) if line not in source]
        found.text(joined(where, "as shown"), "\n".join(shown))


def visible(source: str) -> list[str]:
    """The lines that are shown in which markup or something hidden stands inside a word, with a browser's spaces."""
    reader = _Reader()
    reader.feed(source)
    reader.close()
    reader.line()
    return reader.lines


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = []
        self._run: list[str] = []
        self._cut = False
        self._hidden: list[str] = []
        """Open elements from the outermost that is hidden."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BLOCKS:
            self.line()
        given = dict(attrs)
        hidden = tag in _UNSEEN or "hidden" in given or bool(_HIDDEN.search(given.get("style") or ""))
        if tag not in _VOID and (self._hidden or hidden):
            self._hidden.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            while self._hidden.pop() != tag:
                pass
        if tag in _BLOCKS:
            self.line()

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        if self._run and self._run[-1][-1:].isalnum() and data[:1].isalnum():
            self._cut = True
        self._run.append(data)

    def line(self) -> None:
        """End a line where a block begins or ends."""
        line = " ".join("".join(self._run).split())
        if line and self._cut:
            self.lines.append(line)
        self._run, self._cut = [], False
