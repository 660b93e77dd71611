"""The coverage matrix: in every cell unsafe content reaches neither main model, caller nor a later prompt, or it raises.

Each cell runs twice. With unsafe content, everything that the main model was sent, everything that the caller got, and the
prompts of a turn after it are searched for it. With safe content of the same shape, the turn must go through. Both times the cell
knows each text and each picture that the moderator must have seen, and exactly one request holds it (where one of them was
unsafe, at most one). A stream's requests are its windows, each once; the last is the full text, which is judged no second time.
`make docs-tables` writes the table to `docs/coverage/nemo.md`.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from nemoguardrails.types import LLMResponse

from tests.nemo.guarded_lab import GuardedLab, MainServer, as_message, main_server
from tests.nemo.lab import BAD, BLUE, GREEN, QUIET, RED, Lab, assistant, call, called, colour, leaks, result, user
from tests.nemo.test_colang2 import Lab2
from turnguard.core.exchange import Exchange

pytestmark = [QUIET, pytest.mark.filterwarnings("ignore:Accessing the 'model_fields' attribute:DeprecationWarning")]

DOCUMENT = Path(__file__).parents[2] / "docs" / "coverage" / "nemo.md"
Message = dict[str, Any]


def pdf(text: str) -> str:
    """A one-page document that says `text`, as a data URI."""
    stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 500 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"xref\n0 6\n0000000000 65535 f \n%strailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(body),
    )
    return "data:application/pdf;base64," + base64.b64encode(body + end).decode()


@dataclass(frozen=True)
class Seen:
    """A request that the moderator must have had once: the stage, what of its text is under test, and its picture."""

    stage: str
    text: str
    picture: str | None = None

    def is_in(self, exchange: Exchange) -> bool:
        """Whether this request is the one."""
        text = exchange.prompt if exchange.response is None else exchange.response
        pictured = colour(exchange) if exchange.response is None else None
        return exchange.stage == self.stage and self.text in text and pictured == self.picture


@dataclass(frozen=True)
class Turn:
    """What is sent, what the main model replies, what the moderator must see, and what of it a leak would show."""

    messages: tuple[Message, ...]
    reply: Any
    seen: tuple[Seen, ...]
    marks: tuple[str, ...] = ()
    passthrough: bool = True


def _file(text: str) -> Message:
    return {"type": "file", "file": {"file_data": pdf(text), "filename": "a.pdf"}}


def _text(word: str, name: str) -> Turn:
    return Turn((user(f"{name} {word}"),), "fine", (Seen("input", f"{name} {word}"),))


def _pictures(word: str, *, several: bool) -> dict[str, str]:
    """Colour and data URI of each; the last one is the one under test."""
    last = {"red": RED} if word == BAD else {"green": GREEN}
    return {"blue": BLUE, **last} if several else last


def _images(*, several: bool) -> Callable[[str, str], Turn]:
    def made(word: str, name: str) -> Turn:
        pictures = _pictures(word, several=several)
        return Turn((user(name, *pictures.values()),), "fine", tuple(Seen("input", name, each) for each in pictures))

    return made


def _pages(stage: str, word: str, name: str) -> tuple[Seen, ...]:
    """A page is judged by its text and by how it looks."""
    return Seen(stage, f"{name} {word}"), Seen(stage, "", "page")


def _document(word: str, name: str) -> Turn:
    content = [{"type": "text", "text": name}, _file(f"{name} {word}")]
    marks = (pdf(f"{name} {word}")[28:],)
    return Turn(({"role": "user", "content": content},), "fine", _pages("input", word, name), marks)


def _output(word: str, name: str) -> Turn:
    reply = f"this is for {name}: {word}, as you asked"
    return Turn((user(name),), reply, (Seen("output", reply),))


def _call(word: str, name: str) -> Turn:
    return Turn((user(name),), call(arguments={"what": f"{name} {word}"}), (Seen("tool_call", f"{name} {word}"),))


def _result(content: Any, seen: tuple[Seen, ...], word: str, name: str) -> Turn:
    return Turn((user(name), called(), result(content)), "fine", seen, (pdf(f"{name} {word}")[28:],))


def _told(word: str, name: str) -> Turn:
    return _result(f"result {name} {word}", (Seen("tool_result", f"result {name} {word}"),), word, name)


def _shots(*, several: bool) -> Callable[[str, str], Turn]:
    def made(word: str, name: str) -> Turn:
        pictures = _pictures(word, several=several)
        images = [{"type": "image_url", "image_url": {"url": url}} for url in pictures.values()]
        seen = tuple(Seen("tool_result", f"result {name}", each) for each in pictures)
        return _result([{"type": "text", "text": f"result {name}"}, *images], seen, word, name)

    return made


def _printed(word: str, name: str) -> Turn:
    return _result([_file(f"{name} {word}")], _pages("tool_result", word, name), word, name)


def _chunk(word: str, name: str) -> Turn:
    context = {"role": "context", "content": {"relevant_chunks": f"{name} {word}"}}
    return Turn((context, user(name)), "fine", (Seen("retrieval", f"{name} {word}"),), passthrough=False)


CELLS: dict[str, Callable[[str, str], Turn]] = {
    "input: text": _text,
    "input: image": _images(several=False),
    "input: several images": _images(several=True),
    "input: document": _document,
    "tool call: arguments": _call,
    "tool result: text": _told,
    "tool result: image": _shots(several=False),
    "tool result: several images": _shots(several=True),
    "tool result: document": _printed,
    "retrieval: text": _chunk,
    "output: text": _output,
}


@dataclass
class Row:
    """An entry point of one engine. `send` gives everything that the caller gets; `unsupported` says why a cell has none."""

    engine: str
    entry: str
    parallel: bool = False
    unsupported: dict[str, str] = field(default_factory=dict)
    closing: bool = False
    server: MainServer | None = None
    """The entry point is asked about an answer that stands in the messages, and calls no main model."""
    labs: dict[bool, Any] = field(default_factory=dict)

    def lab(self, passthrough: bool) -> Any:
        """The app for this row, made once per mode."""
        if passthrough not in self.labs:
            if self.engine == "2.x":
                self.labs[passthrough] = Lab2()
            elif self.server is not None:
                self.labs[passthrough] = GuardedLab(self.engine, self.server, passthrough=passthrough)
            else:
                self.labs[passthrough] = Lab(parallel=self.parallel, passthrough=passthrough)
        return self.labs[passthrough]

    @property
    def name(self) -> str:
        """As the table shows it."""
        if self.server is not None:
            return f"`guarded`, {self.engine} | {self.entry}"
        ways = {"1.0": ", parallel rails" if self.parallel else "", "2.x": ""}[self.engine]
        return f"drop-in, Colang {self.engine}{ways} | {self.entry}"


async def generate(lab: Any, messages: list[Message]) -> Any:
    return await lab.rails.generate_async(messages=messages)


async def stream(lab: Any, messages: list[Message]) -> Any:
    return [chunk async for chunk in lab.rails.stream_async(messages=messages)]


async def check(lab: Any, messages: list[Message]) -> Any:
    return await lab.rails.check_async(messages)


async def runnable(lab: Any, messages: list[Message]) -> Any:
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
    from nemoguardrails.integrations.langchain.runnable_rails import RunnableRails

    if "runnable" not in vars(lab):
        lab.runnable = RunnableRails.__new__(RunnableRails)
        RunnableRails.__init__(lab.runnable, lab.rails.config, passthrough=bool(lab.rails.config.passthrough))
        lab.runnable.rails = lab.rails
    made: list[Any] = []
    context = None
    for message in messages:
        if message["role"] == "context":
            context = message["content"]
        elif message["role"] == "user":
            made.append(HumanMessage(message["content"]))
        elif message["role"] == "tool":
            made.append(ToolMessage(message["content"], tool_call_id=message["tool_call_id"]))
        else:
            calls = [{"name": "shot", "args": {}, "id": "c1", "type": "tool_call"}] if message.get("tool_calls") else []
            made.append(AIMessage(message["content"] or "", tool_calls=calls))
    if context is not None:
        return await lab.runnable.ainvoke({"input": made[-1].content, "context": context})
    return await lab.runnable.ainvoke(made)


async def _post(lab: Any, path: str, body: Message) -> Any:
    httpx = pytest.importorskip("httpx")
    api = pytest.importorskip("nemoguardrails.server.api", reason="the nemo-server extra is not installed")
    api.llm_rails_instances["lab:main"] = lab.rails
    # the wire's tool messages have no name
    body["messages"] = [{key: value for key, value in message.items() if key != "name"} for message in body["messages"]]
    transport = httpx.ASGITransport(app=api.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        answer = await client.post(path, json={"model": "main", "guardrails": {"config_id": "lab"}, **body})
    assert answer.status_code == 200, answer.text
    return answer.text


async def server(lab: Any, messages: list[Message]) -> Any:
    return await _post(lab, "/v1/chat/completions", {"messages": messages})


async def server_stream(lab: Any, messages: list[Message]) -> Any:
    return await _post(lab, "/v1/chat/completions", {"messages": messages, "stream": True})


async def server_check(lab: Any, messages: list[Message]) -> Any:
    return await _post(lab, "/v1/checks", {"messages": messages})


NO_MODEL = "n/a: no main model"
NO_CALLS = "n/a: streams carry no tool calls"
TEXT_ONLY = "n/a: takes text only"
SHOTS = dict.fromkeys(("tool result: image", "tool result: several images", "tool result: document"), TEXT_ONLY)
ENTRIES: dict[str, tuple[Callable[[Any, list[Message]], Any], dict[str, str]]] = {
    "generate_async": (generate, {}),
    "stream_async": (stream, {"tool call: arguments": NO_CALLS}),
    "check_async": (check, {"retrieval: text": NO_MODEL}),
    "RunnableRails": (runnable, {}),
    "server, /v1/chat/completions": (server, SHOTS),
    "server, streaming": (server_stream, {**SHOTS, "tool call: arguments": NO_CALLS}),
    "server, /v1/checks": (server_check, {**SHOTS, "retrieval: text": NO_MODEL}),
}
RAISES = "not supported: raises"
NOT_IN_2: dict[str, str] = {name: RAISES for name in CELLS if name.startswith(("tool result", "retrieval"))} | {
    "tool call: arguments": "not supported: refused at load"
}


def rows(main: MainServer) -> list[Row]:
    """Every entry point of guarded engines, and of the drop-in, sequential and parallel, for both versions of Colang."""
    made = []
    for engine in ("IORails", "LLMRails"):
        for entry in ("generate_async", "stream_async", "check_async"):
            lost = {"tool call: arguments": NO_CALLS} if (engine, entry) == ("LLMRails", "stream_async") else {}
            made.append(Row(engine, entry, unsupported=lost, closing="check" in entry, server=main))
    for entry, (_, unsupported) in ENTRIES.items():
        for parallel in (False, True):
            made.append(Row("1.0", entry, parallel, unsupported, closing="check" in entry))
    made.append(Row("2.x", "generate_async", parallel=False, unsupported=NOT_IN_2))
    for entry in ("stream_async", "check_async"):
        refused = {**dict.fromkeys(CELLS, RAISES), "tool call: arguments": "not supported: refused at load"}
        made.append(Row("2.x", entry, parallel=False, unsupported=refused))
    return made


def _prepared(row: Row, turn: Turn) -> tuple[Any, list[Message]]:
    lab = row.lab(turn.passthrough)
    _script(lab, LLMResponse(content=turn.reply) if isinstance(turn.reply, str) else turn.reply)
    lab.main.prompts.clear()
    lab.moderator.asked.clear()
    messages = list(turn.messages)
    if row.closing and isinstance(turn.reply, str) and turn.reply != "fine":
        messages.append(assistant(turn.reply))
    elif row.closing and not isinstance(turn.reply, str):
        arguments = turn.reply.tool_calls[0].function.arguments
        messages.append(called(str(arguments).replace("'", '"')))
    return lab, messages


def _script(lab: Any, reply: LLMResponse) -> None:
    """Let the main model say this from now on."""
    lab.main._llm_responses = [reply] * 10
    lab.main.inference_count = 0
    if isinstance(lab, GuardedLab):
        lab.server.replies = [as_message(reply)]
        lab.server.pause = 0.01  # a stream comes in more than one piece


def _found(value: Any, turn: Turn) -> bool:
    return leaks(value) or any(mark in repr(value) for mark in turn.marks)


def _require_seen_once(lab: Any, turn: Turn, label: str, *, streaming: bool, unsafe: bool) -> None:
    """The moderator had each thing under test in one request, and no request twice."""
    asked = lab.moderator.asked
    found: list[int] = []
    windowed = streaming and turn.seen[0].stage == "output"
    for seen in turn.seen:
        if windowed:
            windows = [each.response for each in asked if each.stage == "output"]
            assert all(one != two and two.startswith(one) for one, two in itertools.pairwise(windows)), (label, windows)
            assert len(windows) > 1, f"{label}: more than one window: {windows}"
            assert turn.reply.startswith(windows[-1]), (label, windows)
            assert BAD in windows[-1] or windows[-1] == turn.reply, f"{label}: all of it: {windows}"
            continue
        found.append(sum(seen.is_in(each) for each in asked))
    # what is unsafe need not be looked at from every side
    assert set(found) <= ({0, 1} if unsafe else {1}), f"{label}: {turn.seen} were seen {found} times in {asked}"
    assert 1 in found or windowed, f"{label}: nobody saw it: {asked}"
    every = [(each.stage, each.prompt, each.response, each.picture and each.picture.digest) for each in asked]
    assert len(every) == len(set(every)), f"{label}: judged twice: {every}"


async def cell(row: Row, name: str) -> str:
    """Run one cell; what the table says of it."""
    send = ENTRIES[row.entry][0]
    label = f"{row.name} {name}".replace(" | ", " ").replace("`", "")
    why = row.unsupported.get(name, "")
    if why.startswith("n/a") or why.endswith("load"):
        return why
    bad = CELLS[name](BAD, label)
    lab, messages = _prepared(row, bad)
    if why == RAISES:
        with pytest.raises((ValueError, AttributeError)):
            await send(lab, messages)
        assert lab.main.prompts == []
        return why
    got = await send(lab, messages)
    _require_seen_once(lab, bad, label, streaming="stream" in row.entry, unsafe=True)
    assert not _found(lab.main.prompts, bad), f"{label}: the main model was sent it"
    assert not _found(got, bad), f"{label}: the caller got it: {got!r}"
    assert row.closing or name in ("output: text", "tool call: arguments") or lab.main.prompts == [], label
    if row.engine != "2.x" and not row.closing:
        lab.main.prompts.clear()
        _script(lab, LLMResponse(content="fine"))
        past = [message for message in messages if message["role"] != "context"]
        await send(lab, [*past, assistant("no"), user("and now?")])
        assert not _found(lab.main.prompts, bad), f"{label}: a later prompt held it"
        assert lab.main.prompts, f"{label}: the turn after it goes on"
    good = CELLS[name]("nice", f"{label} again")
    lab, messages = _prepared(row, good)
    got = await send(lab, messages)
    assert "NO WAY" not in repr(got), f"{label}: safe content was refused: {got!r}"
    text_alone = row.engine == "2.x" and name in ("input: image", "input: several images", "input: document")
    assert row.closing or text_alone or lab.main.prompts, f"{label}: the main model was not asked"
    _require_seen_once(lab, good, label, streaming="stream" in row.entry, unsafe=False)
    return "guarded, and no answer" if text_alone else "guarded"


HEAD = """<!-- Written by `make docs-tables`; do not edit. -->

# What the NeMo Guardrails rails cover

`guarded` around an engine without rails of its own; the drop-in with every rail configured (`checked_rails`). **guarded**: in a run with unsafe content it reached neither the main model, nor
the caller, nor a later prompt; in a run with safe content the turn went through; both times the moderator saw each text and each
picture of it in exactly one request (of a stream: each window once, and the full text with the last). **not supported**: loading or the call raises. **n/a**: the entry point cannot carry it: NeMo's streams carry no
tool calls, `check` runs no main model, the server's tool messages hold text only, NeMo's answers and retrieved chunks are text.
**no answer**: our rail judges it, and NeMo's own main-model action of Colang 2.x then takes text alone and says nothing.

"""


async def document() -> str:
    """The matrix as a page, after running each cell."""
    lines = [f"| way | entry point | {' | '.join(CELLS)} |", "|" + " --- |" * (2 + len(CELLS))]
    with main_server() as main:
        for row in rows(main):
            cells = [await cell(row, name) for name in CELLS]
            lines.append(f"| {row.name} | {' | '.join(cells)} |")
            for each in row.labs.values():
                if isinstance(each, GuardedLab):
                    await each.aclose()
    return HEAD + "\n".join(lines) + "\n"


async def test_a_third_of_the_cells_of_each_entry_point_has_no_leak() -> None:
    pytest.importorskip("fastapi", reason="the nemo-server extra is not installed")
    with main_server() as main:
        for number, row in enumerate(rows(main)):
            for name in list(CELLS)[number % 3 :: 3]:
                await cell(row, name)
            for each in row.labs.values():
                if isinstance(each, GuardedLab):
                    await each.aclose()


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
async def test_the_matrix_has_no_leaking_cell_and_the_generated_page_is_current() -> None:
    pytest.importorskip("fastapi", reason="the nemo-server extra is not installed")
    assert DOCUMENT.read_text(encoding="utf-8") == await document(), "run `make docs-tables`"
