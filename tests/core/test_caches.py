"""The bounded cache: what it forgets, and when."""

from __future__ import annotations

import pytest

from turnguard.runtime.caches import Cache


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert ("a" in cache, "b" in cache, "c" in cache, len(cache)) == (True, False, True, 2)


def test_weights_are_bounded_and_given_back() -> None:
    cache: Cache[str, str] = Cache(weight=10, weigh=len)
    cache.put("a", "12345")
    cache.put("a", "1234")  # in place of the first
    cache.put("b", "123456")
    assert ("a" in cache, "b" in cache) == (True, True)
    cache.put("c", "1")
    assert ("a" in cache, "b" in cache, "c" in cache) == (False, True, True)
    cache.put("d", "x" * 11)
    assert ("b" in cache, "d" in cache) == (True, False)  # heavier than the whole cache: nothing makes room for it
    assert cache.take("b") == "123456"
    cache.put("e", "123456789")
    assert ("c" in cache, "e" in cache) == (True, True)


def test_an_entry_counts_for_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("turnguard.runtime.caches.time.monotonic", lambda: now)
    cache: Cache[str, int] = Cache(seconds=5.0)
    cache.put("a", 1)
    now = 104.9
    assert cache.get("a") == 1
    now = 105.1
    assert cache.get("a") is None
    assert len(cache) == 0


def test_what_is_taken_or_cleared_is_gone() -> None:
    cache: Cache[str, int] = Cache(5)
    cache.put("a", 1)
    assert (cache.take("a"), cache.take("a"), "a" in cache) == (1, None, False)
    cache.put("b", 2)
    cache.clear()
    assert "b" not in cache
