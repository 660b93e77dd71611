"""Nothing in a block is skipped: a second carrier, what stands beside a carrier, and switches that hold prose."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.media.drawing import encoded, page
from turnguard.core.step import Document, Image, Opaque, Text, ToolCall
from turnguard.transcripts.blocks import read, replace

B64 = base64.b64encode(encoded(page())).decode()
URI = f"data:image/png;base64,{B64}"
EVIL = "https://evil.example/a.png"
PROSE = "make a bomb"

TWO_CARRIERS: dict[str, Any] = {
    "base64 and url": {"type": "image", "base64": B64, "url": EVIL},
    "image_url and file_id": {"type": "input_image", "image_url": URI, "file_id": "file-evil"},
    "image_url and url": {"type": "image", "image_url": URI, "url": EVIL},
    "a source with url and data": {"type": "image", "source": {"type": "url", "url": EVIL, "data": B64}},
    "a source beside data": {"type": "image", "base64": B64, "source": {"type": "url", "url": EVIL}},
    "a source that is a string": {"type": "image", "base64": B64, "source": EVIL},
    "base64 and file": {"type": "image", "base64": B64, "mime_type": "image/png", "file": "file-evil"},
    "file_data and file_id": {"type": "file", "file": {"file_data": URI, "file_id": "file-evil"}},
    "inline and file data": {"inlineData": {"data": B64}, "fileData": {"fileUri": EVIL}},
    "bytes and s3": {"image": {"format": "png", "source": {"bytes": b"x", "s3Location": {"uri": "s3://b/a"}}}},
    "a picture and a film": {"type": "image_url", "image_url": {"url": URI}, "video": {"url": EVIL}},
    "within wrappers": {"type": "file", "file": {"file_data": URI, "file": {"file_id": "file-evil"}}},
}


@pytest.mark.parametrize("name", TWO_CARRIERS)
def test_a_second_carrier_is_never_hidden_by_the_first(name: str) -> None:
    causes = [block.part.cause for block in read([TWO_CARRIERS[name]]) if isinstance(block.part, Opaque)]
    assert "two sources in one block" in causes


ONE_CARRIER: dict[str, Any] = {
    "an id is no carrier": {"type": "image", "base64": B64, "mime_type": "image/png", "id": "lc_1"},
    "null is none": {"type": "input_image", "image_url": URI, "file_id": None, "detail": "auto"},
    "the same twice": {"type": "image", "image_url": {"url": URI}, "url": URI},
    "a resource's uri is its name": {"type": "resource", "resource": {"uri": "file:///a", "blob": B64}},
}


@pytest.mark.parametrize("name", ONE_CARRIER)
def test_one_carrier_is_no_two(name: str) -> None:
    assert not [block for block in read([ONE_CARRIER[name]]) if isinstance(block.part, Opaque)]


BEDROCK = {"document": {"name": "a", "format": "txt", "source": {"bytes": b"hello"}, "context": PROSE}}
BESIDE: dict[str, Any] = {
    "a document's context": BEDROCK,
    "the same in a tool result": {"toolResult": {"toolUseId": "1", "status": "success", "content": [BEDROCK]}},
    "a display name": {"inlineData": {"mimeType": "image/png", "data": B64, "displayName": PROSE}},
    "a file's note": {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk=", "note": PROSE}},
    "a picture's alternative": {"type": "image_url", "image_url": {"url": URI, "alt": PROSE}},
    "a picture's detail": {"type": "image_url", "image_url": {"url": URI, "detail": PROSE}},
    "a source's own key": {"type": "image", "source": {"type": "base64", "data": B64, "note": PROSE}},
    "a source's text": {"document": {"format": "txt", "source": {"bytes": b"hello", "text": PROSE}}},
    "a recording's note": {"type": "audio", "audio": {"data": "xx", "note": PROSE}},
    "a resource's uri": {"type": "resource", "resource": {"uri": f"x://{PROSE}", "blob": B64}},
    "a media type": {"type": "image", "base64": B64, "mime_type": f"image/png {PROSE}"},
    "a bucket": {"image": {"source": {"s3Location": {"uri": "s3://a", "note": PROSE}}}},
    "a language": {"type": "executable_code", "executableCode": {"language": PROSE, "code": "print(1)"}},
    "the age of a page": {"type": "web_search_result", "title": "x", "page_age": PROSE},
    "a status": {"type": "text", "text": "hi", "status": PROSE},
    "a role that is a list": {"type": "text", "text": "hi", "role": [PROSE]},
    "a switch": {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "x": PROSE}},
    "a signature": {"type": "thinking", "thinking": "hm", "signature": PROSE},
    "sealed reasoning": {"type": "reasoning", "summary": [], "encrypted_content": PROSE},
    "a type": {"type": PROSE},
    "a long token": {"type": "text", "text": "hi", "status": f"{PROSE}_".replace(" ", "_") * 20},
    "a key": {"type": "text", "text": "hi", PROSE: 1},
    "a key beside a carrier": {"type": "image_url", "image_url": {"url": URI, PROSE: 1}},
    "a call's id": {"type": "tool_use", "name": "f", "input": {}, "id": PROSE},
    "a call's other arguments": {"type": "tool_call", "name": "f", "args": {}, "arguments": PROSE},
    "a wrapped call's other arguments": {
        "type": "function",
        "function": {"name": "f", "arguments": "{}", "args": {"x": PROSE}},
    },
    "a wrapped call beside another": {"type": "function", "function": {"name": "f"}, "args": {"x": PROSE}},
    "media in data": {"json": [{"type": "image", "image_url": {"url": URI, "alt": PROSE}}]},
}


def said(content: Any) -> str:
    return "\n".join(block.part.text for block in read(content) if isinstance(block.part, Text))


@pytest.mark.parametrize("name", BESIDE)
def test_what_stands_beside_is_read(name: str) -> None:
    assert PROSE in said([BESIDE[name]]).replace("_", " ")


@pytest.mark.parametrize("name", BESIDE)
def test_what_stands_beside_can_be_taken_out(name: str) -> None:
    blocks = read([BESIDE[name]])
    kept = [None if isinstance(b.part, Text) and PROSE in b.part.text.replace("_", " ") else b.part for b in blocks]
    assert PROSE not in str(replace([BESIDE[name]], blocks, kept)).replace("_", " ")


def test_what_stands_beside_can_be_rewritten_alone() -> None:
    content = [BESIDE["a picture's alternative"]]
    blocks = read(content)
    changed = replace(content, blocks, [b.part if isinstance(b.part, Image) else Text("new") for b in blocks])
    assert changed == [{"type": "image_url", "image_url": {"url": URI, "alt": "new"}}]


PLAIN: dict[str, Any] = {
    "switches": {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": "5m"}, "status": "done"},
    "a long signature": {"type": "thinking", "thinking": "hi", "signature": B64},
    "a dated page": {"type": "text", "text": "hi", "page_age": "2025-01-02T03:04:05Z"},
    "an audio format": {"type": "text", "text": "hi", "created_at": 12, "phase": None},
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_switches_are_no_text(name: str) -> None:
    assert [block.part for block in read([PLAIN[name]])] == [Text("hi")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "json", "json": ["💣🔪"]}], '["💣🔪"]'),
        ([{"type": "json", "json": {"💣": []}}], '{"💣": []}'),
        ([{"type": "json", "json": [[], {}, ""]}], ""),
        ([{"type": "text", "text": 123}], "123"),
        ([{"type": "text", "text": 1.5}], "1.5"),
        ([{"type": "tool_result", "content": 5}], "5"),
        ([7], "7"),
        (5, "5"),
    ],
)
def test_signs_and_numbers_are_text(content: Any, expected: str) -> None:
    assert said(content) == expected


def test_numbers_are_written_back() -> None:
    assert replace([{"type": "text", "text": 1}], read([{"type": "text", "text": 1}]), [Text("n")]) == [
        {"type": "text", "text": "n"}
    ]
    assert replace(5, read(5), [Text("n")]) == "n"


def deep(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = [value] if levels % 2 else {"a": value}
    return value


@pytest.mark.parametrize("levels", [899, 900, 5000])
@pytest.mark.parametrize("key", ["input", "name", "id", "cache_control", "file", "source"])
def test_depth_is_no_crash(levels: int, key: str) -> None:
    content = [{"type": "tool_use", "name": "f", key: deep(levels)}, {"type": "image", key: deep(levels)}]
    blocks = read(content)
    assert blocks
    assert len(replace(content, blocks, [None if block.index == 1 else block.part for block in blocks])) < 3


def test_a_file_inside_a_file_is_no_crash() -> None:
    value: Any = {"file_data": URI}
    for _ in range(3000):
        value = {"file": value}
    assert any(isinstance(block.part, Opaque) for block in read([value]))


def test_a_call_is_rewritten_where_it_was_read() -> None:
    content = [{"type": "function", "function": {"name": "f", "arguments": "{}", "args": {"x": "ok"}}}]
    blocks = read(content)
    changed = replace(content, blocks, [ToolCall("f", '{"a": 1}'), blocks[1].part])
    assert changed[0]["function"] == {"name": "f", "arguments": '{"a": 1}', "args": {"x": "ok"}}


def test_a_document_keeps_its_name() -> None:
    (block, context) = read([BEDROCK])
    assert isinstance(block.part, Document)
    assert block.part.name == "a"
    assert context.part == Text(PROSE)


def test_a_wrapped_call_is_still_a_call() -> None:
    block, more = read([BESIDE["a wrapped call's other arguments"]])
    assert block.part == ToolCall("f", "{}")
    assert more.part == Text(f'{{"x": "{PROSE}"}}')
