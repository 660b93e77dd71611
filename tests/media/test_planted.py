"""Every place of a file that can hold words or a picture: what stands there is judged, or listed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.media.planted import pdf
from tests.media.planted.marks import Planted, judged

pytest.importorskip("pypdfium2")
pytest.importorskip("pypdf")

Make = Callable[[], Planted | bytes]
WORDS_IN: list[tuple[str, str, Make]] = [
    (form, place, make) for form, places in (("PDF", pdf.WORDS_IN),) for place, make in places.items()
]
PICTURE_IN: list[tuple[str, str, Make]] = [
    (form, place, make) for form, places in (("PDF", pdf.PICTURE_IN),) for place, make in places.items()
]


def planted(made: Planted | bytes) -> Planted:
    return Planted(made) if isinstance(made, bytes) else made


@pytest.mark.parametrize(("form", "place", "make"), WORDS_IN, ids=lambda value: value if isinstance(value, str) else "")
def test_words_are_judged_wherever_they_stand(form: str, place: str, make: Make) -> None:
    seen = judged(planted(make()))
    assert seen.said, seen.listed
    assert seen.decision.action == "block"


@pytest.mark.parametrize(
    ("form", "place", "make"), PICTURE_IN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_pictures_are_shown_wherever_they_stand(form: str, place: str, make: Make) -> None:
    seen = judged(planted(make()))
    assert seen.shown, seen.listed


def test_there_are_enough_places() -> None:
    assert len(pdf.WORDS_IN) + len(pdf.PICTURE_IN) >= 40


@pytest.mark.parametrize("file", pdf.plain())
def test_ordinary_files_pass_and_nothing_of_them_is_listed(file: Planted) -> None:
    seen = judged(file)
    assert seen.listed == []
    assert seen.decision.action == "allow"
