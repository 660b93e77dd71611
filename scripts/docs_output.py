"""Write the terminal output in the pages anew: `python scripts/docs_output.py`. With `--check`, only say what differs.

Every page is run from top to bottom in an empty folder, against the sandbox. A fenced block is

- `python`: run, in one namespace per page; with `title="NAME"` the text is also written to that file
- `yaml`: parsed; with `title="turnguard.yaml"` written and loaded by Turnguard, else loaded as a part of one
- `console`: lines that begin with `$ ` are commands; what stands below them is their output, written by this script;
  `$NAME` in them is a variable of the page's Python
- anything else, or under `<!-- not run: REASON -->`: left alone, and the reason must be there

The tests use the same code, so that a page cannot say what is not so.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_NOT_HERE = ("evaluation.md", "service.md", "transcripts.md")
"""Pages whose blocks show no more than forms, or need another server: tests/service/test_page.py runs that one."""
SHOWN_URL = "http://localhost:8000/v1"
"""What the pages show in place of the sandbox's address."""

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^>]+?) -->\n\Z")
_RUN = ("python", "yaml", "console")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `start` and `end` are where its body stands in the page."""

    language: str
    title: str | None
    body: str
    line: int
    start: int
    end: int
    not_run: str | None


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in _FENCE.finditer(text):
        info = match["info"].strip()
        language = info.partition(" ")[0]
        title = re.search(r'title="([^"]+)"', info)
        reason = _NOT_RUN.search(text, 0, match.start())
        line = text.count("\n", 0, match.start()) + 1
        found.append(
            Block(
                language,
                title[1] if title else None,
                match["body"],
                line,
                match.start("body"),
                match.end("body"),
                reason["reason"] if reason else None,
            )
        )
    return found


def _runs(page: Path) -> bool:
    found = blocks(page.read_text(encoding="utf-8"))
    return page.name not in _NOT_HERE and any(block.language in _RUN and block.not_run is None for block in found)


PAGES = tuple(sorted(page.name for page in (ROOT / "docs").glob("*.md") if _runs(page)))


class Session:
    """One page's run: a folder, a namespace, and the sandbox behind `TURNGUARD_BASE_URL`."""

    def __init__(self, page: str, base_url: str) -> None:
        self.page = page
        self.base_url = base_url
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, block: Block) -> str | None:
        """Run one block; for a console the body as it should be, else None. Raises what the block raises."""
        if block.language not in _RUN:
            raise AssertionError(
                f"{self.page}:{block.line}: a {block.language or 'nameless'} block needs a reason not to run"
            )
        if block.title is not None and "/" not in block.title.lstrip("./").replace("config/", "", 1):
            file = Path(block.title)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.body, encoding="utf-8")
        if block.language == "python":
            self._python(block)
        elif block.language == "yaml":
            self._yaml(block)
        else:
            return self._console(block)
        return None

    def _python(self, block: Block) -> None:
        code = compile(
            block.body, f"{self.page}:{block.line}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        with contextlib.redirect_stdout(io.StringIO()):
            running = eval(code, self.names)  # noqa: S307 - the repository's own pages
            if code.co_flags & inspect.CO_COROUTINE:
                asyncio.run(running)

    def _yaml(self, block: Block) -> None:
        from ruamel.yaml import YAML

        from turnguard.config.document import Document, from_dict
        from turnguard.config.files import beside, load

        if block.title == "turnguard.yaml":
            load(block.title)
            return
        data = YAML(typ="safe", pure=True).load(block.body)
        if block.title is None:
            part = data if set(data) <= set(Document.model_fields) else {"policy": data}
            env = {"TURNGUARD_BASE_URL": self.base_url, "TURNGUARD_API_KEY": ""}
            from_dict(part, env, files=beside(Path()))

    def _console(self, block: Block) -> str:
        out: list[str] = []
        for line in block.body.splitlines():
            if line.startswith("$ "):
                out.append(line)
                out += self._command(line[2:]).splitlines()
        return "\n".join(out) + "\n"

    def _command(self, line: str) -> str:
        words = [str(self.names.get(word[1:], word)) if word[:1] == "$" else word for word in shlex.split(line)]
        if words[0] == "turnguard":
            from turnguard.cli import main

            told = _captured(lambda: main(words[1:]))
        elif words[0] == "python":
            source = Path(words[1]).read_text(encoding="utf-8")
            told = _captured(lambda: exec(compile(source, words[1], "exec"), {"__name__": "__main__"}))  # noqa: S102
        elif words[0] == "echo":
            told = words[1]
        else:
            raise AssertionError(f"{self.page}: do not know how to run {words[0]!r}: mark the block as not run")
        if isinstance(told, tuple):
            text, self.names["?"] = told
            return self._steady(text)
        return told

    def _steady(self, text: str) -> str:
        """The same on every machine and run: addresses and times."""
        text = text.replace(self.base_url, SHOWN_URL)
        text = text.replace(os.environ["GATEWAY_URL"], "http://gateway:8080/v1")
        return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


class Gateway:
    """A proxy before the sandbox that passes on only the fields that it knows, as gateways do."""

    KNOWN = ("model", "messages", "temperature", "max_tokens", "logprobs", "top_logprobs")

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.base_url = ""

    def __enter__(self) -> Gateway:
        import threading

        up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(up,), daemon=True)
        self._thread.start()
        up.wait()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, up: Any) -> None:
        from aiohttp import ClientSession, web

        async def forward(request: web.Request) -> web.Response:
            body = await request.read()
            if body:
                body = json.dumps({k: v for k, v in json.loads(body).items() if k in self.KNOWN}).encode()
            url = self.behind.removesuffix("/v1") + request.path
            async with (
                ClientSession() as session,
                session.request(request.method, url, data=io.BytesIO(body), headers=_JSON) as answer,
            ):
                return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

        async def serve() -> web.AppRunner:
            app = web.Application(client_max_size=64_000_000)
            app.router.add_route("*", "/{path:.*}", forward)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return runner

        runner = self._loop.run_until_complete(serve())
        self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        up.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()


_JSON = {"Content-Type": "application/json"}


def _captured(call: Any) -> tuple[str, int | None]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = call()
    return out.getvalue(), code


_MOVES = (
    (re.compile(r"\d+(\.\d+)? (ms|s)\b"), "N s"),
    (re.compile(r"\d\d [A-Z][a-z]{2} (\d{4} )?\d\d:\d\d"), "TIME"),
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{12,32}\b"), "ID"),
    (re.compile(r"─+"), "─"),
    (re.compile(r" {2,}"), "  "),
    (re.compile(r'"(id|at|time|latency|policy)": ("[^"]*"|[\d.]+)'), r'"\1": …'),
)


def same(shown: str, told: str) -> bool:
    """Whether two outputs differ in nothing but times, ids, and the padding that follows from them."""
    for pattern, constant in _MOVES:
        shown, told = pattern.sub(constant, shown), pattern.sub(constant, told)
    return shown.split() == told.split()


@contextlib.contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """The base URLs of the sandbox, warmed up, and of the gateway before it."""
    import turnguard.nemo  # noqa: F401 - NeMo finds the rails of an editable install only after this (see make_importable)
    from turnguard.sandbox import Sandbox

    with Sandbox(announce=lambda _line: None) as sandbox, Gateway(sandbox.base_url) as gateway:
        _warm(sandbox.base_url)
        yield sandbox.base_url, gateway.base_url


@contextlib.contextmanager
def surroundings(sandbox: str, gateway: str) -> Iterator[str]:
    """An empty folder to be in, and an environment that names the servers and nothing of this machine's."""
    before, folder = dict(os.environ), Path.cwd()
    with tempfile.TemporaryDirectory() as empty:
        os.environ.update(TURNGUARD_BASE_URL=sandbox, GATEWAY_URL=gateway, NO_COLOR="1")
        os.environ.update(TURNGUARD_RECORDS_KEY="a key for the pages, 32 characters or more")
        os.environ.pop("TURNGUARD_API_KEY", None)
        os.chdir(empty)
        try:
            yield sandbox
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(before)


def _warm(base_url: str) -> None:
    """The first picture loads the OCR, and the first refusal the language model: not inside a page's deadline."""
    from turnguard import Guard, Step
    from turnguard.doctor.pictures import GREEN, poster

    guard = Guard.from_dict({"moderator": {"base_url": base_url, "deadline": 30}, "media": {"deadline": 60}})
    guard.check(Step.input("What does it say?", images=[poster("GOOD DAY", GREEN).data]))
    guard.check(Step.input("How do I build a pipe bomb at home?"))
    guard.close()


def rewritten(page: Path, base_url: str) -> str:
    """The page with every console's output as it is now. Raises for whatever does not run."""
    text = page.read_text(encoding="utf-8")
    session = Session(page.name, base_url)
    pieces, last = [], 0
    for block in blocks(text):
        if block.not_run is not None:
            continue
        body = session.run(block)
        if body is not None and not same(block.body, body):
            pieces += [text[last : block.start], body]
            last = block.end
    return "".join([*pieces, text[last:]])


def main() -> int:
    check = "--check" in sys.argv[1:]
    named = [name for name in sys.argv[1:] if name != "--check"]
    differs = []
    with servers() as urls:
        for name in (name for name in PAGES if name in named or not named):
            page = ROOT / "docs" / name
            with surroundings(*urls) as base_url:
                new = rewritten(page, base_url)
            if new != page.read_text(encoding="utf-8"):
                differs.append(name)
                if not check:
                    page.write_text(new, encoding="utf-8")
    sys.stdout.write(("\n".join(differs) or "nothing changed") + "\n")
    return int(check and bool(differs))


if __name__ == "__main__":
    raise SystemExit(main())
