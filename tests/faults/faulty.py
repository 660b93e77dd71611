"""Every fault: how it is planted, and what a guard that fails closed must make of it."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from turnguard import Guard, Verdict
from turnguard.core.action import Action
from turnguard.core.exchange import Exchange
from turnguard.moderators.base import Deadline
from turnguard.moderators.endpoints import Breaker, Endpoints
from turnguard.moderators.gate import Gated
from turnguard.testing import FakeVLLM, Fault, faults

DEADLINE = {1: 1.0, 2: 2.0}
"""Seconds, by the number of replicas. Long enough for a retry, short enough for a thousand cells."""
MARK = "MARKED"
"""Stands in the content that a cell is about: only requests with it meet the fault."""
FDS = Path("/proc/self/fd")


@dataclass(frozen=True)
class World:
    """Two servers, and guards that ask the first alone or both: one for each action of `on_failure`."""

    one: FakeVLLM
    two: FakeVLLM
    replicas: int
    guards: dict[Action, Guard] = field(default_factory=dict)

    def under(self, action: Action) -> Guard:
        """The guard whose failures end so."""
        if action not in self.guards:
            urls = [self.one.base_url, self.two.base_url][: self.replicas]
            self.guards[action] = Guard.from_dict(settings(urls, DEADLINE[self.replicas], action))
        return self.guards[action]

    @property
    def guard(self) -> Guard:
        """The one that fails closed."""
        return self.under("block")

    def refresh(self) -> None:
        """As after a quiet minute: no fault, no memory of failures."""
        for server in (self.one, self.two):
            server.heal()
            _until_it_listens(server)
        for guard in self.guards.values():
            for endpoint in _endpoints(guard).endpoints:
                endpoint.breaker = Breaker()


@dataclass(frozen=True)
class Case:
    """A fault. `failure` is what the decision must call it; None: it is answered all the same, and the check must pass.

    `plant` is given the guard that meets it too. `cold`: no connection is open when it begins, and all content meets it.
    """

    name: str
    plant: Callable[[World, Guard], AbstractContextManager[None]]
    failure: str | None
    replicas: int = 1
    cold: bool = False


CASES: list[Case] = []
BLOCKED: tuple[Action, ...] = ("block", "review")
"""What withholds content."""
LENIENT: tuple[Action, ...] = ("review", "flag", "allow")
KINDS = ("reset before the reply", "hang", "HTTP 400", "200, prose", "a full queue")
"""One fault of each failure, and one that never reaches a server: the lenient policies run with these."""


def expected(case: Case, action: Action) -> str:
    """What must become of the content: "passes" or "withheld"."""
    return "passes" if case.failure is None or action not in BLOCKED else "withheld"


def _server(name: str, fault: Fault, failure: str | None, replicas: int = 1) -> None:
    @contextmanager
    def plant(world: World, _guard: Guard) -> Iterator[None]:
        for server in (world.one, world.two)[:replicas]:
            server.fail(fault, when=MARK)
        yield

    CASES.append(Case(name, plant, failure, replicas))


def _case(
    name: str, failure: str | None, replicas: int = 1, *, cold: bool = False
) -> Callable[[Callable[[World, Guard], Iterator[None]]], None]:
    def note(plant: Callable[[World, Guard], Iterator[None]]) -> None:
        CASES.append(Case(name, contextmanager(plant), failure, replicas, cold))

    return note


NO_MESSAGES = {"error": {"message": "list index out of range", "type": "Bad Request", "param": None, "code": 400}}
DETAILS = {"detail": [{"loc": ["body", "messages"], "msg": "Field required", "type": "missing"}]}
WRONG_TYPE = Fault("wrong_type", "reply", body=b"I think that it is safe.", headers={"content-type": "text/plain"})

_server("refused", faults.refused(0.3), "unavailable")
_server("reset before the reply", faults.reset(), "unavailable")
_server("reset during the reply", faults.reset_during_reply(), "unavailable")
_server("slow headers, a byte a second", faults.slow_headers(1.0), "timeout")
_server("slow body, a byte a second", faults.slow_body(1.0), "timeout")
_server("hang", faults.hang(), "timeout")
for _code in (400, 403, 405, 409, 422):  # 413 says that content does not fit, which is no fault
    _server(f"HTTP {_code}", faults.status(_code), "rejected")
_server("HTTP 401 with a string for an error", faults.unauthorized(), "rejected")
_server("HTTP 404, unknown model", faults.unknown_model(), "rejected")
_server("HTTP 404, unknown path", faults.not_found(), "rejected")
_server("HTTP 400, unreadable image", faults.bad_image(), "rejected")
_server("HTTP 400, too many images", faults.too_many_images(), "rejected")
_server("HTTP 400, no messages", faults.status(400, NO_MESSAGES), "rejected")
_server("HTTP 400 with a page", faults.html(400), "rejected")
_server("HTTP 422 with a list of details", faults.status(422, DETAILS), "rejected")
_server("HTTP 307", faults.status(307), "rejected")
_server("HTTP 429", faults.too_many_requests(), "unavailable")
_server("HTTP 429, Retry-After 60", faults.too_many_requests(60.0), "unavailable")
_server("HTTP 429, Retry-After a date", faults.status(429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), "unavailable")
_server("HTTP 500, connection closed unsaid", faults.crash(), "unavailable")
_server("HTTP 500, image too large", faults.image_too_large(), "unavailable")
_server("HTTP 500 with an empty string", faults.status(500, ""), "unavailable")
_server("HTTP 501", faults.status(501), "unavailable")
_server("HTTP 502 with a page", faults.html(502), "unavailable")
_server("HTTP 503, queue full", faults.busy(), "unavailable")
_server("HTTP 503, Retry-After 60", faults.busy(60.0), "unavailable")
_server("HTTP 504", faults.status(504), "unavailable")
_server("200 with a page", faults.html(), "unparseable")
_server("200, truncated JSON", faults.truncated_json(), "unparseable")
_server("200, a list", faults.json_body([1]), "unparseable")
_server("200, prose under a wrong content type", WRONG_TYPE, "unparseable")
_server("200, a verdict under a wrong content type", faults.wrong_content_type(), None)
_server("200 with an error inside", faults.json_body({"error": {"message": "x", "code": 500}}), "unparseable")
_server("200, three megabytes", faults.json_body("x" * 3_000_000), "unparseable")
_server("200, no choices", faults.empty_choices(), "unparseable")
_server("200, null content", faults.null_content(), "unparseable")
_server("200, prose", faults.content("I think that this is safe."), "unparseable")
_server("200, half a label", faults.content("User Safety: sa"), "unparseable")
_server("200, finish_reason abort", faults.finish_reason("abort"), "unparseable")
_server("200, finish_reason length", faults.finish_reason("length"), "unparseable")
_server("both replicas: reset", faults.reset(), "unavailable", 2)
_server("both replicas: hang", faults.hang(), "timeout", 2)


@_case("one of two replicas dead", None, 2)
def _half(world: World, _guard: Guard) -> Iterator[None]:
    with world.one.down():
        yield


@_case("both replicas dead", "unavailable", 2, cold=True)
def _both(world: World, _guard: Guard) -> Iterator[None]:
    with world.one.down(), world.two.down():
        yield


@_case("one of two replicas hangs", None, 2)
def _one_hangs(world: World, _guard: Guard) -> Iterator[None]:
    world.one.fail(faults.hang(), when=MARK)
    yield


@_case("one of two replicas flapping", None, 2)
def _flapping(world: World, _guard: Guard) -> Iterator[None]:
    world.one.fail(faults.reset(), when=MARK, probability=0.5)
    yield


@_case("a full queue", "unavailable")
def _full(_world: World, guard: Guard) -> Iterator[None]:
    gate = _gate(guard)
    judge = gate.judge

    async def judged(exchange: Exchange, deadline: Deadline) -> Verdict:
        if MARK not in exchange.prompt + (exchange.response or ""):
            return await judge(exchange, deadline)
        with mock.patch.object(gate, "max_in_flight", 0), mock.patch.object(gate, "max_waiting", 0):
            return await judge(exchange, deadline)

    with mock.patch.object(gate, "judge", judged):
        yield


@_case("hang while the wall clock jumps by days", "timeout")
def _clock(world: World, _guard: Guard) -> Iterator[None]:
    world.one.fail(faults.hang(), when=MARK)
    real: Callable[[], float] = time.time
    jumps = iter(range(10**9))

    def jumping() -> float:
        return real() + (9 if next(jumps) % 2 else -9) * 86_400.0

    with mock.patch.object(time, "time", jumping):
        yield


if FDS.is_dir():

    @_case("no file descriptor left", "unavailable", cold=True)
    def _exhausted(_world: World, _guard: Guard) -> Iterator[None]:
        with no_descriptors():
            yield


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened any more, neither a file nor a socket: what other threads still close is taken too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(held[0] + 1, 64), hard))
    try:
        none_free = 0
        while none_free < 10:
            before = len(held)
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            none_free = none_free + 1 if len(held) == before else 0
            time.sleep(0.002)
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _until_it_listens(server: FakeVLLM) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", server.port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError("the server does not come back")


def _gate(guard: Guard) -> Gated:
    found = _within(guard.moderator, Gated)
    assert isinstance(found, Gated)
    return found


def _endpoints(guard: Guard) -> Endpoints:
    found = _within(guard.moderator, Endpoints)
    assert isinstance(found, Endpoints)
    return found


def _within(moderator: Any, kind: type) -> object:
    """The first of this kind in a chain of moderators."""
    while moderator is not None and not isinstance(moderator, kind):
        # NeMo's wing puts a moderator of its own around the guard's
        moderator = getattr(moderator, "inner", None)
    return moderator


@contextmanager
def worlds() -> Iterator[dict[int, World]]:
    """One world that asks a single server, and one that asks both, as `{replicas: world}`."""
    with contextlib.ExitStack() as stack:
        made: dict[int, World] = {}
        for count in (1, 2):
            one, two = (stack.enter_context(FakeVLLM()) for _ in range(2))
            made[count] = World(one, two, count)
        try:
            yield made
        finally:
            for world in made.values():
                for guard in world.guards.values():
                    guard.close()


def settings(urls: list[str], deadline: float, action: Action = "block") -> dict[str, Any]:
    """Failures end in this action, within the deadline."""
    return {
        "moderator": {"base_url": urls, "deadline": deadline},
        "stream": {"window": 40, "max_delay": "50ms"},
        "policy": {"on_failure": action},
    }
