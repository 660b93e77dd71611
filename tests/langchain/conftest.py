"""Shared by the LangChain tests."""

from __future__ import annotations

import pytest

from turnguard.text import language


@pytest.fixture(scope="session", autouse=True)
def _languages_are_read() -> None:
    """The first guess of a process reads a model; on a busy machine that may take longer than a check's deadline."""
    language.guess("Guten Morgen, wie geht es dir heute?")
