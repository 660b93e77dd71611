"""`/v1/check` and `/v1/check/messages` over a real socket."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.service.conftest import CHECK, KEYS, served, settings
from turnguard import Guard
from turnguard.testing import FakeVLLM

GuardOf = Callable[..., Guard]


def _png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


def _uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_a_safe_step_comes_back_with_its_content(guard_of: GuardOf) -> None:
    with served(guard_of()) as service, service.client() as client:
        answer = client.post("/v1/check", json={"text": "Hello", "id": "row-1", "metadata": {"user": "u"}})
    assert answer.status_code == 200
    body = answer.json()
    assert body["action"] == "allow"
    assert body["content"] == [{"type": "text", "text": "Hello"}]
    assert body["row"] == "row-1"


def test_what_is_withheld_comes_back_without_content(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    vllm.reply(user="unsafe", categories=["Violence"], p=0.97)
    with served(guard_of({"default": "block"})) as service, service.client() as client:
        body = client.post("/v1/check", json={"text": "a threat"}).json()
    assert body["action"] == "block"
    assert "content" not in body
    assert "held" not in body
    assert body["message"]
    assert body["reasons"][0]["category"] == "Violence"
    assert "a threat" not in json.dumps(body)


@pytest.mark.parametrize("stage", ["input", "retrieval", "tool_call", "tool_result", "output", "tools"])
def test_every_stage_is_judged(guard_of: GuardOf, vllm: FakeVLLM, stage: str) -> None:
    text = '{"name": "ls", "description": "Lists."}' if stage == "tools" else '{"path": "/"}'
    prompt = {"prompt": "List it"} if stage not in ("input", "tools") else {}
    with served(guard_of()) as service, service.client() as client:
        body = client.post("/v1/check", json={"stage": stage, "text": text, **prompt}).json()
    assert body["stage"] == stage
    assert body["coverage"]["judged"]
    assert len(vllm.chats) == 1


def test_pictures_come_as_data_uris_and_as_files(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    with served(guard_of()) as service, service.client() as client:
        as_json = client.post("/v1/check", json={"text": "What is this?", "images": [_uri(_png())]}).json()
        files = [("images", ("secret name.png", _png("blue"), "image/png"))]
        form = client.post("/v1/check", data={"text": "What is this?", "metadata": '{"user": "u"}'}, files=files).json()
    assert as_json["action"] == form["action"] == "allow"
    assert [part["type"] for part in form["content"]] == ["text", "image"]
    assert base64.b64decode(form["content"][1]["data"].partition(",")[2]) == _png("blue")
    assert sum(bool(each.chat and each.chat.images) for each in vllm.chats) == 2


def test_a_zip_bomb_in_a_form_is_not_judged_and_blocks(guard_of: GuardOf) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"0" * 300_000_000)
    with served(guard_of()) as service, service.client() as client:
        files = [("documents", ("bomb.zip", bomb.getvalue(), "application/zip"))]
        answer = client.post("/v1/check", data={"text": "Summarise this"}, files=files)
    assert answer.status_code == 200
    assert answer.json()["action"] == "block"
    assert any(entry["kind"] == "document" for entry in answer.json()["coverage"]["not_judged"])


BAD: list[tuple[str, dict[str, Any], int]] = [
    ("no JSON", {"content": b"{", "headers": {"content-type": "application/json"}}, 400),
    ("a key twice", {"content": b'{"text":"a","text":"b"}', "headers": {"content-type": "application/json"}}, 400),
    ("NaN", {"content": b'{"text": NaN}', "headers": {"content-type": "application/json"}}, 400),
    ("not UTF-8", {"content": b'{"text":"\xff"}', "headers": {"content-type": "application/json"}}, 400),
    ("deep", {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400),
    ("text, as a browser sends it unasked", {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415),
    (
        "compressed",
        {"content": b"x", "headers": {"content-type": "application/json", "content-encoding": "gzip"}},
        415,
    ),
    ("unknown field", {"json": {"text": "a", "txt": "b"}}, 422),
    ("wrong type", {"json": {"text": 3}}, 422),
    ("unknown stage", {"json": {"text": "a", "stage": "outptu"}}, 422),
    ("nothing", {"json": {}}, 422),
    ("a list", {"json": []}, 422),
    ("a file's name", {"json": {"images": ["/etc/passwd"]}}, 422),
    ("a document's name", {"json": {"documents": ["file:///etc/passwd"]}}, 422),
    ("an unknown policy", {"json": {"text": "a", "policy": "nobody"}}, 422),
    ("metadata of two lines", {"json": {"text": "a", "metadata": {"user": "a\nb"}}}, 422),
    ("a prompt that nothing answers", {"json": {"text": "a", "prompt": "b"}}, 422),
    ("documents where none stand", {"json": {"stage": "output", "documents": ["data:,x"]}}, 422),
    ("a file as a field", {"files": {"text": ("a.txt", b"a", "text/plain")}}, 422),
    ("half a form", {"content": b"--x", "headers": {"content-type": "multipart/form-data; boundary=y"}}, 400),
]


@pytest.mark.parametrize(("what", "request_", "status"), BAD, ids=[each[0] for each in BAD])
def test_a_wrong_body_is_refused_in_one_form_without_its_content(
    guard_of: GuardOf, vllm: FakeVLLM, what: str, request_: dict[str, Any], status: int
) -> None:
    with served(guard_of()) as service, service.client() as client:
        answer = client.post("/v1/check", **request_)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type"}
    assert body["error"]["message"]
    assert "passwd" not in answer.text
    assert not vllm.chats


def test_a_body_of_50_megabytes_is_refused_before_it_is_read(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    with served(guard_of(), settings(limits={"body": "1MB"})) as service:
        with service.client(KEYS[CHECK]) as client:
            answer = client.post("/v1/check", json={"text": "a" * 50_000_000})
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "too_large"

        def endless() -> Any:
            for _ in range(50):
                yield b" " * 100_000

        with service.client(KEYS[CHECK]) as client:
            chunked = client.post("/v1/check", content=endless(), headers={"content-type": "application/json"})
        assert chunked.status_code == 413
    assert not vllm.chats


def test_a_transcript_comes_back_as_it_may_go_on(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    vllm.when("steal", user="unsafe", categories=["Illegal Activity"], p=0.99)
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "How do I steal a car?"},
        {"role": "assistant", "content": "I can't help with that."},
        {"role": "user", "content": "And how do I bake bread?"},
    ]
    with served(guard_of()) as service, service.client() as client:
        body = client.post("/v1/check/messages", json={"messages": messages, "metadata": {"thread": "t"}}).json()
    actions = {tuple(each["where"]): each["action"] for each in body["decisions"]}
    assert actions[1, 0] == "block"
    assert actions[3, 0] == "allow"
    assert (0, 0) in actions  # over HTTP the client writes the roles, and none is trusted
    assert "steal" not in json.dumps(body["messages"])
    assert body["messages"][3] == messages[3]


def test_messages_that_are_no_list_are_refused(guard_of: GuardOf) -> None:
    with served(guard_of()) as service, service.client() as client:
        for wrong in ("hi", {"role": "user"}, [1]):
            answer = client.post("/v1/check/messages", json={"messages": wrong})
            assert answer.status_code == 422, answer.text


def test_a_dead_moderator_blocks_and_says_so(vllm: FakeVLLM, guard_of: GuardOf) -> None:
    guard = guard_of()
    vllm.stop()
    with served(guard) as service, service.client() as client:
        answer = client.post("/v1/check", json={"text": "Hello"})
        assert answer.status_code == 200
        assert answer.json()["action"] == "block"
        assert answer.json()["failed"] is True
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json() == {"status": "unready", "failure": "unavailable"}
        assert client.get("/health/live").status_code == 200


def test_half_a_surrogate_pair_is_judged_like_any_text(guard_of: GuardOf) -> None:
    with served(guard_of()) as service, service.client() as client:
        answer = client.post(
            "/v1/check", content=b'{"text": "odd \\ud800 text"}', headers={"content-type": "application/json"}
        )
    assert answer.status_code == 200
    assert httpx.Response(200, content=answer.content).json()["action"] in ("allow", "block")
