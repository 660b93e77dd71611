"""`turnguard check`: what is judged, what is printed, and which exit code follows."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Run
from turnguard.testing import FakeVLLM

EXIT_CODES = [
    ("Profanity", "flag", 0),
    ("PII/Privacy", "rewrite", 0),
    ("Needs Caution", "review", 1),
    ("Threat", "block", 1),
]


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


# ---------------------------------------------------------------- exit codes and the answer


def test_what_is_safe_passes(run: Run, config: Path) -> None:
    ran = run("check", "hello")
    assert (ran.code, ran.err) == (0, "")
    assert "ALLOW" in ran.out


@pytest.mark.parametrize(("category", "action", "code"), EXIT_CODES)
def test_exit_code_follows_the_action(
    run: Run, config: Path, fake: FakeVLLM, category: str, action: str, code: int
) -> None:
    fake.reply(user="unsafe", categories=[category], p=0.97)
    ran = run("check", "--json", "some text")
    assert ran.code == code
    assert ran.data["action"] == action
    assert ran.data["verdict"]["categories"] == [category]


def test_panel_says_why_by_which_rule_and_what_to_tell_the_person(run: Run, config: Path, fake: FakeVLLM) -> None:
    fake.reply(user="unsafe", categories=["Needs Caution"], p=0.97)
    out = run("check", "some text").out
    for said in ("REVIEW", "input", "Needs Caution", "policy.categories.Needs Caution", "0.970", "tell them", " ms"):
        assert said in out


def test_json_has_the_keys_of_the_decision_and_no_content(run: Run, config: Path) -> None:
    data = run("check", "--json", "a telling word").data
    assert {"action", "stage", "verdict", "reasons", "coverage", "message", "failed", "latency"} <= set(data)
    assert "telling" not in str(data)
    assert run("check", "--json", "--content", "a telling word").data["content"] == [
        {"type": "text", "text": "a telling word"}
    ]


def test_a_failed_moderator_is_code_3_whatever_the_action(run: Run, tmp_path: Path) -> None:
    for action in ("block", "review", "flag", "allow"):
        file = tmp_path / f"{action}.yaml"
        file.write_text(f"moderator: {{base_url: 'http://127.0.0.1:9/v1'}}\npolicy: {{on_failure: {action}}}\n")
        ran = run("check", "-c", file, "hello")
        assert ran.code == 3, action
        assert "failed: unavailable" in ran.out
        data = run("check", "-c", file, "--json", "hello").data
        assert (data["action"], data["failed"]) == (action, True)


def test_a_request_that_failed_beside_one_that_passed_is_code_3(run: Run, tmp_path: Path, fake: FakeVLLM) -> None:
    file = tmp_path / "lax.yaml"
    file.write_text(
        f"moderator: {{base_url: '{fake.base_url}', max_input_tokens: 64}}\n"
        "policy: {default: flag, on_failure: allow}\n"
    )
    fake.when("beginning", user="unsafe", categories=["Threat"], p=0.9)
    fake.fail("bad_image", when="ending")
    ran = run("check", "-c", file, "--json", "beginning " + "word " * 200 + "ending")
    assert ran.data["action"] == "flag"
    assert ran.code == 3


@pytest.mark.parametrize("fault", ["html", "truncated_json", "null_content", "unknown_model", "unauthorized"])
def test_a_server_that_is_set_up_wrong_is_code_3_and_one_clear_row(
    run: Run, config: Path, fake: FakeVLLM, fault: str
) -> None:
    fake.fail(fault)
    ran = run("check", "hello")
    assert ran.code == 3
    assert "BLOCK" in ran.out
    assert "failed: " in ran.out


# ---------------------------------------------------------------- stages


@pytest.mark.parametrize(
    ("arguments", "prompt", "response"),
    [
        (["what"], "what", None),
        (["-s", "retrieval", "found"], "found", None),
        (["-s", "tool_result", "--tool", "browse", "page"], "page", None),
        (["-s", "tool-result", "page"], "page", None),
        (["-s", "output", "--prompt", "asked", "said"], "asked", "said"),
        (["-s", "tool_call", "--tool", "pay", "-p", "asked", '{"to": "Bob"}'], "asked", "pay\n"),
        (["-s", "tools", '{"name": "pay", "description": "Pays."}'], "description: Pays.", None),
    ],
)
def test_each_stage_reaches_the_model_on_its_side(
    run: Run, config: Path, fake: FakeVLLM, arguments: list[str], prompt: str, response: str | None
) -> None:
    assert run("check", *arguments).code == 0
    chat = fake.chats[-1].chat
    assert chat is not None
    assert prompt in chat.prompt
    assert (response is None) == (chat.response is None)
    if response is not None:
        assert response in (chat.response or "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stage", "outptu", "x"], "did you mean 'output'"),
        (["--prompt", "x", "y"], "for --stage input give it as TEXT"),
        (["-s", "tool_call", "{}"], "--tool NAME"),
        (["-s", "tool_call", "--tool", "pay"], "arguments as TEXT"),
        (["-s", "tool_call", "--tool", "pay", '{"a":'], "not JSON (Expecting value, line 1 column 6)"),
        (["-s", "tool_call", "--tool", "pay", "not json"], """such as '{"command": "ls"}'"""),
        (["-s", "tool_call", "--tool", "pay", '["a"]'], "no object"),
        (["-s", "tools", "a tool"], "write the tool's definition as a JSON object"),
        (["-s", "tools", "--prompt", "x", "{}"], "--prompt is the request"),
        (["--tool", "pay", "x"], "--tool belongs to"),
        (["-s", "output", "--document", "x.pdf", "y"], "no such file"),
        (["-s", "retrieval", "--image", "data:image/png;base64,AA==", "x"], "tool_result"),
        (["--content", "x"], "--json"),
        (["--image", "-", "-"], "read once"),
        (["--nonsense", "x"], "No such option"),
        (["x", "y"], "unexpected extra argument"),
        ([], "nothing to judge"),
        ([""], "nothing to judge"),
        (["  \n"], "nothing to judge"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_code_2(
    run: Run, config: Path, fake: FakeVLLM, arguments: list[str], said: str
) -> None:
    ran = run("check", *arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert said.lower() in ran.err.lower()
    assert len(ran.err.strip().splitlines()) == 1
    assert fake.chats == []
    as_json = run("check", "--json", *arguments)
    if "--content" not in arguments:
        assert as_json.code == 2
        assert said.lower() in as_json.data["error"].lower()


# ---------------------------------------------------------------- configuration


def test_without_a_configuration_the_way_to_one_is_named(run: Run) -> None:
    ran = run("check", "hello")
    assert ran.code == 2
    assert "turnguard init" in ran.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("policy: {defalt: block}", "did you mean 'default'"),
        ("policy:\n  categories: {Violense: block}", "bad.yaml:2"),
        ("policy: !!python/object:os.system {}", "not supported"),
        ("a: &a [x]\nb: [*a, *a]", "anchors"),
        ("policy: {", "not valid YAML"),
        ("policy: {}", "TURNGUARD_BASE_URL"),
        ("moderator: {api_key: '${MISSING_KEY}'}", "MISSING_KEY"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_place_and_code_2(
    run: Run, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    ran = run("check", "-c", file, "hello")
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert said in run("check", "-c", file, "--json", "hello").data["error"]


def test_a_configuration_that_cannot_be_read_is_code_2(run: Run, tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for name, said in (("absent.yaml", "No such file"), (str(tmp_path), "directory"), (str(binary), "UTF-8")):
        ran = run("check", "-c", name, "hello")
        assert ran.code == 2
        assert said in ran.err


# ---------------------------------------------------------------- files and stdin


def test_text_comes_from_a_pipe(run: Run, config: Path, fake: FakeVLLM) -> None:
    assert run("check", "-", stdin="piped words").code == 0
    assert run("check", stdin="\ufeffpiped words").code == 0
    chats = [request.chat for request in fake.chats]
    assert [chat.prompt for chat in chats if chat] == ["piped words", "piped words"]


def test_the_argument_wins_over_a_pipe(run: Run, config: Path, fake: FakeVLLM) -> None:
    run("check", "argument", stdin="piped")
    assert fake.chats[-1].chat is not None
    assert fake.chats[-1].chat.prompt == "argument"


@pytest.mark.parametrize("found", [png(), b"a\0b", "text".encode("utf-16")])
def test_binary_stdin_is_refused_not_judged_as_noise(run: Run, config: Path, fake: FakeVLLM, found: bytes) -> None:
    ran = run("check", "-", stdin=found)
    assert ran.code == 2
    assert "--image -" in ran.err
    assert fake.chats == []


def test_huge_stdin_is_uncheckable_and_nothing_is_sent(run: Run, config: Path, fake: FakeVLLM) -> None:
    ran = run("check", "-", stdin=b"ten million bytes " * 600_000)
    assert ran.code == 1
    assert "not judged" in ran.out
    assert fake.chats == []


def test_endless_stdin_ends(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnguard.cli._step.MAX_STDIN", 1_000_000)
    ran = run("check", "-", stdin=b"y\n" * 1_000_000)
    assert ran.code == 2
    assert "more than 1 MB" in ran.err


def test_a_picture_comes_from_a_file_a_pipe_a_fifo_or_a_data_uri(
    run: Run, config: Path, fake: FakeVLLM, tmp_path: Path
) -> None:
    (tmp_path / "red.png").write_bytes(png())
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(png(),))
    writer.start()
    uri = "data:image/png;base64," + __import__("base64").b64encode(png()).decode()
    for source, stdin in (("red.png", b""), ("-", png()), (str(fifo), b""), (uri, b"")):
        ran = run("check", "--json", "-i", source, "what is this", stdin=stdin)
        assert (ran.code, ran.data["coverage"]["not_judged"]) == (0, []), source
    writer.join()
    assert run("check", "-i", "red.png").code == 0
    assert all(request.chat is not None and len(request.chat.images) == 1 for request in fake.chats)


@pytest.mark.parametrize("option", ["--image", "--document"])
def test_a_file_that_cannot_be_opened_is_code_2(run: Run, config: Path, tmp_path: Path, option: str) -> None:
    for name, said in (("absent.png", "No such file"), (str(tmp_path), "folder"), ("-", "empty"), ("\0", "file name")):
        ran = run("check", option, name, "text")
        assert ran.code == 2
        assert said in ran.err


@pytest.mark.parametrize("option", ["--image", "--document"])
def test_a_file_that_cannot_be_read_as_what_it_should_be_is_uncheckable(
    run: Run, config: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "broken.bin").write_bytes(b"\xff\x00\x01\x02 neither a picture nor a document")
    ran = run("check", option, "broken.bin", "text")
    assert ran.code == 1
    assert "not judged" in ran.out


def test_control_characters_never_reach_the_terminal(run: Run, config: Path) -> None:
    ran = run("check", "--image", "\x1b[31mred.png\x07", "text")
    assert ran.code == 2
    assert "\x1b" not in ran.err


def test_what_needs_no_judgement_is_not_told_as_a_gap(run: Run, config: Path, tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("RGB", (3840, 2160), "white").save(out, "PNG")
    (tmp_path / "white.png").write_bytes(out.getvalue())
    ran = run("check", "--image", "white.png", "what is this")
    assert ran.code == 0
    assert "no judgement" in ran.out
    assert "not judged" not in ran.out
    skipped = run("check", "--json", "--image", "white.png", "what is this").data["coverage"]["not_judged"]
    assert skipped
    assert not any(entry["counts"] for entry in skipped)
