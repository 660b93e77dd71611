"""Every place of a file that can hold words or a picture: what stands there is judged, or listed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.media.planted import markup, office, pdf
from tests.media.planted.marks import Planted, judged

pytest.importorskip("pypdfium2")
pytest.importorskip("pypdf")

Make = Callable[[], Planted | bytes]
FORMS: dict[str, dict[str, Make]] = {
    "PDF": pdf.WORDS_IN,
    "PDF with a picture": pdf.PICTURE_IN,
    "docx": office.DOCX,
    "xlsx": office.XLSX,
    "pptx": office.PPTX,
    "HTML": markup.HTML,
    "e-mail": markup.MAIL,
}
PLACES = [
    pytest.param(form, make, id=f"{form}: {place}") for form, places in FORMS.items() for place, make in places.items()
]
IN_PICTURES = [case for case in PLACES if "picture" in str(case.id)]
IN_WORDS = [case for case in PLACES if case not in IN_PICTURES]


def planted(made: Planted | bytes) -> Planted:
    return Planted(made) if isinstance(made, bytes) else made


@pytest.mark.parametrize(("form", "make"), IN_WORDS)
def test_words_are_judged_wherever_they_stand(form: str, make: Make) -> None:
    seen = judged(planted(make()))
    assert seen.said, seen.listed
    assert seen.decision.action == "block"


@pytest.mark.parametrize(("form", "make"), IN_PICTURES)
def test_pictures_are_shown_wherever_they_stand(form: str, make: Make) -> None:
    seen = judged(planted(make()))
    assert seen.shown, seen.listed


def test_there_are_enough_places() -> None:
    assert len(pdf.WORDS_IN) + len(pdf.PICTURE_IN) >= 40
    assert min(map(len, (office.DOCX, office.XLSX, office.PPTX, markup.MAIL))) >= 15
    assert len(markup.HTML) >= 20


@pytest.mark.parametrize("file", [*pdf.plain(), *office.plain(), *markup.plain()])
def test_ordinary_files_pass_and_nothing_of_them_is_listed(file: Planted) -> None:
    seen = judged(file)
    assert seen.listed == []
    assert seen.decision.action == "allow"
