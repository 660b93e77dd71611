"""Words taken apart by markup, by spaces between their letters, or over two parts of a message."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from turnguard.text.undisguise.glance import Glance
from turnguard.text.undisguise.reading import Reading, around

_ATTRIBUTES = r"(?:\s[^<>&|;(){}]{0,300}|\s[\w:-]{1,30}\s*=[^<>]{0,600})?"
_INSIDE = rf"(?:/?[A-Za-z][A-Za-z0-9:-]{{0,30}}{_ATTRIBUTES}/?>|!--[^<>]{{0,600}}-->)"
_CUT = re.compile(rf"<(?<=\w<)(?<!\(\?P<){_INSIDE}(?:<{_INSIDE})*+(?=\w)")
# These end a word on the page; every other element, known or not, stands inside a line.
_BLOCK = re.compile(
    "address|article|aside|blockquote|body|br|button|caption|col|colgroup|dd|details|dialog|div|dl|dt|fieldset"
    "|figcaption|figure|footer|form|frame|h[1-6]|head|header|hgroup|hr|html|iframe|input|legend|li|link|main|menu|meta"
    "|nav|noscript|object|ol|optgroup|option|p|param|pre|script|section|select|source|style|summary|svg|table|tbody|td"
    "|template|textarea|tfoot|th|thead|title|tr|track|ul|video"
)
_INLINE = (
    "(?:a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|q|s|samp|small|span|strike"
    "|strong|sub|sup|time|tt|u|var|wbr)"
)
_IS_INLINE = re.compile(_INLINE)
_BARE = re.compile(rf"</?{_INLINE}\s?/?>|<!--[^<>]{{0,40}}-->")
_ONE_TAG = re.compile(r"<[/!]?-*([A-Za-z0-9:-]*)[^<>]*>")
# Single letters with a sign or two between them, the same or of the usual kinds; and single characters between spaces.
_GAP = r"(?:[ .,_*|/\\~+\u00b7\u2022-]{1,3}|\s)"
_SPACED = re.compile(
    rf"(?<![^\W_])[^\W_](?:{_GAP}[^\W_](?![^\W_])){{3,}}|(?<![^\W_])[^\W_]([\W_]{{1,3}}?)[^\W_](?:\1[^\W_](?![^\W_])){{2,}}"
)
_STRUNG = re.compile(r"(?<!\S)\S([^\w\s%\\&=])\S(?:\1\S){2,}(?!\S)")
_NOTHING = re.compile(r"[^A-Za-z\\%&=\x80-\U0010ffff]*")
_SINGLES = re.compile(r"(?<!\S)\S(?:\s{1,16}\S(?!\S)){5,}")
_LIGHT = frozenset(" \t\n.-*_\u00b7\u2022")
_GAPS = re.compile(r"[^\W_]")
_WORDS = re.compile(r"\w+")
_NEAR = 1
"""Words on each side of one that was taken apart which are read with it."""
_FEW = 4
"""Words that markup took apart are few where they and their neighbours are not most of the text's, and one part in so
many of its length: a window has that much to spare.
"""
_SEAM = 500
"""Characters on each side of a seam that are read with it."""


def join(reading: Reading, seen: Glance) -> None:
    """Put words together that markup or spaces took apart."""
    text = reading.text
    if seen.markup:
        text = _BARE.sub("", _CUT.sub(lambda match: _without_tags(match, reading), text))
    if seen.spaced:
        text = _STRUNG.sub(lambda match: _unstrung(match, reading), text)
        text = _SINGLES.sub(lambda match: _tight(match, reading), text)
        text = _SPACED.sub(lambda match: _spaced(match, reading), text)
    reading.text = text


def _without_tags(match: re.Match[str], reading: Reading) -> str:
    tags = list(_ONE_TAG.finditer(match[0]))
    names = [tag[1].lower() for tag in tags]
    if any(map(_BLOCK.fullmatch, names)):
        return match[0]
    if match[0].startswith("</") and len(tags) > 1 and not all(map(_IS_INLINE.fullmatch, names)):
        return match[0]  # the end of one field of XML and the beginning of the next
    before, after = around(match)
    end = match.string[match.end() : match.end() + 2]
    plural = len(tags) == 1 and match[0].startswith("</") and end[:1] == "s" and not end[1:].isalnum()
    reading.cut |= before.isalpha() and after.isalpha() and not plural
    reading.aside.extend(tag[0].strip("</>!-") for tag in tags if len(tag[0]) > len(tag[1]) + 4)
    return ""


def new_words(before: str, after: str) -> str | None:
    """The words that `after` says more often than `before`, each between its neighbours; None where they are many."""
    words = _WORDS.findall(after)
    more = Counter(words) - Counter(_WORDS.findall(before))
    new = [at for at, word in enumerate(words) if word in more]
    shown = sorted({near for at in new for near in range(max(0, at - _NEAR), min(len(words), at + _NEAR + 1))})
    said = " ".join(words[at] for at in shown)
    return said if len(shown) * 2 <= len(words) and len(said) * _FEW <= len(before) else None


def _tight(match: re.Match[str], reading: Reading) -> str:
    """Join single characters that are separated by spaces. A wider gap becomes one space, as between words."""
    gaps = re.findall(r"\s+", match[0])
    narrow = min(map(len, gaps))
    if _NOTHING.fullmatch(match[0]):
        return match[0]
    joined = re.sub(r"\s+", lambda gap: "" if len(gap[0]) == narrow else " ", match[0])
    reading.told |= any(map(_is_word, re.findall(r"[^\W\d_]{4,}", joined)))
    return joined


def _unstrung(match: re.Match[str], reading: Reading) -> str:
    """Join single characters that are all separated by the same sign, as in `b-o-m-b`."""
    joined: str = match[0][::2]
    if _NOTHING.fullmatch(joined):
        return match[0]
    reading.told |= any(map(_is_word, re.findall(r"[^\W\d_]{4,}", joined)))
    return joined


def _spaced(match: re.Match[str], reading: Reading) -> str:
    """Join single letters into words: the narrowest gap is inside a word, a wider one separates two words."""
    letters: list[str] = _GAPS.findall(match[0])
    if not any(map(str.isalpha, letters)):
        return match[0]
    gaps = _GAPS.split(match[0])[1:-1]
    narrow = min(map(len, gaps))
    joined = letters[0] + "".join(
        ("" if len(gap) == narrow else " ") + letter for gap, letter in zip(gaps, letters[1:], strict=True)
    )
    words = joined.split()
    if max(map(len, words)) < 4:  # U.S.A., e.g.
        return match[0]
    # variables and options are listed with other signs between them, and are fewer
    fewest = 4 if narrow == 1 and set("".join(gaps)) <= _LIGHT else 5
    reading.told |= any(_is_word(word, fewest) for word in words)
    return joined


def _is_word(letters: str, fewest: int = 4) -> bool:
    """Whether joined letters may be a word: most are letters, and they do not go through the alphabet in order."""
    alphabetic = [ord(char) for char in letters.lower() if char.isalpha()]
    if len(alphabetic) < fewest or len(alphabetic) * 2 < len(letters):
        return False
    steps = {b - a for a, b in itertools.pairwise(alphabetic)}
    return steps not in ({1}, {0})


def across_seams(texts: Sequence[str]) -> str | None:
    """Read texts as if there were no break where a letter or figure stands on both sides of one.

    Returns the surroundings of each such seam, one a line; None where there is none.
    """
    lines = list(_joined(texts))
    return "\n".join(lines) if lines else None


def _joined(texts: Sequence[str]) -> Iterator[str]:
    line: list[str] = []
    for before, after in itertools.pairwise(texts):
        if before[-1:].isalnum() and after[:1].isalnum():
            line = line or [before[-_SEAM:]]
            line.append(after if len(after) < _SEAM else after[:_SEAM])
            if len(after) < _SEAM:
                continue
        if line:
            yield "".join(line)
            line = []
    if line:
        yield "".join(line)
