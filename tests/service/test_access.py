"""Keys, roles, tenants and rates; and a service without keys, which is this machine's own."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.conftest import ADMIN, CHECK, KEYS, READ, REVIEW, served, settings
from turnguard import ConfigError, Guard
from turnguard.config.document import from_dict
from turnguard.config.service import ServiceSettings
from turnguard.service.access import Access, name_of
from turnguard.service.app import create_app
from turnguard.service.errors import Refusal
from turnguard.service.server import settings_of
from turnguard.testing import FakeVLLM

GuardOf = Callable[..., Guard]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/check", {CHECK, ADMIN}),
        ("/v1/moderations", {CHECK, ADMIN}),
        ("/metrics", {READ, REVIEW, ADMIN}),
    ],
)
def test_a_role_opens_its_paths_alone(guard_of: GuardOf, path: str, allowed: set[str]) -> None:
    with served(guard_of(), settings()) as service:
        for role, key in KEYS.items():
            with service.client(key) as client:
                answer = (
                    client.get(path)
                    if path == "/metrics"
                    else client.post(path, json={"text": "a"} if path.endswith("check") else {"input": "a"})
                )
            assert (answer.status_code == 200) == (role in allowed), (role, answer.text)
            if role not in allowed:
                assert answer.status_code == 403
                assert answer.json()["error"]["type"] == "forbidden"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong-key-0123456789", "Basic a2V5", "Bearer kéy"])
def test_a_wrong_key_is_refused_and_never_logged(
    guard_of: GuardOf, vllm: FakeVLLM, header: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with served(guard_of(), settings()) as service, service.client() as client:
        sent = {"authorization": header.encode("latin-1")} if header else {}
        answer = client.post("/v1/check", json={"text": "a"}, headers=sent)  # type: ignore[arg-type]
        unknown = client.get("/nothing/here")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert unknown.status_code == 401
    assert not vllm.chats
    assert all(key not in caplog.text for key in KEYS.values())
    assert "wrong-key" not in caplog.text


def test_either_header_carries_a_key(guard_of: GuardOf) -> None:
    with served(guard_of(), settings()) as service, service.client() as client:
        answer = client.post("/v1/check", json={"text": "a"}, headers={"x-api-key": KEYS[CHECK]})
    assert answer.status_code == 200


def test_a_keys_tenant_and_policy_override_the_clients(vllm: FakeVLLM, tmp_path: Path) -> None:
    (tmp_path / "lax.yaml").write_text("policy: {default: flag}\n")
    audit = tmp_path / "audit.jsonl"
    vllm.reply(user="unsafe", categories=["Violence"], p=0.9)
    from turnguard.config.files import load

    file = tmp_path / "turnguard.yaml"
    file.write_text(
        f"moderator: {{base_url: {vllm.base_url}}}\npolicy: {{default: block}}\npolicies: {{lax: lax.yaml}}\n"
        f"audit: {{path: {audit}}}\n"
    )
    lax = {"key": "key-of-the-lax-team-01", "policy": "lax", "tenant": "team-lax"}
    keys = ServiceSettings.model_validate({"keys": [lax]})
    with served(Guard.from_config(load(file)), keys) as service, service.client(lax["key"]) as client:
        told = client.post("/v1/check", json={"text": "a", "policy": None, "metadata": {"tenant": "other"}}).json()
        unknown = client.post("/v1/check", json={"text": "a", "policy": "nobody"})
    assert told["action"] == "flag"
    assert unknown.status_code == 200  # the key decides
    assert lax["key"] not in json.dumps(told)
    assert lax["key"] not in audit.read_text()


def test_a_key_is_known_by_its_digest_and_its_tenant_stays() -> None:
    key = "key-of-the-lax-team-01"
    access = Access(ServiceSettings.model_validate({"keys": [{"key": key, "tenant": "a"}]}))
    caller = access.find(key)
    assert caller is not None
    assert caller.metadata({"tenant": "b", "key": "forged", "user": "u"}) == {
        "tenant": "a",
        "user": "u",
        "key": name_of(key.encode()),
    }


def test_a_rate_holds_and_says_when_to_come_again(guard_of: GuardOf) -> None:
    slow = ServiceSettings.model_validate({"keys": [{"key": KEYS[CHECK], "rate": "2/h"}]})
    with served(guard_of(), slow) as service, service.client(KEYS[CHECK]) as client:
        statuses = [client.post("/v1/check", json={"text": "a"}).status_code for _ in range(2)]
        late = client.post("/v1/check", json={"text": "a"})
    assert statuses == [200, 429]
    assert int(late.headers["retry-after"]) > 60
    assert late.json()["error"]["type"] == "rate_limited"


def test_a_rate_is_shared_among_workers() -> None:
    slow = ServiceSettings.model_validate({"keys": [{"key": KEYS[CHECK], "rate": "8/s"}]})
    from starlette.datastructures import Headers

    headers = Headers({"x-api-key": KEYS[CHECK]})
    access = Access(slow, workers=4)
    passed = 0
    for _ in range(5):
        try:
            access.admit("/v1/check", headers)
            passed += 1
        except Refusal:
            break
    assert passed == 2


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example"])
def test_without_keys_a_page_of_another_site_is_turned_away(guard_of: GuardOf, host: str) -> None:
    with served(guard_of()) as service, service.client() as client:
        answer = client.post("/v1/check", json={"text": "a"}, headers={"host": host})
    assert answer.status_code == 421


def test_without_keys_nobody_answers_reviews_over_http(guard_of: GuardOf) -> None:
    with served(guard_of()) as service, service.client() as client:
        assert client.get("/v1/reviews").status_code == 403


def test_without_keys_it_listens_on_loopback_only() -> None:
    config = from_dict({"moderator": {"base_url": "http://127.0.0.1:1/v1"}}, {})
    with pytest.raises(ConfigError, match="without keys"):
        settings_of(config, host="0.0.0.0")  # noqa: S104
    assert settings_of(config, host="::1").host == "::1"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ([{"key": "short"}], "at least 16"),
        ([{"key": "with a space in it 0123"}], "header"),
        ([{"key": KEYS[CHECK]}, {"key": KEYS[CHECK], "role": "admin"}], "same key"),
        ([{"key": KEYS[CHECK], "role": "root"}], "role"),
        ([{"key": KEYS[CHECK], "rate": "fast"}], "100/s"),
    ],
)
def test_a_wrong_key_in_the_settings_is_named_without_its_value(keys: list[dict[str, str]], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        from_dict({"moderator": {"base_url": "http://127.0.0.1:1/v1"}, "service": {"keys": keys}}, {})
    assert KEYS[CHECK] not in str(caught.value)


def test_a_key_with_a_policy_that_there_is_not_keeps_the_service_from_starting(guard_of: GuardOf) -> None:
    with pytest.raises(ConfigError, match="no policy 'gone'"):
        create_app(guard_of(), ServiceSettings.model_validate({"keys": [{"key": KEYS[CHECK], "policy": "gone"}]}))
