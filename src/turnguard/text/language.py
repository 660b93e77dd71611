"""Which of the built-in message languages a text is written in: offline, deterministic, and unsure means the default.

The guess only picks the language of a message to a person. Thresholds and decisions never depend on it.
"""

import contextlib
import os
import re
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

LANGUAGES: Final[tuple[str, ...]] = (
    *("en", "ar", "de", "es", "fr", "hi", "ja", "th", "nl", "it", "ko", "zh"),  # the model's trained languages
    *("pt", "sv", "ru", "cs", "pl", "bn"),  # and its zero-shot ones
)
"""The languages with built-in messages, as two-letter ISO 639-1 codes."""

HEAD: Final = 2_000
"""Characters that are looked at. More text does not change the answer, and a 10 MB text must not cost anything."""

FLOOR: Final = 0.2
"""Least confidence, from 0 to 1 over all 140 labels of the py3langid 0.4 model, at which Latin text gets its language.

Chosen on the phrases of ``tests/core/test_language.py``, which were written for it: of 150 short prompts 143 get their
language at 0.2 and none a wrong one; of 147 greetings and phrases of one to three words 14 get a wrong one without a
floor ("danke" is Dutch at 0.09), and 2 at 0.2.
"""

# A URL is spelled in Latin letters whatever language stands around it.
_ADDRESS: Final = re.compile(r"\b(?:https?://|www\.|data:)\S+", re.IGNORECASE)

# Ranges of whole scripts, marks included. Left out: the danda, which Hindi and Bengali share.
_RUN: Final = re.compile(
    "(?P<latin>[A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a]+)"
    "|(?P<ko>[\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7ff]+)"
    "|(?P<kana>[\u3041-\u30fa\u31f0-\u31ff\uff66-\uff9d]+)"
    "|(?P<han>[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]+)"
    "|(?P<th>[\u0e01-\u0e3a\u0e40-\u0e5b]+)"
    "|(?P<hi>[\u0900-\u0963\u0966-\u097f\ua8e0-\ua8ff]+)"
    "|(?P<bn>[\u0980-\u09ff]+)"
    "|(?P<ar>[\u0620-\u065f\u066e-\u06d3\u06d5-\u06ef\u06fa-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufefc]+)"
    "|(?P<ru>[\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f]+)"
    r"|(?P<other>[^\W\d_])"
)

# One CJK character says about as much as three letters: "请用Python写一个function" is Chinese.
_WEIGHT: Final = {"ko": 3, "kana": 3, "han": 3}

# Letters that the language named does not use, and the share of the text from which they tell another one: Ukrainian,
# Serbian or Kazakh is not Russian, Persian or Urdu is not Arabic (whose dialects borrow a few), Assamese is not
# Bengali. Such a reader is better served by the default.
_FOREIGN: Final = {
    "ru": (re.compile("[\u0400\u0402-\u040f\u0450\u0452-\u052f]"), 0.02),
    "ar": (re.compile("[\u066e-\u066f\u0671-\u06d3\u06d5\u06ee-\u06ef\u06fa-\u06ff\u0750-\u077f]"), 0.05),
    "bn": (re.compile("[\u09f0\u09f1]"), 0.02),
}

# Bulgarian and Macedonian have no letter that Russian lacks, and none of these.
_RUSSIAN: Final = re.compile("[\u042b\u042d\u0401\u044b\u044d\u0451]")

_NEIGHBOUR: Final = 0.25  # above what Russian questions of a few words are given

# Japanese prose is a good half kana; Chinese quotes the odd one.
_KANA_SHARE: Final = 0.1

_lock = threading.Lock()
_loaded: "list[LanguageIdentifier]" = []
asked = False


def _forget() -> None:
    """In a forked child nobody is reading the model, whoever in the parent was."""
    global _lock, asked  # noqa: PLW0603 - one model per process
    _lock = threading.Lock()
    asked = bool(_loaded)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def primary(tag: str) -> str:
    """Return the language of a BCP 47 tag, lower case: ``de`` for ``de-AT``, ``zh`` for ``zh-Hant`` or ``zh_Hant``."""
    return tag.strip().replace("_", "-").partition("-")[0].lower()


def guess(text: str, default: str = "en") -> str:
    """Return the language of ``text``, one of ``LANGUAGES``; ``default`` where it is short, ambiguous or another one.

    The script decides where it can (Hangul, kana, Han, Thai, Devanagari, Bengali, Arabic, and Cyrillic with a letter
    that only Russian has); other Cyrillic and mostly Latin text asks py3langid, whose first use in a process costs an
    import of numpy and the reading of a 4.6 MB model: about a second, so an event loop should call `load_beside` in
    time and ask from a thread until `ready`. Any ``str`` is legal, and only the first ``HEAD``
    characters count. Thread-safe.
    """
    head = _ADDRESS.sub(" ", text[:HEAD])
    sizes: dict[str, int] = {}
    for run in _RUN.finditer(head):
        script = run.lastgroup or "other"
        sizes[script] = sizes.get(script, 0) + len(run[0]) * _WEIGHT.get(script, 1)
    kana, han = sizes.pop("kana", 0), sizes.pop("han", 0)
    if kana or han:
        sizes["ja" if kana >= _KANA_SHARE * (kana + han) else "zh"] = kana + han
    if not sizes:
        return default
    script = max(sizes, key=lambda name: sizes[name])
    if script == "latin":
        # A foreign word quoted in another script would count against the sentence around it.
        return _latin(_RUN.sub(lambda run: run[0] if run.lastgroup == "latin" else " ", head), default)
    if script == "other":
        return default
    if script in _FOREIGN:
        letters, share = _FOREIGN[script]
        if len(letters.findall(head)) >= share * sizes[script]:
            return default
    if script == "ru" and not _RUSSIAN.search(head):
        return _cyrillic(head, default)
    return script


def ready() -> bool:
    """Whether the model has been read, so that a guess costs microseconds and may run on an event loop."""
    return bool(_loaded)


def _latin(text: str, default: str) -> str:
    # The whole inventory is asked, not the ten languages wanted: restricted to these, the model gives 189 of
    # MultiJail's 315 Vietnamese prompts to one of them with a confidence above 0.3; asked for all, not one.
    label, confidence = _identifier().classify(text)
    return label if label in LANGUAGES and confidence >= FLOOR else default


def _cyrillic(text: str, default: str) -> str:
    if len(text.split()) < 3:
        return "ru"  # a word or two may be of either language, and Russian is the more likely one
    label, confidence = _identifier().classify(text)
    return default if label in ("bg", "mk") and confidence > _NEIGHBOUR else "ru"


def load_beside() -> None:
    """Read the model in a thread of its own, once a process, so that no guess has to wait for all of it."""
    global asked  # noqa: PLW0603 - one model per process
    if not asked:
        asked = True
        threading.Thread(target=_load, name="turnguard-language", daemon=True).start()


def _load() -> None:
    with contextlib.suppress(Exception):  # no descriptor or memory for it: the guess tries again, and says so
        _identifier()


def _identifier() -> "LanguageIdentifier":
    with _lock:  # two threads must not read the model twice
        if not _loaded:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier

            _loaded.append(LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True))
        return _loaded[0]
