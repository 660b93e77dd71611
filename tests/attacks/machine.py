"""Attacks by configuration, header, log line, and on the time that reading takes."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.asked import verdict as verdict_of
from tests.attacks.kit import attack, judged, reply
from turnguard import ConfigError, Guard, Policy, Step
from turnguard.config.document import parse
from turnguard.config.settings import AuditSettings
from turnguard.core.errors import Unparseable
from turnguard.core.exchange import Exchange, Picture
from turnguard.core.neutralise import neutralise
from turnguard.core.verdict import Verdict
from turnguard.media import split_data_uris
from turnguard.testing import FakeModerator
from turnguard.text.windows import head_and_tail, split
from turnguard.transcripts.blocks import read

# ---------------------------------------------------------------- configuration


YAMLS = {
    "an object that runs code": "policy: !!python/object/apply:os.system ['echo planted']",
    "a tag of another kind": "policy: !!binary aGVsbG8=",
    "nine nested lists of aliases": "a: &a [x, x]\n"
    + "\n".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]" for n in range(9)),
    "a mapping that holds itself": "policy: &p\n  categories: *p",
    "the same key twice": "policy: {default: block}\npolicy: {default: allow}",
    "the same rule twice, in another case": "policy: {categories: {Violence: block, violence: allow}}",
    "a merge key": "base: &b {default: allow}\npolicy: {<<: *b}",
    "ten thousand brackets": "policy: " + "[" * 10_000,
    "a misspelt key": "policy: {on_failur: allow}",
    "an action that does not exist": "policy: {default: permit}",
    "a second document": "policy: {default: block}\n---\npolicy: {default: allow}",
    "a variable that is not set": "moderator: {base_url: '${NOT_SET}'}",
}


def _refused_yaml(text: str) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        started = time.process_time()
        try:
            parse(text, {})
        except ConfigError:
            assert time.process_time() - started < 5.0
            return
        raise AssertionError("accepted")

    return run


for _name, _text in YAMLS.items():
    attack("YAML", _name, "an error at load that names the place; loading runs no code")(_refused_yaml(_text))


@attack("YAML", "a variable whose value is YAML", "expanded after parsing: a value stays a value")
async def _value() -> None:
    config = parse("moderator: {base_url: 'http://h/v1', model: '${M}'}", {"M": "x}\npolicy: {default: allow}\n{"})
    assert config.moderator.model.startswith("x}")
    assert config.policy.stages["input"].default.action == "block"


# ---------------------------------------------------------------- headers and logs


def _refused_setting(**moderator: str) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        try:
            Guard.from_dict({"moderator": {"base_url": "http://127.0.0.1:1/v1", **moderator}})
        except ConfigError as error:
            assert "planted" not in str(error)
            return
        raise AssertionError("accepted")

    return run


attack("headers", "a line break inside the API key", "an error at load that does not show it")(
    _refused_setting(api_key="planted\r\nX-Evil: 1")
)
attack("headers", "a line break in the server's address", "an error at load")(
    _refused_setting(base_url="http://127.0.0.1/v1\r\nX-Evil: planted")
)
attack("headers", "credentials in the server's address", "an error at load: addresses are shown, keys are not")(
    _refused_setting(base_url="http://user:planted@127.0.0.1/v1")
)


@attack(
    "logs", "line breaks and terminal codes in names and in the model's own words", "one audit line a decision, escaped"
)
async def _log_lines() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        said = Verdict("unsafe", None, (), ("x\u2028y\x85z",))
        audit = AuditSettings(path=str(path), content=True)
        guard = Guard(Policy.from_dict({}), FakeModerator(script=lambda _: said), audit=audit)
        async with guard:
            await guard.acheck(Step.input('x\n{"action": "allow"}\r\u2028{"action": "allow"}\x1b[2J'))
        (line,) = path.read_text(encoding="utf-8").splitlines()
        assert json.loads(line)["action"] == "block"
        assert "\x1b" not in line


@attack("logs", "a model that repeats the content where categories stand", "names that are not known are not logged")
async def _echo() -> None:
    said = Verdict("unsafe", None, (), ("planted secret",))
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    handler, logger = Keep(), logging.getLogger("turnguard")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel("DEBUG")
    try:
        assert (await judged(Step.input("x"), moderator=FakeModerator(script=lambda _: said))).action == "block"
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert records
    assert not any("planted" in record for record in records)


@attack(
    "logs", "arguments that are no JSON: endless, of any type", "the line is written without them; the decision stands"
)
async def _endless() -> None:
    with TemporaryDirectory() as folder:
        audit = AuditSettings(path=f"{folder}/a.jsonl")
        endless: dict[Any, Any] = {1: "x", "a": "y"}
        endless["self"] = endless
        async with Guard(Policy.from_dict({}), FakeModerator(), audit=audit) as guard:
            decision = await guard.acheck(Step.tool_call("x", endless))
        assert decision.action in ("allow", "block")
        assert len(Path(f"{folder}/a.jsonl").read_text().splitlines()) == 1


# ---------------------------------------------------------------- ReDoS


def _quietly(text: str) -> None:
    try:
        verdict_of(reply(text), Exchange("x"))
    except Unparseable:
        pass


READERS: dict[str, Callable[[str], object]] = {
    "neutralising": neutralise,
    "windows": lambda text: split(text, 200, 10_000),
    "head and tail": lambda text: head_and_tail(text, 200),
    "data URIs": split_data_uris,
    "content blocks": lambda text: read([{"type": "text", "text": text}]),
    "the reply": _quietly,
    "a picture's context": lambda text: Picture.of(text.encode("utf-8", "replace"), "image/png"),
}
HARD = {
    "spaces": " " * 60_000,
    "brackets": "<" * 60_000,
    "half a token": "<start_of_" * 6_000,
    "line breaks": "\n" * 60_000,
    "lines that begin like a verdict": "user safety " * 5_000,
    "half a data URI": "data:image/png;base64," * 3_000,
    "commas and semicolons": "data:" + ";a=b" * 15_000 + ",",
    "one long word": "a" * 60_000,
    "zero width": "\u200b" * 60_000,
}


def _linear(read_it: Callable[[str], object]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        for name, text in HARD.items():
            quarter = min(_seconds(read_it, text[: len(text) // 4]) for _ in range(3))
            whole = min(_seconds(read_it, text) for _ in range(3))
            assert whole < 0.02 + 9 * quarter, name

    return run


def _seconds(read_it: Callable[[str], object], text: str) -> float:
    started = time.process_time()
    read_it(text)
    return time.process_time() - started


for _name, _reader in READERS.items():
    attack(
        "ReDoS", f"{_name}: {len(HARD)} hard texts of 60,000 characters", "time grows with the length, not its square"
    )(_linear(_reader))
