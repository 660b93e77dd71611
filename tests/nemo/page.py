"""docs/coverage/nemo.md: what the matrix of runs finds."""

from __future__ import annotations

import asyncio

from tests.nemo import test_matrix

DOCUMENT = test_matrix.DOCUMENT


def document() -> str:
    """The matrix as a page."""
    return asyncio.run(test_matrix.document())
