"""Ordinary PDFs of many pages pass with the default settings: every page is judged, and nothing blocks."""

from __future__ import annotations

import zlib

import pytest

from tests.media.drawing import noise
from tests.media.pdfs import document, pdf, stream, words
from tests.media.planted.marks import Planted, judged

pytest.importorskip("pypdfium2")


def lines(page: int) -> str:
    return "".join(
        words(f"line {line} of page {page}, as ordinary as any other", y=760 - 14 * line) for line in range(50)
    )


@pytest.mark.parametrize("count", [5, 17, 30])
@pytest.mark.parametrize("turned", [False, True])
def test_pages_of_text_are_judged_whole(count: int, turned: bool) -> None:
    extra = dict.fromkeys(range(count), "/Rotate 90") if turned else None
    seen = judged(Planted(pdf(*map(lines, range(count)), extra=extra)))
    assert seen.listed == []
    assert seen.decision.action == "allow"


@pytest.mark.parametrize("count", [6, 14])
def test_scanned_pages_are_judged_whole(count: int) -> None:
    """Each page is one picture, turned as scanners do, none of it like another."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    kids = []
    grain = noise((310, 440)).tobytes()
    for page in range(count):
        size = b"/Width 310 /Height 440 /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /FlateDecode"
        shifted = grain[page * 3 :] + grain[: page * 3]
        objects.append(stream(zlib.compress(shifted, 1), b"/Type /XObject /Subtype /Image " + size))
        objects.append(stream(b"q 595 0 0 842 0 0 cm /Im Do Q"))
        entries = b"/Resources << /XObject << /Im %d 0 R >> >> /Contents %d 0 R" % (len(objects) - 1, len(objects))
        objects.append(b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Rotate 180 %s >>" % entries)
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (count, b" ".join(kids))
    seen = judged(Planted(document(*objects)))
    assert seen.listed == []
    assert seen.decision.allowed  # a coarser view of many pages is flagged


def test_turned_pages_of_text_cost_no_more_than_straight_ones() -> None:
    from turnguard.config.settings import MediaSettings
    from turnguard.media.read import read

    straight = read(pdf(lines(1)), MediaSettings(), 64, lambda: False)
    turned = read(pdf(lines(1), extra={0: "/Rotate 90"}), MediaSettings(), 64, lambda: False)
    assert len(turned.views) == len(straight.views) == 1
