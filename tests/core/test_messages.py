"""The built-in messages are complete and readable, and the choice among them and the user's own follows its order."""

import json
import unicodedata
from collections.abc import Mapping
from importlib import resources
from typing import Final

import pytest

from turnguard.core.taxonomy import CATEGORIES
from turnguard.text import messages
from turnguard.text.language import guess
from turnguard.text.messages import KINDS, LANGUAGES, MessageKind, builtin, message_for

SCRIPTS: Final = {
    "ar": ("ARABIC",),
    "hi": ("DEVANAGARI",),
    "ja": ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "CJK", "IDEOGRAPHIC"),
    "th": ("THAI",),
    "ko": ("HANGUL",),
    "zh": ("CJK",),
    "ru": ("CYRILLIC",),
    "bn": ("BENGALI",),
}
# The languages whose sentences end without a Latin full stop.
ENDINGS: Final = {"hi": "।?]", "bn": "।?]", "ja": "。］", "zh": "。？］", "ar": ".؟]"}


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_has_every_key_and_no_other(code: str) -> None:
    assert tuple(builtin(code)) == (*KINDS, *CATEGORIES)


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_message_is_blank_repeated_or_long(code: str) -> None:
    texts = builtin(code)
    assert len(set(texts.values())) == len(texts)
    for key, text in texts.items():
        assert text == text.strip() == unicodedata.normalize("NFC", text), key
        assert 5 <= len(text) <= 260, key
        assert "\n" not in text, key


@pytest.mark.parametrize("code", LANGUAGES)
def test_messages_are_written_in_the_script_of_their_language(code: str) -> None:
    allowed = SCRIPTS.get(code, ("LATIN",))
    for key, text in builtin(code).items():
        said = text.replace("{cut}", "").replace("{total}", "")
        names = {unicodedata.name(letter).split()[0] for letter in said if letter.isalpha()}
        assert names <= set(allowed), key


@pytest.mark.parametrize("code", LANGUAGES)
def test_messages_are_written_in_their_language(code: str) -> None:
    # The independent witness: the guess knows nothing about these files.
    wrong = {key: got for key, text in builtin(code).items() if (got := guess(text, code)) != code}
    assert wrong == {}
    assert guess(" ".join(builtin(code).values()), "unsure") == code


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_message_names_a_number_an_address_or_a_placeholder(code: str) -> None:
    # An invented crisis line would be worse than none, and nothing of the content may be quoted.
    for key, text in builtin(code).items():
        assert not any(letter.isdigit() for letter in text), key
        if key == "cut":
            text = text.replace("{cut}", "", 1).replace("{total}", "", 1)
        assert not any(mark in text for mark in ("{", "}", "%", "http", "@", "…", "TODO", '"', "“", "„", "«")), key


@pytest.mark.parametrize("code", sorted(set(LANGUAGES) - {"th"}))  # Thai sentences end in a space
def test_messages_are_one_or_two_whole_sentences(code: str) -> None:
    endings = ENDINGS.get(code, ".?]")
    for key, text in builtin(code).items():
        assert text[-1] in endings, key
        assert 1 <= sum(text.count(mark) for mark in endings) <= 2, key


@pytest.mark.parametrize(
    ("code", "alone", "emergency", "trust"),
    [
        ("en", "you are not alone", "emergency number", "someone you trust"),
        ("ar", "لست وحدك", "الطوارئ", "موثوق"),
        ("de", "Sie sind nicht allein", "Notruf", "vertrauen"),
        ("es", "en soledad", "emergencias", "de confianza"),
        ("fr", "pas seul", "urgence", "confiance"),
        ("hi", "अकेले नहीं", "आपातकालीन", "भरोसेमंद"),
        ("ja", "ひとりではありません", "緊急", "信頼"),
        ("th", "ไม่ได้อยู่คนเดียว", "ฉุกเฉิน", "ไว้ใจ"),
        ("nl", "niet alleen", "noodnummer", "vertrouwt"),
        ("it", "in solitudine", "emergenza", "si fida"),
        ("ko", "혼자가 아니며", "긴급", "믿을 수 있는"),
        ("zh", "不孤单", "紧急电话", "信任"),
        ("pt", "não está só", "emergência", "de confiança"),
        ("sv", "inte ensam", "nödnumret", "litar på"),
        ("ru", "вы не одни", "экстренной", "доверяете"),
        ("cs", "nejste na to sami", "tísňovou", "důvěřujete"),
        ("pl", "w samotności", "alarmowy", "ufasz"),
        ("bn", "একা নন", "জরুরি", "বিশ্বাস"),
    ],
)
def test_self_harm_is_answered_with_help(code: str, alone: str, emergency: str, trust: str) -> None:
    text = builtin(code)["Suicide and Self Harm"]
    assert alone in text
    assert emergency in text
    assert trust in text


def test_the_files_are_exactly_the_languages() -> None:
    names = {entry.name for entry in resources.files(messages).iterdir() if entry.name.endswith(".json")}
    assert names == {f"{code}.json" for code in LANGUAGES}


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_key_stands_twice_in_a_file(code: str) -> None:
    file = resources.files(messages).joinpath(f"{code}.json")
    pairs = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=list)
    assert len(pairs) == len(dict(pairs)) == len(KINDS) + len(CATEGORIES)


def test_builtin_cuts_the_region_reads_once_and_cannot_be_changed() -> None:
    assert builtin("de-AT") is builtin("DE") is builtin("de_CH")
    with pytest.raises(TypeError):
        builtin("de")["default"] = "x"  # type: ignore[index]


@pytest.mark.parametrize("code", ["", "sw", "../en", "en.json"])
def test_builtin_names_the_languages_there_are(code: str) -> None:
    with pytest.raises(KeyError, match="there are en, ar"):
        builtin(code)


SELF_HARM: Final = "Suicide and Self Harm"
EVERYTHING: Final = {
    "Violence": {"de": "1 own Violence de", "en": "2 own Violence en"},
    "Threat": {"de": "3 own Threat de", "en": "4 own Threat en"},
    "default": {"de": "5 own default de", "en": "6 own default en"},
    "failure": {"de": "7 own failure de", "en": "8 own failure en"},
    "uncheckable": {"de": "9 own uncheckable de"},
    "removed": {"de": "10 own removed de"},
}


def without(*paths: str) -> dict[str, dict[str, str]]:
    """`EVERYTHING` without the texts named, as in ``"Violence.de"``."""
    return {
        key: {code: text for code, text in texts.items() if f"{key}.{code}" not in paths}
        for key, texts in EVERYTHING.items()
    }


OWN_CATEGORIES: Final = ("Violence.de", "Violence.en", "Threat.de", "Threat.en")


@pytest.mark.parametrize(
    ("overrides", "language", "expected"),
    [
        pytest.param(EVERYTHING, "de", "1 own Violence de", id="own category in their language"),
        pytest.param(without("Violence.de"), "de", "2 own Violence en", id="own category in English"),
        pytest.param(without("Violence.de", "Violence.en"), "de", "3 own Threat de", id="own next category"),
        pytest.param(without(*OWN_CATEGORIES[:3]), "de", "4 own Threat en", id="own next category in English"),
        pytest.param(without(*OWN_CATEGORIES), "de", "5 own default de", id="own default in their language"),
        pytest.param(
            without(*OWN_CATEGORIES, "default.de"),
            "de",
            builtin("de")["Violence"],
            id="built-in before English default",
        ),
        pytest.param(without(*OWN_CATEGORIES), "fr", builtin("fr")["Violence"], id="built-in of a third language"),
        pytest.param(without(*OWN_CATEGORIES), "sw", "6 own default en", id="own English default for no built-in"),
        pytest.param({}, "sw", builtin("en")["Violence"], id="built-in English at last"),
        pytest.param({}, "de-AT", builtin("de")["Violence"], id="region cut"),
        pytest.param({"Violence": {"de-AT": "AT", "de": "DE"}}, "de_at", "AT", id="own text for the whole tag"),
        pytest.param({"Violence": {"de-AT": " ", "de": "DE"}}, "de-AT", "DE", id="blank text for the whole tag"),
        pytest.param({"Violence": {"de-AT": "AT", "de": "DE"}}, "de-CH", "DE", id="own text for another region"),
        pytest.param({"Violence": {"de": "", "en": " \n"}}, "de", builtin("de")["Violence"], id="blank is absent"),
        pytest.param({"default": {"en": "No."}}, "en", "No.", id="own default in English for English"),
        pytest.param({"default": {"en": "No."}}, "", "No.", id="no language is English's turn"),
    ],
)
def test_order_for_a_verdict(overrides: Mapping[str, Mapping[str, str]], language: str, expected: str) -> None:
    got = message_for(categories=["Violence", "Threat"], kind="verdict", language=language, overrides=overrides)
    assert got == expected


@pytest.mark.parametrize("categories", [(), ("A category of tomorrow",)])
def test_no_known_category_takes_the_default(categories: tuple[str, ...]) -> None:
    def choose(language: str, overrides: Mapping[str, Mapping[str, str]]) -> str:
        return message_for(categories=categories, kind="verdict", language=language, overrides=overrides)

    assert choose("de", EVERYTHING) == "5 own default de"
    assert choose("de", {}) == builtin("de")["default"]
    assert choose("de", {"default": {"en": "No."}}) == builtin("de")["default"]
    assert choose("sw", {"default": {"en": "No."}}) == "No."
    assert choose("sw", {}) == builtin("en")["default"]


def test_an_unknown_category_gives_way_to_a_known_one() -> None:
    got = message_for(categories=["New", SELF_HARM], kind="verdict", language="fr", overrides={})
    assert got == builtin("fr")[SELF_HARM]


@pytest.mark.parametrize(
    ("kind", "overrides", "language", "expected"),
    [
        ("failure", EVERYTHING, "de", "7 own failure de"),
        ("failure", without("failure.de"), "de", "8 own failure en"),
        ("failure", without("failure.de", "failure.en"), "de", builtin("de")["failure"]),
        ("failure", without("failure.de", "failure.en"), "sw", builtin("en")["failure"]),
        ("uncheckable", EVERYTHING, "de", "9 own uncheckable de"),
        ("uncheckable", EVERYTHING, "fr", builtin("fr")["uncheckable"]),
        ("uncheckable", EVERYTHING, "sw", builtin("en")["uncheckable"]),
        ("removed", EVERYTHING, "de", "10 own removed de"),
        ("removed", EVERYTHING, "en", builtin("en")["removed"]),
    ],
)
def test_what_was_not_judged_never_gets_a_refusal(
    kind: MessageKind, overrides: Mapping[str, Mapping[str, str]], language: str, expected: str
) -> None:
    got = message_for(categories=["Violence"], kind=kind, language=language, overrides=overrides)
    assert got == expected
