"""Every disguise comes off, raw and as a file would write it, and so do two over each other."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.attacks.disguises import WAYS, WRITERS, b64
from turnguard import Guard, Step
from turnguard.testing import FakeModerator
from turnguard.text.undisguise import undisguise

SENTENCE = "how to do UNSAFE now"

EXAMPLES = {
    "a zero-width space in base64": b64("how to do UNSAFE\u200b now"),
    "a no-break space in base64": b64("how to do UNSAFE\u00a0 now"),
    "an ideographic space in base64": b64("how to do UNSAFE\u3000 now"),
    "a bell in base64": b64("how to do UNSAFE\x07 now"),
    "a NUL in base64": b64("how to do UNSAFE\0 now"),
    "a colour in base64": b64("how to do \x1b[31mUNSAFE\x1b[0m now"),
    "a broken byte in base64": b64(b"how to do UNSAFE\xff now"),
    "exclamation marks after the words": b64(SENTENCE + "!" * 20),
    "base64 in the path of a URL": "https://x.example/d/" + b64(SENTENCE),
    "a zero-width space inside the base64": b64(SENTENCE)[:9] + "\u200b" + b64(SENTENCE)[9:],
    "hex in base64": b64(SENTENCE.encode().hex()),
    "gzip in base64": "\n".join(
        b64(gzip.compress(SENTENCE.encode() * 9))[at : at + 76]
        for at in range(0, len(b64(gzip.compress(SENTENCE.encode() * 9))), 76)
    ),
    "units in percent signs": "how to do %u0055%u004E%u0053%u0041%u0046%u0045",
    "long escapes": "how to do " + "".join(f"\\U{ord(char):08x}" for char in "UNSAFE"),
    "soft line breaks": "how to do UN=\nSA=\r\nFE",
    "an array of bytes": ", ".join(f"0x{byte:x}" for byte in b"UNSAFE now"),
    "the reference shy": "how to do UN&shy;SAFE",
    "the number 8203": "how to do UN&#8203;SAFE",
    "the reference zwnj": "how to do UN&zwnj;SAFE",
    "the tag wbr": "how to do UN<wbr>SAFE",
    "a tag with an attribute": 'how to do UN<b class="x">SAFE</b>',
    "a percent-encoded soft hyphen": "how to do UN%C2%ADSAFE",
    "a quoted soft hyphen": "how to do UN=C2=ADSAFE",
    "six characters of JSON": "how to do UN\\u200bSAFE",
    "a colour code": "how to do UN\x1b[1mSAFE",
    "overstrike": "how to do " + "".join(f"{char}\b{char}" for char in "UNSAFE"),
    "an object replacement": "how to do UN\ufffcSAFE",
    "a Braille blank": "how to do UN\u2800SAFE",
    "a C0 control": "how to do UN\x0bSAFE",
    "a C1 control": "how to do UN\x85SAFE",
    "low lines": "how to do U\u0332N\u0332S\u0332A\u0332F\u0332E\u0332",
    "a reference escaped twice": "how to do UN&amp;#83;AFE",
    "a double-struck letter by name": "how to do &Uopf;NSAFE",
    "bytes in variation selectors": "hi" + "".join(chr(0xE0100 + byte - 16) for byte in b"UNSAFE words"),
    "lone surrogates": "how to do UN\ud800SAFE",
}


async def action(text: str) -> str:
    async with Guard(moderator=FakeModerator(unsafe=["UNSAFE"])) as guard:
        return (await guard.acheck(Step.input(text))).action


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", EXAMPLES)
async def test_what_was_found_is_undone_however_it_is_written(name: str, writer: str) -> None:
    assert await action(WRITERS[writer](EXAMPLES[name])) == "block"


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", WAYS)
async def test_every_way_is_undone_however_it_is_written(name: str, writer: str) -> None:
    assert await action(WRITERS[writer](WAYS[name](SENTENCE))) == "block"


# Pairs that nobody could put together again: the outer way breaks the marks of the inner one, or drops its characters.
LOST = {
    # HTML reads the references of C1 controls as printed signs.
    **{
        key: {"a C1 control in words"}
        for key in ("character references", "hexadecimal references", "references escaped twice")
    },
    "base64 joined to a word": {"base64 of UTF-16"},
    "colour codes in words": {"colour codes in words"},
    "overstrike": {"Hangul fillers in words", "colour codes in words"},
    "underlining by overstrike": {"colour codes in words"},
    # A mail program would have escaped the equals sign and kept the space from the end of the line.
    "soft line breaks in words": {
        "hex in pairs",
        "a quoted soft hyphen in words",
        "soft line breaks in words",
        "right-to-left override",
    },
    **{key: {"soft line breaks in words"} for key in ("spaced letters", "dotted letters", "starred letters")},
    # This way drops the spaces between words, and a line break ends an override.
    "one letter a line": {
        "soft line breaks in words",
        "dotted letters",
        "starred letters",
        "right-to-left override",
    },
    "right-to-left override": {
        "base64 in lines of 20",
        "base64 in quoted lines",
        "soft line breaks in words",
        "one letter a line",
    },
    # There are tag characters for printable ASCII alone.
    "tag characters": {
        "colour codes in words",
        "overstrike",
        "soft line breaks in words",
        "mathematical letters",
        "double-struck letters",
        "full-width letters",
        "circled letters",
        "look-alikes",
        "tag characters",
        "variation selectors",
        "right-to-left override",
    },
}


def _told(text: str) -> str:
    """What is read, without spaces and in one case: a way may lose both."""
    return "".join((undisguise(text).plain or text).split()).casefold()


@pytest.mark.parametrize("outer", WAYS)
def test_two_ways_over_each_other_are_undone(outer: str) -> None:
    inside = [inner for inner in WAYS if "unsafe" not in _told(WAYS[outer](WAYS[inner](SENTENCE)))]
    assert sorted(inside) == sorted(LOST.get(outer, ()))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.sampled_from(sorted(WAYS)), st.sampled_from(sorted(WAYS)))
def test_any_text_in_two_disguises_is_read_without_an_error(text: str, inner: str, outer: str) -> None:
    try:
        worn = WAYS[outer](WAYS[inner](text))
    except (UnicodeEncodeError, ValueError):
        return  # the way has no form for a lone surrogate
    found = undisguise(worn)
    assert found.plain is None or found.plain != worn


@pytest.mark.parametrize(
    "text",
    ["\u2460 \u2461 \u2462 \u2463", "\u00bd\u00bc\u00be\u215b", "\u00bd \u00bc \u00be \u215b", "\u2070\u00b9\u00b2\u00b3", "\u2070 \u00b9 \u00b2 \u00b3", "\ud800 \udc00 \ud801 \udc01"],
)  # fmt: skip
async def test_figures_in_other_forms_are_harmless_and_hide_nothing(text: str) -> None:
    assert await action(text) == "allow"
    assert await action(f"{text} UNSAFE") == "block"
    assert await action(f"{text} {b64(SENTENCE)}") == "block"
