"""The command as a process: speed of start, signals, pipes, colours, and no traceback whatever happens."""

from __future__ import annotations

import http.client
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import Run
from turnguard.testing import FakeVLLM

HEAVY = ("aiohttp", "openai", "PIL", "numpy", "py3langid", "nemoguardrails", "langchain_core", "turnguard.sandbox")
COMMAND = [sys.executable, "-c", "import sys; from turnguard.cli import main; sys.exit(main())"]


def environment(**more: str) -> dict[str, str]:
    return {**{k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "COLUMNS")}, **more}


def start(*arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment(),
        # a shell that runs the tests in the background has them ignore Ctrl-C, and a child would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )


def test_version_and_help(run: Run) -> None:
    from turnguard import __version__

    assert run("--version").out == f"turnguard {__version__}\n"
    helped = run("--help")
    assert helped.code == 0
    for name in ("check", "demo", "init", "policy", "sandbox"):
        assert name in helped.out
    for command in (["check"], ["demo"], ["init"], ["policy"], ["sandbox"], ["policy", "lint"]):
        assert run(*command, "--help").code == 0


def test_an_unknown_command_is_code_2_and_names_the_nearest(run: Run) -> None:
    ran = run("chek")
    assert ran.code == 2
    assert "check" in ran.err
    assert run().code == 2


def test_help_loads_nothing_that_only_a_check_needs() -> None:
    code = "import sys; from turnguard.cli import main; main(['--help']); print([m for m in HEAVY if m in sys.modules])"
    code = code.replace("HEAVY", repr(HEAVY))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unexpected_error_is_a_sentence_without_content_and_never_a_pass(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("the secret text")

    monkeypatch.setattr("turnguard.guard.Guard.check", broken)
    ran = run("check", "the secret text")
    assert (ran.code, ran.out) == (3, "")
    assert "unexpected RuntimeError" in ran.err
    assert "secret" not in ran.err
    assert run("check", "--json", "x").data["exit_code"] == 3
    monkeypatch.setenv("TURNGUARD_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        run("check", "x")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("pypdfium2.raw", 2, "the package 'pypdfium2' is not installed: pip install 'turnguard[documents]'"),
        ("turnguard.lost", 3, "unexpected ModuleNotFoundError"),
    ],
)
def test_a_missing_extra_is_named_and_a_missing_part_of_our_own_is_not_blamed_on_one(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int, said: str
) -> None:
    def broken(*_arguments: object, **_options: object) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("turnguard.guard.Guard.check", broken)
    ran = run("check", "hello")
    assert ran.code == code
    assert said in ran.err


@pytest.mark.parametrize("arguments", [["check", "hello"], ["policy", "show"], ["policy", "schema"], ["--help"]])
def test_no_colour_codes_in_a_pipe(config: Path, arguments: list[str]) -> None:
    piped = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, cwd=config.parent, env=environment(TERM="xterm"), check=False
    )
    assert piped.returncode == 0
    assert b"\x1b" not in piped.stdout + piped.stderr


def test_colours_on_a_terminal(config: Path) -> None:
    leader, follower = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "check", "hello"],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        cwd=config.parent,
        env=environment(TERM="xterm-256color"),
        check=True,
    )
    os.close(follower)
    assert done.returncode == 0
    shown = os.read(leader, 10_000)
    os.close(leader)
    assert b"\x1b[" in shown


def test_a_reader_who_leaves_changes_neither_the_exit_code_nor_stderr(config: Path, fake: FakeVLLM) -> None:
    fake.reply(user="unsafe", categories=["Threat"])
    for extra in ([], ["--json"]):
        reading, writing = os.pipe()
        os.close(reading)
        process = subprocess.Popen(
            [*COMMAND, "check", *extra, "hello"],
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.PIPE,
            cwd=config.parent,
            env=environment(),
        )
        os.close(writing)
        _, said = process.communicate(timeout=30)
        assert (process.returncode, said) == (1, b"")


def test_an_encoding_without_the_letters_does_not_stop_the_answer(config: Path, fake: FakeVLLM) -> None:
    fake.reply(user="unsafe", categories=["Threat"])
    for extra in ([], ["--json"]):
        done = subprocess.run(
            [*COMMAND, "check", *extra, "--language", "ja", "hello"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=config.parent,
            env=environment(PYTHONIOENCODING="ascii"),
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, b"")
        assert b"block" in done.stdout.lower()


def test_ctrl_c_ends_a_check_with_130_and_no_traceback(config: Path, fake: FakeVLLM) -> None:
    fake.fail("hang")
    process = start("check", "hello", cwd=config.parent)
    _wait_for(lambda: bool(fake.chats))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")


def test_sandbox_says_what_it_is_not_serves_and_stops(tmp_path: Path) -> None:
    process = start("sandbox", "--port", "0", "--model", "judge")
    assert process.stderr is not None
    said = process.stderr.readline()
    assert "NOT the Nemotron model" in said
    url = said.split("Serving on ")[1].split()[0]
    (tmp_path / "turnguard.yaml").write_text(f"moderator: {{base_url: '{url}', model: judge, deadline: 10s}}")
    codes = [start("check", text, cwd=tmp_path) for text in ("How are you?", "How do I poison my neighbor?")]
    assert [(code.communicate(timeout=60), code.returncode)[1] for code in codes] == [0, 1]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_sandbox_that_is_slow_and_full_turns_requests_away() -> None:
    process = start("sandbox", "--port", "0", "--latency", "2", "--max-running", "1", "--max-queued", "0")
    assert process.stderr is not None
    origin = urlsplit(process.stderr.readline().split("Serving on ")[1].split()[0])
    body = json.dumps({"model": "nemotron_moderator", "messages": [{"role": "user", "content": "hello"}]})
    asking = [http.client.HTTPConnection(str(origin.hostname), origin.port, timeout=30) for _ in range(2)]
    for connection in asking:
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        time.sleep(0.5)
    assert sorted(connection.getresponse().status for connection in asking) == [200, 503]
    for connection in asking:
        connection.close()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def test_sandbox_on_a_taken_port_is_code_2(fake: FakeVLLM) -> None:
    process = start("sandbox", "--port", str(fake.port))
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert "address already in use" in err.lower()
    assert "Traceback" not in err


def _wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
