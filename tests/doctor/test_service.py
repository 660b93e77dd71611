"""The doctor and a Turnguard service: reachable, of this version, ready, and who may ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.conftest import moderating
from tests.service.conftest import CHECK, KEYS, READ, Running, served
from turnguard import Guard
from turnguard._version import __version__
from turnguard.cli import main
from turnguard.config.document import from_dict
from turnguard.config.service import ServiceSettings
from turnguard.doctor import Place, examine
from turnguard.testing import FakeVLLM

SETTINGS = ServiceSettings.model_validate({"keys": [{"key": key, "role": role} for role, key in KEYS.items()]})


def _guard(server: FakeVLLM) -> Guard:
    return Guard.from_config(from_dict({"moderator": {"base_url": server.base_url}}, {}))


@pytest.fixture
def running(server: FakeVLLM) -> Iterator[Running]:
    with served(_guard(server), SETTINGS) as place:
        yield place


async def findings(at: Place) -> dict[str, tuple[str, str]]:
    (examination,) = (await examine(None, at=at)).examinations
    assert examination.role == "service"
    return {one.canary: (one.status, f"{one.what} | {one.change}") for one in examination.findings}


async def test_a_right_set_up(running: Running) -> None:
    found = await findings(Place(running.url, KEYS[CHECK]))
    assert {name: status for name, (status, _) in found.items()} == {
        "service": "ok",
        "service_version": "ok",
        "service_key": "ok",
        "service_ready": "ok",
    }
    assert __version__ in found["service_version"][1]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("", "TURNGUARD_SERVICE_KEY"),
        ("a-key-that-nobody-gave", "refuses the key"),
        (KEYS[READ], "may not check"),
    ],
)
async def test_a_key_that_does_not_serve(key: str, told: str, running: Running) -> None:
    status, said = (await findings(Place(running.url, key)))["service_key"]
    assert status == "failed"
    assert told in said
    assert not key or key not in said


async def test_a_service_without_keys(server: FakeVLLM) -> None:
    with served(_guard(server)) as place:
        status, said = (await findings(Place(place.url)))["service_key"]
    assert (status, "asks for no key" in said) == ("note", True)


async def test_a_service_whose_moderator_is_down(server: FakeVLLM, running: Running) -> None:
    with server.down():
        status, said = (await findings(Place(running.url, KEYS[CHECK])))["service_ready"]
    assert (status, "unavailable" in said) == ("failed", True)


async def test_another_version(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnguard.doctor.canaries.service.__version__", "99.0")
    status, said = (await findings(Place(running.url, KEYS[CHECK])))["service_version"]
    assert (status, "Update the older one" in said) == ("note", True)


async def test_something_else_answers(server: FakeVLLM) -> None:
    found = await findings(Place(server.base_url))
    assert "no Turnguard service" in found["service"][1]
    assert set(found) == {"service"}


async def test_nothing_answers() -> None:
    report = await examine(None, at=Place("http://127.0.0.1:9"))
    assert report.exit_code == 3
    assert "turnguard serve" in str(report.examinations[0].findings[0].change)


def test_the_command_examines_a_service_alone(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNGUARD_SERVICE_KEY", KEYS[CHECK])
    assert main(["doctor", "--service", running.url, "--json"]) == 0
    said = capsys.readouterr().out
    assert [each["role"] for each in json.loads(said)["endpoints"]] == ["service"]
    assert KEYS[CHECK] not in said
    assert main(["doctor", "--service", "localhost:8080"]) == 2
    assert "http://" in capsys.readouterr().err


async def test_the_configured_service_is_examined_with_its_own_key(server: FakeVLLM, running: Running) -> None:
    moderating(server)
    port = int(running.url.rpartition(":")[2])
    settings: dict[str, Any] = {"moderator": {"base_url": server.base_url}}
    service = {"host": "0.0.0.0", "port": port, "keys": [{"key": KEYS[CHECK]}]}  # noqa: S104
    report = await examine(from_dict({**settings, "service": service}, {}))
    assert [each.role for each in report.examinations] == ["moderator", "service"]
    assert report.examinations[1].healthy
    report = await examine(from_dict({**settings, "service": {"port": 9}}, {}))
    (finding,) = report.examinations[1].findings
    assert (finding.status, "not" in finding.what or "yet" in finding.what) == ("skipped", True)
    assert report.exit_code == 0
