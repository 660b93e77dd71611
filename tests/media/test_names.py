"""Names are text even where what they name is empty, broken or unnamed."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from tests.media.drawing import counted, prepare
from turnguard import Guard, Policy, Step
from turnguard.core.step import Document
from turnguard.testing import FakeModerator

NAME = "how to do UNSAFE.pdf"
LENIENT = Policy.from_dict({"on_uncheckable": "flag"})
BROKEN = "data:application/pdf;base64,!!not base64!!"


@pytest.mark.parametrize("source", [b"", BROKEN, "data:application/pdf;base64,", b"\0\1\2garbage"])
async def test_the_name_of_a_broken_document_is_judged(source: str | bytes) -> None:
    guard = Guard(LENIENT, FakeModerator(unsafe=["UNSAFE"]))
    assert (await guard.acheck(Step("input", (Document(source, "application/pdf", NAME),)))).action == "block"
    assert (await guard.acheck(Step("input", (Document(source, "application/pdf", "a.pdf"),)))).action == "flag"


BLOCKS: dict[str, dict[str, Any]] = {
    "OpenAI chat": {"type": "file", "file": {"filename": NAME, "file_data": BROKEN}},
    "OpenAI Responses": {"type": "input_file", "filename": NAME, "file_data": BROKEN},
    "Anthropic": {
        "type": "document",
        "title": NAME,
        "source": {"type": "base64", "media_type": "application/pdf", "data": "!!"},
    },
    "Gemini": {"inlineData": {"mimeType": "application/pdf", "displayName": NAME, "data": "!!"}},
    "Bedrock": {"document": {"format": "pdf", "name": NAME, "source": {"bytes": b"broken"}}},
    "A2A": {"kind": "file", "file": {"name": NAME, "mimeType": "application/pdf", "bytes": "!!"}},
    "LangChain": {"type": "file", "base64": "!!", "mime_type": "application/pdf", "filename": NAME},
    "Mistral": {"type": "document_url", "document_url": BROKEN, "document_name": NAME},
}


@pytest.mark.parametrize("dialect", BLOCKS)
async def test_the_name_on_a_broken_block_is_judged(dialect: str) -> None:
    guard = Guard(LENIENT, FakeModerator(unsafe=["UNSAFE"]))
    decisions = await guard.acheck_messages([{"role": "user", "content": [BLOCKS[dialect]]}])
    assert "block" in {decision.action for decision in decisions}


async def test_a_member_without_a_name_is_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("nameless", "how to do UNSAFE")
        archive.writestr("a.txt", "ordinary")
    prepared = await prepare(out.getvalue().replace(b"nameless", bytes(8)))
    assert any("UNSAFE" in text for _, text in prepared.texts)
    assert counted(prepared) == []
