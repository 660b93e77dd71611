"""Workers share verdicts through a real redis-server, and believe only what one of them wrote."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.scale.conftest import KEY, Store
from turnguard import Guard, Step
from turnguard.core.errors import ConfigError
from turnguard.core.verdict import Verdict
from turnguard.moderators.memory_entries import Entries, Refused
from turnguard.moderators.memory_shared import SharedMemory
from turnguard.testing import FakeModerator, FakeVLLM


@pytest.fixture(autouse=True)
def _patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine is no slow store."""
    if "hangs" not in request.node.name:
        monkeypatch.setattr("turnguard.moderators.memory_shared.LONGEST", 4.0)
        monkeypatch.setattr("turnguard.moderators.memory_shared.SHARE", 0.8)


def settings(server: FakeVLLM, url: str, key: str = KEY, **memory: Any) -> dict[str, Any]:
    return {
        "moderator": {"base_url": server.base_url, "deadline": "20s"},
        "memory": {"url": url, "key": key, **memory},
    }


FIRST = "the first check, whose reply tells the server's fingerprint"


@asynccontextmanager
async def worker(configured: dict[str, Any]) -> AsyncIterator[Guard]:
    """A worker of its own, once it knows which server answers."""
    async with Guard.from_dict(configured) as guard:
        await guard.acheck(Step.input(FIRST))
        await asyncio.sleep(0.05)  # its verdict is stored
        shared(guard).counts.clear()
        yield guard


def shared(guard: Guard) -> SharedMemory:
    found = guard.moderator.shared  # type: ignore[attr-defined]
    assert isinstance(found, SharedMemory)
    return found


def counts(guard: Guard) -> dict[str, int]:
    return dict(shared(guard).counts)


def asked(server: FakeVLLM) -> int:
    return sum(FIRST not in request.raw.decode() for request in server.chats)


async def ask(configured: dict[str, Any], *texts: str) -> tuple[list[bool], dict[str, int]]:
    """What a worker of its own says: whether each verdict was remembered, and what became of its look-ups."""
    async with worker(configured) as guard:
        decisions = [await guard.acheck(Step.input(text)) for text in texts]
        assert not any(decision.failed for decision in decisions)
        found = [decision.remembered for decision in decisions]
    return found, counts(guard)


async def test_a_second_worker_asks_nothing_that_the_first_has_asked(store: Store) -> None:
    with FakeVLLM() as server:
        server.when("bad", categories=["Violence"])
        configured = settings(server, store.url)
        first, told = await ask(configured, "good", "bad")
        assert first == [False, False]
        assert told == {"miss": 2, "stored": 2}
        second, told = await ask(configured, "good", "bad", "new")
        assert second == [True, True, False]
        assert told == {"hit": 2, "miss": 1, "stored": 1}
        async with worker(configured) as guard:
            decision = await guard.acheck(Step.input("bad"))
        assert decision.action == "block"
        assert decision.verdict.categories == ("Violence",)
        assert asked(server) == 3


async def test_the_store_holds_nothing_that_can_be_read(store: Store) -> None:
    with FakeVLLM() as server:
        server.reply(user="unsafe", categories=["Violence", "Threat"])
        await ask(settings(server, store.url), "a secret sentence")
        server.reply(user="safe")
        await ask(settings(server, store.url), "another one")
    with store.client as client:
        names = store.names()
        held = [client.get(name) for name in names]
        ttl = client.pttl(names[0])
    assert len(names) == 3
    whole = b"".join([*names, *(each for each in held if isinstance(each, bytes))]).lower()
    for word in (b"secret", b"sentence", b"unsafe", b"violence", b"nemotron", b"user", b"{"):
        assert word not in whole or len(word) == 1
    assert len({len(each) for each in held if isinstance(each, bytes)}) == 1  # the length does not tell a verdict
    assert 0 < int(str(ttl)) <= 3_600_000


async def test_another_key_finds_nothing(store: Store) -> None:
    with FakeVLLM() as server:
        await ask(settings(server, store.url), "text")
        found, told = await ask(settings(server, store.url, key="x" * 32), "text")
    assert found == [False]
    assert told["miss"] == 1


async def test_another_model_finds_nothing(store: Store) -> None:
    with FakeVLLM() as server, FakeVLLM(root="somebody/else") as other:
        await ask(settings(server, store.url), "text")
        found, told = await ask(settings(other, store.url), "text")
    assert (found, told["miss"]) == ([False], 1)


async def test_replicas_that_differ_find_nothing_and_store_under_their_own_names(store: Store) -> None:
    with FakeVLLM() as server, FakeVLLM(root="somebody/else") as other:
        both = {**settings(server, store.url)}
        both["moderator"] = {"base_url": [server.base_url, other.base_url], "deadline": "20s"}
        found, told = await ask(both, "one", "two")
        assert (found, told) == ([False, False], {"stored": 2})
        found, _ = await ask(settings(server, store.url), "one", "two")
        again, _ = await ask(settings(other, store.url), "one", "two")
    assert [mine or theirs for mine, theirs in zip(found, again, strict=True)] == [True, True]


async def test_a_model_that_is_not_known_by_name_is_not_shared(store: Store) -> None:
    from turnguard.config.settings import MemorySettings

    memory = MemorySettings.model_validate({"url": store.url, "key": KEY})
    async with Guard(moderator=FakeModerator(), memory=memory) as guard:
        await guard.acheck(Step.input("text"))
        assert counts(guard) == {}
    assert store.names() == []


async def test_failures_are_not_stored(store: Store) -> None:
    with FakeVLLM() as server:
        server.reply(raw="I would rather not say.")
        async with worker(settings(server, store.url)) as guard:
            decision = await guard.acheck(Step.input("text"))
            assert decision.verdict.failure == "unparseable"
    assert store.names() == []


# ---------------------------------------------------------------- what is not authentic


VERDICT = Verdict(user="safe", p_user=0.1, identity="model")


def entries(key: str = KEY, seconds: float = 60.0) -> Entries:
    return Entries(key, seconds)


def sealed(now: float, key: str = KEY, content: bytes = b"content") -> tuple[bytes, bytes]:
    own = entries(key)
    name = own.name("model", content)
    return name, own.seal(name, VERDICT, None, now)


def test_an_entry_opens_where_it_was_sealed() -> None:
    name, data = sealed(1000.0)
    found = entries().open(name, data, 1010.0)
    assert (found.verdict, found.tenant, found.left) == (VERDICT, None, 50.0)


@pytest.mark.parametrize(
    ("why", "spoil"),
    [
        ("forged", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        ("forged", lambda data: data[:40]),
        ("forged", lambda data: data[:12]),
        ("version", lambda data: b""),
        ("version", lambda data: b"TG0" + data[3:]),
        ("version", lambda data: b'{"user": "safe"}'),
    ],
)
def test_an_entry_that_was_changed_is_refused(why: str, spoil: Callable[[bytes], bytes]) -> None:
    name, data = sealed(1000.0)
    with pytest.raises(Refused, match=why):
        entries().open(name, spoil(data), 1000.0)


@pytest.mark.parametrize("now", [1061.0, 900.0])
def test_an_entry_of_another_time_is_refused(now: float) -> None:
    name, data = sealed(1000.0)
    with pytest.raises(Refused, match="time"):
        entries().open(name, data, now)


def test_an_entry_at_another_name_or_of_another_key_is_refused() -> None:
    name, _ = sealed(1000.0)
    for data in (sealed(1000.0, content=b"other")[1], sealed(1000.0, key="x" * 32)[1]):
        with pytest.raises(Refused, match="forged"):
            entries().open(name, data, 1000.0)


async def test_what_is_not_authentic_is_asked_again_counted_and_said_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeVLLM() as server, caplog.at_level(logging.WARNING, "turnguard"):
        server.when("bad", categories=["Violence"])
        configured = settings(server, store.url)
        await ask(configured)
        others = set(store.names())
        await ask(configured, "good")
        with store.client as client:
            (good,) = set(store.names()) - others
            safe = client.get(good)
            await ask(configured, "bad")
            bad = next(name for name in store.names() if name not in {*others, good})
            assert isinstance(safe, bytes)
            client.set(bad, safe)  # a safe verdict in the place of an unsafe one
            client.set(good, b"\x00" * 512)
        async with worker(configured) as guard:
            assert (await guard.acheck(Step.input("bad"))).action == "block"
            assert (await guard.acheck(Step.input("good"))).action == "allow"
        assert counts(guard) == {"refused": 2, "stored": 2}
    assert asked(server) == 4
    assert [record.message for record in caplog.records if "authentic" in record.message] == [
        f"shared memory: 127.0.0.1:{store.port} gave an entry that is not authentic (forged); it counts as not found"
    ]


# ---------------------------------------------------------------- a store that fails


async def test_a_store_that_is_down_costs_no_check(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.kill()
    with FakeVLLM() as server, caplog.at_level(logging.WARNING, "turnguard"):
        found, told = await ask(settings(server, store.url), *map(str, range(20)), "0")
    assert found == [*[False] * 20, True]  # its own memory goes on
    assert told["failed"] == 2  # with the first check's that is three: the breaker leaves it alone
    assert told["skipped"] > 20
    (line,) = [record.message for record in caplog.records if "shared memory" in record.message]
    assert line.startswith(f"shared memory: 127.0.0.1:{store.port} failed (ConnectionRefusedError")
    assert store.url not in caplog.text


async def test_a_store_killed_midway_fails_no_check_and_is_found_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnguard.moderators.endpoints.FIRST_PAUSE", 0.05)
    with FakeVLLM() as server:
        async with worker(settings(server, store.url)) as guard:
            for number in range(10):
                assert not (await guard.acheck(Step.input(f"before {number}"))).failed
            store.kill()
            for number in range(10):
                assert not (await guard.acheck(Step.input(f"without {number}"))).failed
            store.start()
            until = time.monotonic() + 20.0
            before = counts(guard)["stored"]
            number = 0
            while counts(guard)["stored"] == before and time.monotonic() < until:
                number += 1
                assert not (await guard.acheck(Step.input(f"after {number}"))).failed
                await asyncio.sleep(0.02)
            assert counts(guard)["stored"] > before


async def test_a_full_store_is_told_and_costs_no_check(
    start_store: Callable[..., Store], caplog: pytest.LogCaptureFixture
) -> None:
    store = start_store("--maxmemory", "1", "--maxmemory-policy", "noeviction")
    with FakeVLLM() as server, caplog.at_level(logging.WARNING, "turnguard"):
        found, told = await ask(settings(server, store.url), "one", "two", "one")
    assert found == [False, False, True]
    assert (told["lost"], told["miss"]) == (2, 2)
    assert any("OOM" in record.message for record in caplog.records)


async def test_a_wrong_password_costs_no_check(store: Store) -> None:
    with FakeVLLM() as server:
        found, told = await ask(settings(server, f"redis://:wrong@127.0.0.1:{store.port}/0"), "one", "one")
    assert (found, told["failed"]) == ([False, True], 1)


async def test_a_store_that_hangs_takes_a_tenth_of_the_deadline_at_most(store: Store) -> None:
    assert store.process is not None
    memory = SharedMemory(store.url, KEY, 60.0)
    from turnguard.moderators.base import Deadline

    store.process.send_signal(19)  # SIGSTOP: connections are taken and nothing is answered
    try:
        waits: list[float] = []
        loop = asyncio.get_running_loop()
        real = loop.call_later

        def noted(seconds: float, *more: Any, **options: Any) -> Any:
            waits.append(seconds)
            return real(seconds, *more, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "call_later", noted)
            assert await memory.get("model", b"content", Deadline.after(0.2)) is None
            assert await memory.get("model", b"content", Deadline.after(60.0)) is None
    finally:
        store.process.send_signal(18)
        await memory.aclose()
    assert waits[0] <= 0.02
    assert waits[1] == 0.05
    assert memory.counts["failed"] == 2


@asynccontextmanager
async def saying(reply: bytes) -> AsyncIterator[str]:
    """A store that takes any greeting, and replies this to every look-up."""

    served: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            while asked := await reader.read(10_000):
                if b"GET" in asked:
                    writer.write(reply)
                    await writer.drain()
                if reply.endswith(b"!"):
                    break
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        await asyncio.gather(*filter(None, served))


@pytest.mark.parametrize(
    ("reply", "counted"),
    [
        (b":5\r\n", "refused"),
        (b"*1\r\n:5\r\n", "refused"),
        (b"+OK\r\n", "refused"),
        (b"$5\r\nTG1zz\r\n", "refused"),
        (b"$-1\r\n", "miss"),
        (b"-MOVED 12 127.0.0.1:1\r\n", "failed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "failed"),
        (b"$100\r\nhalf a reply!", "failed"),
        (b"!", "failed"),
        (b"$2000000\r\n" + b"x" * 1_500_000, "failed"),
    ],
)
async def test_a_store_that_replies_nonsense_is_not_believed(reply: bytes, counted: str) -> None:
    from turnguard.moderators.base import Deadline

    async with saying(reply) as url:
        memory = SharedMemory(url, KEY, 60.0)
        for _ in range(2):
            assert await memory.get("model", b"content", Deadline.after(60.0)) is None
        await memory.aclose()
    assert dict(memory.counts) == {counted: 2}


async def test_a_connection_that_broke_while_idle_is_made_again(store: Store) -> None:
    with FakeVLLM() as server:
        configured = settings(server, store.url)
        await ask(configured, "one", "two")
        async with worker(configured) as guard:
            assert (await guard.acheck(Step.input("one"))).remembered
            with store.client as client:
                client.client_kill_filter(_type="normal")
            await asyncio.sleep(0.1)
            assert (await guard.acheck(Step.input("two"))).remembered
            assert counts(guard) == {"hit": 2}


# ---------------------------------------------------------------- loops, threads, processes


async def test_identical_checks_at_once_make_one_look_up_and_one_request(store: Store) -> None:
    with FakeVLLM(latency=0.05) as server:
        async with worker(settings(server, store.url)) as guard:
            await asyncio.gather(*(guard.acheck(Step.input("the same")) for _ in range(20)))
            assert counts(guard)["miss"] == 1
        assert asked(server) == 1


def test_one_guard_serves_several_loops_and_threads(store: Store) -> None:
    with FakeVLLM() as server:
        configured = settings(server, store.url)
        asyncio.run(ask(configured, *map(str, range(8))))
        before = asked(server)
        guard = Guard.from_dict(configured)
        guard.check(Step.input(FIRST))
        failed: list[bool] = []

        def work(number: int) -> None:
            async def check() -> None:
                for text in (number, 7 - number):
                    failed.append((await guard.acheck(Step.input(str(text)))).failed)

            asyncio.run(check())

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert guard.check(Step.input("0")).remembered
        guard.close()
        assert failed == [False] * 16
        assert asked(server) == before


def _child(guard: Guard, pipe: Any) -> None:
    pipe.send([guard.check(Step.input(text)).remembered for text in ("before", "in the child")])
    guard.close()
    pipe.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(store: Store) -> None:
    with FakeVLLM() as server:
        guard = Guard.from_dict(settings(server, store.url))
        assert not guard.check(Step.input("before")).failed
        context = multiprocessing.get_context("fork")
        mine, theirs = context.Pipe()
        child = context.Process(target=_child, args=(guard, theirs))
        child.start()
        assert mine.recv() == [True, False]
        child.join()
        assert child.exitcode == 0
        assert guard.check(Step.input("in the child")).remembered  # from the store: this process never asked
        guard.close()


# ---------------------------------------------------------------- tenants


async def test_no_tenant_is_told_that_another_has_asked(store: Store) -> None:
    def step(tenant: str | None) -> Step:
        return Step.input("text", metadata={} if tenant is None else {"tenant": tenant})

    with FakeVLLM() as server:
        configured = settings(server, store.url)
        async with worker(configured) as guard:
            said = [(await guard.acheck(step(tenant))).remembered for tenant in ("a", "b", "b", "a", None)]
            assert said == [False, False, True, True, False]
        async with worker(configured) as guard:  # another worker
            said = [(await guard.acheck(step(tenant))).remembered for tenant in ("b", "b", "a", None)]
            assert said == [False, True, False, False]
        async with worker(configured) as guard:
            assert (await guard.acheck(step("a"))).remembered
        assert asked(server) == 1


# ---------------------------------------------------------------- settings


async def test_entries_and_ttl_bound_the_memory() -> None:
    with FakeVLLM() as server:
        plain = {"moderator": {"base_url": server.base_url}, "memory": {"entries": 2, "ttl": "100ms"}}
        async with Guard.from_dict(plain) as guard:
            for text in ("one", "two", "three"):
                await guard.acheck(Step.input(text))
            assert (await guard.acheck(Step.input("three"))).remembered
            assert not (await guard.acheck(Step.input("one"))).remembered
            await asyncio.sleep(0.15)
            assert not (await guard.acheck(Step.input("three"))).remembered


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        ({"url": "redis://localhost:6379/0"}, "a shared memory needs a key of 32 characters or more"),
        ({"url": "redis://localhost:6379/0", "key": "short"}, "a shared memory needs a key of 32 characters or more"),
        ({"url": "localhost:6379", "key": KEY}, "a shared memory is a URL such as redis://host:6379/0"),
        ({"url": "redis://:pass@/0", "key": KEY}, "a shared memory is a URL such as redis://host:6379/0"),
        ({"url": "redis://host:port", "key": KEY}, "a shared memory is a URL such as redis://host:6379/0"),
        ({"url": "http://host", "key": KEY}, "a shared memory is a URL such as redis://host:6379/0"),
        ({"tll": "1h"}, "did you mean 'ttl'?"),
        ({"ttl": 0}, "memory.ttl"),
        ({"entries": 0}, "memory.entries"),
    ],
)
def test_mistakes_name_the_key(memory: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Guard.from_dict({"moderator": {"base_url": "http://localhost:1/v1"}, "memory": memory})
    assert said in str(caught.value)
    assert "memory" in str(caught.value)
    assert "pass" not in str(caught.value)


def test_a_valkey_url_is_a_redis_url(store: Store) -> None:
    with FakeVLLM() as server:
        configured = settings(server, store.url.replace("redis://", "valkey://"))
        assert asyncio.run(ask(configured, "text"))[1] == {"miss": 1, "stored": 1}
