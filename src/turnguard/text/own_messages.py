"""Turnguard's own words: refusals and notices that come back in a transcript are recognised by digest, not judged
again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from turnguard.runtime.caches import Cache

MOST = 4096
LONGEST = 2000


Messages = Mapping[str, Mapping[str, str]]
"""A policy's own words, by category and language."""


class OwnWords:
    """The digests of every message that the policies or the built-in texts can give, and of notices given lately."""

    def __init__(self, policies: Iterable[Messages]) -> None:
        self._known: set[bytes] = set()
        self._lengths: set[int] = set()
        self._given: Cache[bytes, bool] = Cache(MOST)
        self._learn(_builtin())  # eighteen small files, read here so that no check reads any
        self.learn(policies)

    def learn(self, policies: Iterable[Messages]) -> None:
        """Recognise the messages of further policies, too."""
        for messages in policies:
            self._learn({text for by_language in messages.values() for text in by_language.values()})

    def _learn(self, texts: set[str]) -> None:
        self._known.update(map(_digest, texts))
        self._lengths.update(map(len, texts))

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


def _builtin() -> set[str]:
    from turnguard.text.messages import LANGUAGES, builtin

    return {text for language in LANGUAGES for text in builtin(language).values()}


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
