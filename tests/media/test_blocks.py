"""The normaliser of message content, by table: every form in which a picture or text arrives (facts: image formats)."""

from __future__ import annotations

import base64
import copy
import dataclasses
from typing import Any

import pytest
from pydantic import BaseModel

from tests.media.drawing import encoded, page
from turnguard.core.step import Document, Image, Opaque, Part, Text, ToolCall
from turnguard.transcripts.blocks import ARTIFACT, Block, read, replace

PICTURE = page()
PNG = encoded(PICTURE)
B64 = base64.b64encode(PNG).decode()
URI = f"data:image/png;base64,{B64}"
URL = "https://cdn.example.com/a.png"
PDF_URI = f"data:application/pdf;base64,{B64}"


def summary(part: Part) -> tuple[Any, ...]:
    """A part as something to compare."""
    if isinstance(part, Text):
        return ("text", part.text)
    if isinstance(part, ToolCall):
        return ("call", part.name, part.arguments)
    if isinstance(part, Opaque):
        return ("opaque", part.kind, part.cause)
    assert isinstance(part, (Image, Document))
    return (part.kind, part.source)


def parts(content: Any, **more: Any) -> list[tuple[Any, ...]]:
    return [summary(block.part) for block in read(content, **more)]


IMAGE = ("image", URI)
AT_URL = ("image", URL)
FILE_ID = ("opaque", "image", "file id")
BY_BASE64 = {"type": "base64", "media_type": "image/png", "data": B64}

FORMS: dict[str, tuple[Any, list[tuple[Any, ...]]]] = {
    "str in a list": ("hi", [("text", "hi")]),
    "text": ({"type": "text", "text": "hi"}, [("text", "hi")]),
    "untyped text": ({"text": "hi"}, [("text", "hi")]),
    "responses text": ({"type": "input_text", "text": "hi"}, [("text", "hi")]),
    "output text": ({"type": "output_text", "text": "hi", "annotations": []}, [("text", "hi")]),
    "refusal": ({"type": "refusal", "refusal": "no"}, [("text", "no")]),
    "thinking": ({"type": "thinking", "thinking": "hm", "signature": "c2ln"}, [("text", "hm")]),
    "reasoning": ({"type": "reasoning", "reasoning": "hm", "extras": {"signature": "x"}}, [("text", "hm")]),
    "reasoning summary": (
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "x"},
        [("opaque", "encrypted", "encrypted reasoning"), ("text", "hm")],
    ),
    "bedrock reasoning": (
        {"type": "reasoning_content", "reasoning_content": {"text": "hm", "signature": "x"}},
        [("text", "hm")],
    ),
    "redacted thinking": (
        {"type": "redacted_thinking", "data": "ZZ"},
        [("opaque", "encrypted", "encrypted reasoning")],
    ),
    "citation": (
        {"type": "text", "text": "hi", "citations": [{"type": "char_location", "cited_text": "quote", "start": 1}]},
        [("text", "hi"), ("text", "quote")],
    ),
    "empty text": ({"type": "text", "text": "  "}, []),
    # LangChain v1
    "v1 url": ({"type": "image", "url": URL}, [AT_URL]),
    "v1 data url": ({"type": "image", "url": URI}, [IMAGE]),
    "v1 base64": ({"type": "image", "base64": B64, "mime_type": "image/png", "id": "lc_1"}, [IMAGE]),
    "v1 file id": ({"type": "image", "file_id": "f-1"}, [FILE_ID]),
    "v1 file": (
        {"type": "file", "base64": B64, "mime_type": "application/pdf", "filename": "a.pdf"},
        [("document", PDF_URI)],
    ),
    "image in a file block": ({"type": "file", "base64": B64, "mime_type": "image/png"}, [IMAGE]),
    "v1 audio": (
        {"type": "audio", "base64": "QQ==", "mime_type": "audio/wav"},
        [("opaque", "audio", "audio is not judged")],
    ),
    "v1 video": ({"type": "video", "url": "https://x.example/v.mp4"}, [("opaque", "video", "video is not judged")]),
    "text-plain": ({"type": "text-plain", "text": "body", "title": "head"}, [("text", "body"), ("text", "head")]),
    "text-plain base64": (
        {"type": "text-plain", "base64": "aGk=", "mime_type": "text/plain"},
        [("document", "data:text/plain;base64,aGk=")],
    ),
    # LangChain v0
    "v0 base64": ({"type": "image", "source_type": "base64", "data": B64, "mime_type": "image/png"}, [IMAGE]),
    "v0 url": ({"type": "image", "source_type": "url", "url": URL}, [AT_URL]),
    "v0 id": ({"type": "image", "source_type": "id", "id": "f"}, [FILE_ID]),
    "v0 text file": ({"type": "file", "source_type": "text", "text": "body"}, [("text", "body")]),
    # OpenAI
    "image_url": ({"type": "image_url", "image_url": {"url": URI, "detail": "low"}}, [IMAGE]),
    "image_url as str": ({"type": "image_url", "image_url": URL}, [AT_URL]),
    "input_image": ({"type": "input_image", "image_url": URI, "detail": "auto"}, [IMAGE]),
    "input_image id": ({"type": "input_image", "file_id": "f"}, [FILE_ID]),
    "computer_screenshot": ({"type": "computer_screenshot", "image_url": URI}, [IMAGE]),
    "computer_call_output": (
        {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": URI}},
        [IMAGE],
    ),
    "image generation": (
        {"type": "image_generation_call", "id": "i", "result": B64},
        [("image", f"data:application/octet-stream;base64,{B64}")],
    ),
    "input_file": ({"type": "input_file", "filename": "a.pdf", "file_data": PDF_URI}, [("document", PDF_URI)]),
    "input_file id": ({"type": "input_file", "file_id": "f"}, [("opaque", "document", "file id")]),
    "input_file url": (
        {"type": "input_file", "file_url": "https://x.example/a.pdf"},
        [("opaque", "document", "a document's address is not fetched")],
    ),
    "chat file": ({"type": "file", "file": {"file_data": PDF_URI, "filename": "a.pdf"}}, [("document", PDF_URI)]),
    "chat file id": ({"type": "file", "file": {"file_id": "f"}}, [("opaque", "document", "file id")]),
    "input_audio": (
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
        [("opaque", "audio", "audio is not judged")],
    ),
    "audio with a transcript": (
        {"type": "audio", "audio": {"id": "a", "transcript": "said"}},
        [("opaque", "audio", "audio is not judged"), ("text", "said")],
    ),
    "function_call": (
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'},
        [("call", "f", '{"a": 1}')],
    ),
    "chat tool call": (
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        [("call", "f", '{"a": 1}')],
    ),
    "function_call_output": ({"type": "function_call_output", "call_id": "c", "output": "said"}, [("text", "said")]),
    "function_call_output parts": (
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": URI}]},
        [IMAGE],
    ),
    # Anthropic
    "anthropic base64": ({"type": "image", "source": BY_BASE64}, [IMAGE]),
    "anthropic url": ({"type": "image", "source": {"type": "url", "url": URL}}, [AT_URL]),
    "anthropic file": ({"type": "image", "source": {"type": "file", "file_id": "f"}}, [FILE_ID]),
    "anthropic document": (
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": B64},
            "title": "head",
        },
        [("document", PDF_URI)],
    ),
    "anthropic text document": (
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "body"}, "context": "why"},
        [("text", "body"), ("text", "why")],
    ),
    "anthropic content document": (
        {"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": BY_BASE64}]}},
        [IMAGE],
    ),
    "tool_use": ({"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}, [("call", "f", {"a": 1})]),
    "nested tool_result": (
        {
            "type": "tool_result",
            "tool_use_id": "t",
            "content": [{"type": "text", "text": "hi"}, {"type": "image", "source": BY_BASE64}],
        },
        [("text", "hi"), IMAGE],
    ),
    "tool_result str": ({"type": "tool_result", "tool_use_id": "t", "content": "hi"}, [("text", "hi")]),
    "search_result": (
        {
            "type": "search_result",
            "title": "head",
            "source": "https://x.example",
            "content": [{"type": "text", "text": "hi"}],
        },
        [("text", "head"), ("text", "https://x.example"), ("text", "hi")],
    ),
    "web search result": (
        {
            "type": "web_search_tool_result",
            "content": [{"type": "web_search_result", "title": "head", "encrypted_content": "zz"}],
        },
        [("opaque", "encrypted", "encrypted content"), ("text", "head")],
    ),
    "web fetch result": (
        {
            "type": "web_fetch_tool_result",
            "content": {
                "type": "web_fetch_result",
                "content": {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "body"}},
            },
        },
        [("text", "body")],
    ),
    # Google
    "google media": ({"type": "media", "mime_type": "image/png", "data": B64}, [IMAGE]),
    "google media uri": (
        {"type": "media", "mime_type": "image/png", "file_uri": "gs://b/a.png"},
        [("opaque", "image", "an address that is neither data: nor http(s):")],
    ),
    "google media audio": (
        {"type": "media", "mime_type": "audio/wav", "data": "QQ=="},
        [("opaque", "audio", "audio is not judged")],
    ),
    "inline_data": ({"inline_data": {"mime_type": "image/png", "data": B64}}, [IMAGE]),
    "inlineData": ({"inlineData": {"mimeType": "image/png", "data": B64}}, [IMAGE]),
    "inline bytes": ({"inline_data": {"mime_type": "image/png", "data": PNG}}, [("image", PNG)]),
    "file_data": ({"file_data": {"mime_type": "image/png", "file_uri": URL}}, [AT_URL]),
    "functionCall": ({"functionCall": {"name": "f", "args": {"a": 1}}}, [("call", "f", {"a": 1})]),
    "functionResponse": (
        {"functionResponse": {"name": "f", "response": {"a": "b"}}},
        [("text", "f"), ("text", '{"a": "b"}')],
    ),
    # Bedrock
    "bedrock image": ({"image": {"format": "png", "source": {"bytes": PNG}}}, [("image", PNG)]),
    "bedrock s3": ({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/a"}}}}, [FILE_ID]),
    "bedrock document": (
        {"document": {"format": "pdf", "name": "a", "source": {"bytes": b"%PDF-"}}},
        [("document", b"%PDF-")],
    ),
    "bedrock tool result": (
        {
            "toolResult": {
                "toolUseId": "t",
                "content": [
                    {"json": {"a": "b"}},
                    {"text": "hi"},
                    {"image": {"format": "png", "source": {"bytes": PNG}}},
                ],
            }
        },
        [("text", '{"a": "b"}'), ("text", "hi"), ("image", PNG)],
    ),
    "bedrock tool use": ({"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}}, [("call", "f", {"a": 1})]),
    # MCP
    "mcp image": ({"type": "image", "data": B64, "mimeType": "image/png"}, [IMAGE]),
    "mcp audio": (
        {"type": "audio", "data": "QQ==", "mimeType": "audio/wav"},
        [("opaque", "audio", "audio is not judged")],
    ),
    "mcp resource text": (
        {"type": "resource", "resource": {"uri": "file:///a.txt", "mimeType": "text/plain", "text": "body"}},
        [("text", "file:///a.txt"), ("text", "body")],
    ),
    "mcp resource blob": (
        {"type": "resource", "resource": {"uri": "file:///a", "mimeType": "image/png", "blob": B64}},
        [IMAGE],
    ),
    "mcp resource link": (
        {"type": "resource_link", "uri": "https://x.example", "name": "n", "description": "d"},
        [("text", "https://x.example"), ("text", "n"), ("text", "d")],
    ),
    # wrapped by LangChain
    "non_standard": ({"type": "non_standard", "value": {"type": "input_image", "image_url": URI}}, [IMAGE]),
    "server_tool_result": (
        {"type": "server_tool_result", "output": [{"type": "image", "base64": B64, "mime_type": "image/png"}]},
        [IMAGE],
    ),
    # transformers
    "pillow": ({"type": "image", "image": PICTURE}, [("image", PICTURE)]),
    "a path as a string": (
        {"type": "image", "image": "/etc/passwd"},
        [("image", "data:application/octet-stream;base64,/etc/passwd")],
    ),
    # addresses that are not read
    "file url": (
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        [("opaque", "image", "an address that is neither data: nor http(s):")],
    ),
    "relative": (
        {"type": "image", "url": "a.png"},
        [("opaque", "image", "an address that is neither data: nor http(s):")],
    ),
    # unknown
    "unknown type": (
        {"type": "hologram", "beam": "words"},
        [
            ("opaque", "other", "a block of no known type"),
            ("text", "hologram"),
            ("text", "beam"),
            ("text", "words"),
        ],
    ),
    "no type": (
        {"beam": "words"},
        [("opaque", "other", "a block of no known type"), ("text", "beam"), ("text", "words")],
    ),
    "a hostile type": (
        {"type": "x y\nz"},
        [("opaque", "other", "a block of no known type"), ("text", "x y\nz")],
    ),
    "an object": (object(), [("opaque", "other", "an object of type object")]),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read(name: str) -> None:
    block, expected = FORMS[name]
    assert parts([block]) == expected
    if isinstance(block, dict):
        assert parts(block) == expected


def test_string_content_and_empty_content() -> None:
    assert read("hi") == (Block(Text("hi"), None),)
    assert read("") == read([]) == read(None) == read(" \n") == ()


def test_indexes_name_the_top_level_block() -> None:
    content = ["a", {"type": "text", "text": ""}, FORMS["nested tool_result"][0]]
    assert [block.index for block in read(content)] == [0, 2, 2]


def test_objects_of_frameworks_are_read_as_what_they_stand_for() -> None:
    class Content(BaseModel):
        type: str = "image"
        data: str = B64
        mimeType: str = "image/png"  # noqa: N815 - MCP's own name

    @dataclasses.dataclass
    class Plain:
        type: str = "text"
        text: str = "hi"

    assert parts([Content(), Plain()]) == [IMAGE, ("text", "hi")]


def test_a_files_name_goes_with_the_document() -> None:
    (block,) = read([FORMS["v1 file"][0]])
    assert isinstance(block.part, Document)
    assert block.part.name == "a.pdf"


def test_deep_nesting_is_reported() -> None:
    block: Any = {"type": "text", "text": "deep"}
    for _ in range(200):
        block = {"type": "tool_result", "content": [block]}
    assert parts([block]) == [("opaque", "other", "nested too deeply")]


def test_hidden_text_in_the_keys_of_json_is_read() -> None:
    assert parts([{"json": {"how to do it": [1, 2]}}]) == [("text", '{"how to do it": [1, 2]}')]


@pytest.mark.parametrize(
    ("artifact", "expected"),
    [
        (PNG, [("image", PNG)]),
        (PICTURE, [("image", PICTURE)]),
        ({"shot": PNG}, [("image", PNG), ("text", '{"shot": "[media]"}')]),
        ([PICTURE, {"a": [PNG]}], [("image", PICTURE), ("image", PNG), ("text", '["[media]", {"a": ["[media]"]}]')]),
        ({"structured_content": {"a": "new words"}}, [("text", '{"structured_content": {"a": "new words"}}')]),
        (
            {"type": "image", "base64": B64, "mime_type": "image/png"},
            [IMAGE, ("text", '{"type": "image", "mime_type": "image/png"}')],
        ),
        ("said", []),
        (7, []),
        (object(), []),  # it holds nothing
        (iter(["words"]), [("opaque", "other", "a list_iterator, which is none of the kinds that can be read")]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_artifacts(artifact: Any, expected: list[tuple[Any, ...]]) -> None:
    blocks = read("said", artifact=artifact)
    assert [summary(block.part) for block in blocks[1:]] == expected
    assert all(block.index == ARTIFACT for block in blocks[1:])


# ---------------------------------------------------------------- writing back


@pytest.mark.parametrize("name", FORMS)
def test_the_same_parts_leave_the_content_as_it_is(name: str) -> None:
    content = [FORMS[name][0]]
    blocks = read(content)
    assert replace(content, blocks, [block.part for block in blocks]) is content


@pytest.mark.parametrize("name", [name for name, (block, found) in FORMS.items() if found and isinstance(block, dict)])
def test_removing_everything_leaves_nothing_readable(name: str) -> None:
    content = ["before", copy.deepcopy(FORMS[name][0]) if "pillow" not in name else FORMS[name][0], "after"]
    kept = copy.deepcopy(content) if "pillow" not in name else list(content)
    blocks = read(content)
    changed = [block.part if block.index in (0, 2) else None for block in blocks]
    result = replace(content, blocks, changed)
    assert content == kept  # never mutates
    assert parts(result) == [("text", "before"), ("text", "after")]


@pytest.mark.parametrize("name", [name for name, (_, found) in FORMS.items() if found])
def test_a_notice_can_stand_in_place_of_anything(name: str) -> None:
    content = [FORMS[name][0]]
    blocks = read(content)
    result = replace(content, blocks, [Text(f"notice {at}") for at in range(len(blocks))])
    said = [found[1] for found in parts(result)]
    assert said
    assert all("notice" in text for text in said), said


AT_ADDRESS = [name for name, (_, found) in FORMS.items() if AT_URL in found]


@pytest.mark.parametrize("name", AT_ADDRESS)
def test_a_pinned_picture_takes_the_place_of_its_address_in_the_same_dialect(name: str) -> None:
    content = [FORMS[name][0]]
    blocks = read(content)
    result = replace(content, blocks, [Image(URI) for _ in blocks])
    assert parts(result) == [IMAGE]
    assert result[0].get("type") == content[0].get("type")
    assert URL not in str(result)


def test_the_dialects_keep_their_other_keys() -> None:
    content = [
        {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
        {
            "type": "tool_result",
            "tool_use_id": "t",
            "is_error": False,
            "content": [{"type": "text", "text": "a"}, {"text": "b"}],
        },
    ]
    blocks = read(content)
    assert replace(content, blocks, [Text("new"), Image(URI), None, blocks[3].part]) == [
        {"type": "text", "text": "new", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": URI, "detail": "low"}},
        {"type": "tool_result", "tool_use_id": "t", "is_error": False, "content": [{"text": "b"}]},
    ]


def test_calls_are_rewritten_in_their_own_shape() -> None:
    content = [
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        {"type": "function_call", "name": "f", "arguments": '{"a": 1}'},
        {"functionCall": {"name": "f", "args": {"a": 1}}},
    ]
    blocks = read(content)
    assert replace(content, blocks, [ToolCall("f", {"a": 2})] * 3) == [
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 2}},
        {"type": "function_call", "name": "f", "arguments": '{"a": 2}'},
        {"functionCall": {"name": "f", "args": {"a": 2}}},
    ]


def test_strings_and_single_blocks_keep_their_shape() -> None:
    assert replace("hi", read("hi"), [Text("new")]) == "new"
    assert replace("hi", read("hi"), [None]) == ""
    single = {"type": "image", "url": URL}
    assert replace(single, read(single), [Image(URI)]) == {"type": "image", "mime_type": "image/png", "base64": B64}
    assert replace(single, read(single), [None]) == ""


def test_documents_are_written_back() -> None:
    content = [{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}}]
    changed = replace(content, read(content), [Document("data:application/pdf;base64,QUI=")])
    assert changed == [
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QUI="}}
    ]


def test_the_artifact_is_the_callers_to_drop() -> None:
    blocks = read("said", artifact={"structured_content": "more"})
    assert replace("said", blocks, [blocks[0].part, None]) == "said"
