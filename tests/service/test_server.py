"""`turnguard serve` in processes of its own: stopping, several workers, clients that leave or are slow."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from benchmarks.service import children

from tests.service.conftest import CHECK, KEYS, READ, Running, process, served, settings
from turnguard import Guard
from turnguard.cli import main
from turnguard.testing import FakeVLLM

GuardOf = Callable[..., Guard]


def _config(folder: Path, vllm: FakeVLLM, policy: str = "{default: block}", service: str = "{}") -> Path:
    file = folder / "turnguard.yaml"
    file.write_text(f"moderator: {{base_url: {vllm.base_url}}}\npolicy: {policy}\nservice: {service}\n")
    return file


KEYED = f"{{keys: [{{key: {KEYS[CHECK]}}}, {{key: {KEYS[READ]}, role: read}}]}}"


def test_a_stop_answers_what_is_under_way(vllm: FakeVLLM, tmp_path: Path) -> None:
    vllm.latency = 1.0
    with process(_config(tmp_path, vllm)) as (service, running, said), ThreadPoolExecutor(8) as pool:
        assert "console at" in said

        def ask(number: int) -> httpx.Response:
            with service.client() as client:
                return client.post("/v1/check", json={"text": f"question {number}"})

        answers = [pool.submit(ask, number) for number in range(8)]
        while len(vllm.chats) < 8:
            time.sleep(0.02)
        running.send_signal(signal.SIGTERM)
        assert [each.result().status_code for each in answers] == [200] * 8
        assert all(each.result().json()["action"] == "allow" for each in answers)
        assert running.wait(30) == 0


def test_a_stop_of_several_workers_answers_what_is_under_way(vllm: FakeVLLM, tmp_path: Path) -> None:
    with process(_config(tmp_path, vllm), "--workers", "2") as (service, running, _), ThreadPoolExecutor(64) as pool:
        _wait_for_workers(service.client(), 2)
        workers = children(running.pid)
        vllm.latency = 4.0
        idle = {pid: _sockets(pid) for pid in workers}
        answers: list[Future[tuple[int, str]]] = []
        while any(_sockets(pid) < idle[pid] + 4 for pid in workers):  # a check holds one to the client, one beyond
            assert len(answers) < 64, "one of the workers gets no connection"
            answers.append(pool.submit(_ask, service, len(answers)))
            time.sleep(0.03)
        while len(vllm.chats) < len(answers):
            time.sleep(0.02)
        running.send_signal(signal.SIGTERM)
        assert [each.result() for each in answers] == [(200, str(number)) for number in range(len(answers))]
        assert running.wait(30) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


@pytest.mark.timeout(400)  # a worker imports everything anew
def test_a_worker_that_is_killed_is_replaced_and_mixes_nothing_up(vllm: FakeVLLM, tmp_path: Path) -> None:
    service_settings = _config(tmp_path, vllm, service=KEYED)
    with process(service_settings, "--workers", "2") as (service, running, _), ThreadPoolExecutor(4) as pool:
        _wait_for_workers(service.client(KEYS[READ]), 2)
        first = children(running.pid)
        stop = False

        def storm(client: int) -> Counter[str]:
            seen: Counter[str] = Counter()
            number = 0
            while not stop:
                time.sleep(0.02)
                number += 1
                try:
                    status, row = _ask(service, f"{client}-{number}")
                except httpx.TransportError:  # asked of the one that died: no answer at all, never half of one
                    seen["no answer"] += 1
                else:
                    seen["its own" if (status, row) == (200, f"{client}-{number}") else f"wrong: {status} {row}"] += 1
            return seen

        storms = [pool.submit(storm, client) for client in range(4)]
        try:
            time.sleep(0.5)
            os.kill(first[0], signal.SIGKILL)
            _wait_for_workers(service.client(KEYS[READ]), 2, without=first[0])
        finally:
            stop = True
        found = sum((each.result() for each in storms), Counter())
    assert set(found) <= {"its own", "no answer"}, found
    assert found["its own"] > found["no answer"]


def _ask(service: Running, number: object) -> tuple[int, str]:
    """A check over a connection of its own: the status, and the row that the answer is for."""
    with service.client(KEYS[CHECK]) as client:
        answer = client.post("/v1/check", json={"text": f"question {number}", "id": str(number)})
    return answer.status_code, answer.json().get("row", answer.text)


def _wait_for_workers(client: httpx.Client, number: int, without: int | None = None) -> None:
    """Until so many workers serve: each writes its metrics as soon as it does."""
    deadline = time.monotonic() + 180
    with client:
        while True:
            assert time.monotonic() < deadline, "the workers did not start"
            client.headers["connection"] = "close"
            with contextlib.suppress(httpx.TransportError):
                workers = set(re.findall(r'worker="(\d+)"', client.get("/metrics").text))
                if len(workers - {str(without)}) >= number:
                    return
            time.sleep(0.1)


def _sockets(pid: int) -> int:
    """How many sockets a process holds."""
    found = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(each.readlink()).startswith("socket:")
    return found


def test_a_client_that_leaves_cancels_its_check(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    vllm.latency = 30.0
    guard = guard_of(moderator={"base_url": vllm.base_url, "deadline": "60s"})
    with served(guard) as service:
        port = int(service.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            body = b'{"text": "slow"}'
            connection.sendall(
                b"POST /v1/check HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                + f"content-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            while not vllm.chats:
                time.sleep(0.02)
        gate = guard.moderator.inner  # type: ignore[attr-defined]
        deadline = time.monotonic() + 10
        while gate.in_flight:
            assert time.monotonic() < deadline, "the request to the moderator goes on"
            time.sleep(0.02)
        with service.client() as client:
            assert client.get("/health/live").status_code == 200


def test_a_body_that_does_not_arrive_is_given_up(guard_of: GuardOf) -> None:
    with served(guard_of(), settings(limits={"read": "500ms"})) as service:
        port = int(service.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            head = (
                f"POST /v1/check HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEYS[CHECK]}\r\ncontent-length: 99\r\n\r\n"
            )
            connection.sendall(head.encode() + b'{"text"')
            assert b" 408 " in connection.recv(1000)


def test_a_head_that_does_not_arrive_is_given_up(vllm: FakeVLLM, tmp_path: Path) -> None:
    file = _config(tmp_path, vllm, service="{limits: {read: 500ms}}")
    with process(file) as (service, _, _):
        port = int(service.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(b"POST /v1/che")
            assert connection.recv(1000) == b""


def test_an_answer_arrives_whole_or_not_at_all(guard_of: GuardOf) -> None:
    body = b'{"text": "one and the same"}'
    head = (
        f"POST /v1/check HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    )
    with served(guard_of()) as service:
        port = int(service.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            for _ in range(100):
                connection.sendall(head.encode() + b"\r\n\r\n" + body)
                answer = connection.recv(100_000)
                # in one segment: a worker that is killed has sent all of it or nothing
                assert answer.startswith(b"HTTP/1.1 200")
                assert answer.endswith(b"}"), answer


def test_beyond_its_limit_it_says_503_and_goes_on(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    vllm.latency = 1.0
    with served(guard_of(), settings(limits={"in_flight": 2})) as service, ThreadPoolExecutor(6) as pool:

        def ask(number: int) -> int:
            with service.client(KEYS[CHECK]) as client:
                return client.post("/v1/check", json={"text": f"q {number}"}).status_code

        statuses = Counter(pool.map(ask, range(6)))
        assert statuses[200] >= 2
        assert set(statuses) <= {200, 503}
        with service.client() as client:
            assert client.get("/health/live").status_code == 200


def test_the_openapi_page_names_every_path_and_loads_nothing(guard_of: GuardOf) -> None:
    with served(guard_of()) as service, service.client() as client:
        page = client.get("/openapi.json").json()
        assert client.get("/docs").status_code == 404
    assert {"/v1/check", "/v1/check/messages", "/v1/check/stream", "/v1/moderations"} <= set(page["paths"])
    assert "/beta/litellm_basic_guardrail_api" in page["paths"]
    assert page["paths"]["/v1/check"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]


@pytest.mark.parametrize(
    ("service", "told"),
    [("{host: 0.0.0.0}", "without keys"), ("{keys: [{key: x}]}", "at least 16"), ("{prot: 1}", "port")],
)
def test_a_service_that_may_not_start_says_why(
    vllm: FakeVLLM, tmp_path: Path, service: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--config", str(_config(tmp_path, vllm, service=service))]) == 2
    assert told in capsys.readouterr().err


async def test_hundreds_of_clients_get_their_own_answers(guard_of: GuardOf, vllm: FakeVLLM) -> None:
    vllm.when("odd", user="unsafe", categories=["Violence"], p=0.98)
    guard = guard_of(moderator={"base_url": vllm.base_url, "deadline": "60s"})
    with served(guard) as service:
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=60) as client:

            async def ask(number: int) -> tuple[str, str]:
                text = f"{'odd' if number % 2 else 'even'} {number}"
                body = (await client.post("/v1/check", json={"text": text, "id": str(number)})).json()
                return body["row"], body["action"]

            answers = await asyncio.gather(*map(ask, range(300)))
    assert answers == [(str(number), "block" if number % 2 else "allow") for number in range(300)]


def test_a_changed_file_is_taken_over_without_a_lost_request(vllm: FakeVLLM, tmp_path: Path) -> None:
    vllm.reply(user="unsafe", categories=["Violence"], p=0.9)
    (tmp_path / "team.yaml").write_text("policy: {default: block}\n")
    team = f"{{keys: [{{key: {KEYS[CHECK]}, policy: team}}]}}"
    file = _config(tmp_path, vllm, service=team)
    file.write_text(file.read_text() + "policies: {team: team.yaml}\n")
    with process(file) as (service, _, _), ThreadPoolExecutor(4) as pool:
        stop = False

        def ask(worker: int) -> Counter[object]:
            seen: Counter[object] = Counter()
            with service.client(KEYS[CHECK]) as client:
                while not stop:
                    answer = client.post("/v1/check", json={"text": f"worker {worker}"})
                    seen[answer.status_code, answer.json()["action"]] += 1
            return seen

        asking = [pool.submit(ask, worker) for worker in range(3)]
        try:
            with service.client(KEYS[CHECK]) as client:
                for text, action in (
                    ("policy: {default: flag}\n", "flag"),  # a file that the configuration names
                    ("policy: {default: nonsense}\n", "flag"),  # is not taken over
                    ("policy: {default: block}\n", "block"),
                ):
                    (tmp_path / "team.yaml").write_text(text)
                    deadline = time.monotonic() + 60
                    time.sleep(2.5 if "nonsense" in text else 0.0)
                    while client.post("/v1/check", json={"text": "anything"}).json()["action"] != action:
                        assert time.monotonic() < deadline, text
                        time.sleep(0.1)
        finally:
            stop = True
        found = sum((each.result() for each in asking), Counter())
    assert set(found) == {(200, "block"), (200, "flag")}


def test_a_key_that_was_taken_away_opens_nothing_any_more(vllm: FakeVLLM, tmp_path: Path) -> None:
    file = _config(tmp_path, vllm, service=KEYED)
    with process(file) as (service, _, _), service.client(KEYS[CHECK]) as client:
        assert client.post("/v1/check", json={"text": "a"}).status_code == 200
        _config(tmp_path, vllm, service=f"{{keys: [{{key: {KEYS[READ]}, role: read}}]}}")
        deadline = time.monotonic() + 60
        while client.post("/v1/check", json={"text": "a"}).status_code != 401:
            assert time.monotonic() < deadline
            time.sleep(0.1)
