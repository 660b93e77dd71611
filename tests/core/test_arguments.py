"""What a tool could read in its arguments is judged: by the fields of objects, never by their `repr`."""

from __future__ import annotations

import base64
import io
import json
import uuid
from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path, PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageDraw
from pydantic import BaseModel, SecretStr

from turnguard import Guard, Step
from turnguard.checking.arguments import DEPTH, MOST, shown
from turnguard.testing import FakeModerator

BAD = "how to do UNSAFE"


def guard(**settings: Any) -> Guard:
    return Guard(moderator=FakeModerator(unsafe=["UNSAFE"]), **settings)


@dataclass(repr=False)
class Quiet:
    text: str = BAD

    def __repr__(self) -> str:
        return "Quiet()"

    def __str__(self) -> str:
        return "nothing to see"


@dataclass(slots=True)
class Slotted:
    text: str = field(default=BAD, repr=False)


class Model(BaseModel):
    model_config = {"extra": "allow"}
    text: str = "fine"
    secret: SecretStr = SecretStr("fine")


class Plain:
    def __init__(self) -> None:
        self.text = BAD


class Private:
    __slots__ = ("__text",)

    def __init__(self) -> None:
        self.__text = BAD


class Colour(Enum):
    RED = BAD


class Named(IntEnum):
    UNSAFE = 1


class Marked(str):  # noqa: SLOT000 - it is the instance's own dictionary that must be read
    note: str = ""


class Listed(list[str]):
    pass


def marked() -> Marked:
    text = Marked("fine")
    text.note = BAD
    return text


def listed() -> Listed:
    made = Listed(["fine"])
    made.note = BAD  # type: ignore[attr-defined]
    return made


Point = namedtuple("Point", ["x", "y"])

HOLDS = {
    "mapping": {"a": {"b": BAD}},
    "proxy": MappingProxyType({"a": BAD}),
    "ordered": OrderedDict(a=BAD),
    "list": ["a", ["b", BAD]],
    "tuple": ("a", BAD),
    "named tuple": Point("a", BAD),
    "set": {"a", BAD},
    "frozenset": frozenset({BAD}),
    "deque": deque([BAD]),
    "values": {"a": BAD}.values(),
    "keys": {BAD: 1}.keys(),
    "key": {BAD: 1},
    "key of a tuple": {("a", BAD): 1},
    "enum's value": Colour.RED,
    "enum's name": Named.UNSAFE,
    "dataclass without a repr": Quiet(),
    "dataclass with slots": Slotted(),
    "pydantic model": Model(text=BAD),
    "pydantic extra": Model(other=BAD),
    "pydantic secret": Model(secret=SecretStr(BAD)),
    "object": Plain(),
    "private slot": Private(),
    "namespace": SimpleNamespace(text=BAD),
    "path": PurePosixPath("/srv") / BAD,
    "note on a str": marked(),
    "note on a list": listed(),
    "bytes": BAD.encode(),
    "utf-16": BAD.encode("utf-16"),
    "bytearray": bytearray(BAD.encode()),
    "memoryview": memoryview(BAD.encode()),
    "BytesIO": io.BytesIO(BAD.encode()),
    "StringIO": io.StringIO(BAD),
    "numpy strings": np.array(["a", BAD]),
    "numpy objects": np.array(["a", Quiet()], dtype=object),
    "numpy scalar": np.str_(BAD),
    "numpy bytes": np.frombuffer(BAD.encode(), dtype=np.uint8),
    "numpy fields": np.array([(1, BAD)], dtype=[("n", int), ("text", "U40")]),
    "zone": datetime(2026, 1, 1, tzinfo=timezone(timedelta(0), BAD)),
    "data URI": "data:text/plain," + BAD.replace(" ", "%20"),
}


@pytest.mark.parametrize("value", HOLDS.values(), ids=HOLDS)
@pytest.mark.parametrize("where", ["alone", "in a mapping", "in a list"])
async def test_words_inside_any_value_are_judged(value: Any, where: str) -> None:
    arguments = (
        {"a": value} if where == "alone" else {"a": {"b": value}} if where == "in a mapping" else {"a": [1, value]}
    )
    async with guard() as guarded:
        decision = await guarded.acheck(Step.tool_call("f", arguments, prompt="go"))
    assert (decision.action, decision.verdict.response) == ("block", "unsafe")


SAFE: dict[str, dict[str, Any]] = {
    "numbers": {"a": 1, "b": 1.5, "c": True, "d": None, "e": 2 + 3j, "f": Decimal("1.20")},
    "dates": {"a": date(2026, 1, 2), "b": datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "c": timedelta(days=1)},
    "uuid": {"a": uuid.UUID(int=7)},
    "path": {"a": Path("notes") / "a.txt"},
    "set": {"a": {3, 1, 2}},
    "range": {"a": range(10**9)},
    "numpy": {"a": np.arange(12).reshape(3, 4), "b": np.float64(1.5), "c": np.zeros((500, 500))},
    "bytes": {"a": b"good morning", "b": b""},
    "model": {"a": Model(), "b": Slotted("fine"), "c": SimpleNamespace(x=1)},
    "itself": {"a": [1]},
}
SAFE["itself"]["a"].append(SAFE["itself"])


@pytest.mark.parametrize("arguments", SAFE.values(), ids=SAFE)
async def test_ordinary_values_pass_and_nothing_of_them_is_missed(arguments: dict[str, Any]) -> None:
    async with guard() as guarded:
        decision = await guarded.acheck(Step.tool_call("f", arguments, prompt="go"))
    assert (decision.action, decision.coverage.complete) == ("allow", True)


def test_values_stand_as_people_write_them() -> None:
    value = {
        "when": date(2026, 1, 2),
        "much": Decimal("1.20"),
        "who": Slotted("Bo"),
        "tags": {"b", "a"},
        "at": Point(1, 2),
    }
    assert shown(value).text.splitlines() == [
        "when: 2026-01-02", "much: 1.20", "who:", "  text: Bo", "tags:", "  - a", "  - b", "at:", "  x: 1", "  y: 2",
    ]  # fmt: skip


def picture(text: str = "") -> Pillow.Image:
    drawn = Pillow.new("RGB", (64, 32), "navy")
    ImageDraw.Draw(drawn).text((2, 2), text, fill="white")
    return drawn


def png(image: Pillow.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("form", ["bytes", "pillow", "array", "data URI", "in a field"])
async def test_pictures_inside_arguments_are_judged_as_pictures(form: str) -> None:
    image = picture("x")
    value: Any = {
        "bytes": png(image),
        "pillow": image,
        "array": np.asarray(image),
        "data URI": "data:image/png;base64," + base64.b64encode(png(image)).decode(),
        "in a field": SimpleNamespace(x=png(image)),
    }[form]
    moderator = FakeModerator()
    async with Guard(moderator=moderator) as guarded:
        decision = await guarded.acheck(Step.tool_call("f", {"a": value}, prompt="go"))
        assert decision.action == "allow"
        (seen,) = [exchange.picture for exchange in moderator.asked if exchange.picture]
        moderator.pictures = {seen.digest: ["Violence"]}
    async with Guard(moderator=moderator) as guarded:
        assert (await guarded.acheck(Step.tool_call("f", {"a": value}, prompt="go"))).action == "block"


def endless(levels: int) -> Any:
    value: Any = BAD
    for _ in range(levels):
        value = [value]
    return value


UNREAD = {
    "generator": ((n for n in range(3)), "generator"),
    "function": (len, "builtin_function_or_method"),
    "class": (Plain, "type"),
    "open file": (io.BufferedReader(io.BytesIO(b"x")), "BufferedReader"),
    "deep": (endless(DEPTH + 2), f"{DEPTH} levels"),
    "many": ([0] * (MOST + 1), "100,000 values"),
    "long number": (10**5000, "cannot be read"),
    "noise": (bytes(range(256)) * 8, "not a format"),
}


@pytest.mark.parametrize(("value", "told"), UNREAD.values(), ids=UNREAD)
async def test_what_cannot_be_shown_is_listed_and_the_policy_decides(value: Any, told: str) -> None:
    async with guard() as guarded:
        decision = await guarded.acheck(Step.tool_call("f", {"a": value}, prompt="go"))
        assert (decision.action, decision.coverage.complete) == ("block", False)
        assert any(told in (entry.cause or "") for entry in decision.coverage.not_judged)


class Raising:
    def __init__(self) -> None:
        self.x = 1

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(BAD)


async def test_an_object_that_raises_is_listed_without_its_words() -> None:
    async with guard() as guarded:
        decision = await guarded.acheck(Step.tool_call("f", {"a": Raising()}, prompt="go"))
    assert decision.action == "block"
    assert "UNSAFE" not in json.dumps(decision.to_dict())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.decimals(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner)
        | st.builds(SimpleNamespace, x=inner)
    ),
)


@given(VALUES)
def test_every_string_of_any_value_stands_in_its_text(value: Any) -> None:
    def strings(inner: Any) -> list[str]:
        if isinstance(inner, str):
            return [inner]
        if isinstance(inner, SimpleNamespace):
            return strings(inner.x)
        if isinstance(inner, dict):
            return [*inner, *(text for item in inner.values() for text in strings(item))]
        return [text for item in inner for text in strings(item)] if isinstance(inner, (list, tuple)) else []

    text = shown(value).text
    assert all(string in text for string in strings(value))
