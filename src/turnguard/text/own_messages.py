"""Turnguard's own words: refusals and notices that come back in a transcript are recognised by digest, not judged
again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from turnguard.runtime.caches import Cache

MOST = 4096
LONGEST = 2000


class OwnWords:
    """The digests of every message that the policy or the built-in texts can give, and of notices given lately."""

    def __init__(self, messages: Mapping[str, Mapping[str, str]]) -> None:
        texts = _all(messages)  # eighteen small files, read here so that no check reads any
        self._known = frozenset(map(_digest, texts))
        self._lengths = set(map(len, texts))
        self._given: Cache[bytes, bool] = Cache(MOST)

    def add(self, text: str) -> None:
        """Remember a notice that was made for one occasion."""
        self._lengths.add(len(text))
        self._given.put(_digest(text), True)

    def __contains__(self, text: object) -> bool:
        # almost every text is told apart by its length already
        if not isinstance(text, str) or len(text) not in self._lengths or len(text) > LONGEST:
            return False
        digest = _digest(text)
        return digest in self._known or self._given.get(digest) is not None


def _all(messages: Mapping[str, Mapping[str, str]]) -> set[str]:
    from turnguard.text.messages import LANGUAGES, builtin

    texts = {text for by_language in messages.values() for text in by_language.values()}
    for language in LANGUAGES:
        texts.update(builtin(language).values())
    return texts


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
