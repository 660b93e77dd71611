"""Headers for gateways, a certificate authority of one's own, a client's certificate, and a proxy."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.core.proxy import proxying
from tests.core.test_connections import PEM, listening, served_with_tls

from turnguard import ConfigError, Guard, Step
from turnguard.config.document import from_dict
from turnguard.doctor.examining import examine
from turnguard.testing import FakeVLLM

HELLO = Step.input("hello")


def guard_of(url: str, **moderator: Any) -> Guard:
    return Guard.from_dict({"moderator": {"base_url": url, "deadline": "5s", **moderator}})


@pytest.fixture(scope="module")
def client_pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client's certificate, signed by itself, and its key beside it."""
    folder = tmp_path_factory.mktemp("client")
    asked = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=agent", "-days", "2"]
    subprocess.run([*asked, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
    return folder


# ---------------------------------------------------------------- headers


async def test_headers_go_along_with_every_request_and_are_never_shown(fake: FakeVLLM) -> None:
    guard = guard_of(fake.base_url, headers={"X-Tenant": "planted-tenant"})
    async with guard:
        decision = await guard.acheck(HELLO)
    assert decision.action == "allow"
    assert {request.headers.get("x-tenant") for request in fake.requests} == {"planted-tenant"}
    for shown in (repr(guard.moderator_settings), guard.moderator_settings.model_dump_json(), str(decision.to_dict())):
        assert "planted-tenant" not in shown


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Authorization": "Bearer x"}, "put the key into api_key"),
        ({"X Tenant": "x"}, "letters, digits and hyphens"),
        ({"X-Tenant": "planted\nHost: evil"}, "characters that a header cannot carry"),
        ({"Content-Length": "3"}, "the client's own"),
        ({"X-Tenant": 3}, "expected text"),
    ],
)
def test_a_header_that_cannot_be_sent_is_an_error_of_the_configuration(headers: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=r"moderator\.headers") as caught:
        guard_of("http://127.0.0.1:1/v1", headers=headers)
    assert told in str(caught.value)
    assert "planted" not in str(caught.value)


# ---------------------------------------------------------------- certificates


async def test_a_certificate_authority_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening("localhost", tls=served_with_tls()) as server:
        async with guard_of(server.url) as guard:
            assert (await guard.acheck(HELLO)).verdict.failure == "unavailable"
        async with guard_of(server.url, tls={"ca": str(PEM)}) as guard:
            assert (await guard.acheck(HELLO)).action == "allow"
    assert len([request for request in server.requests if request.head.startswith(b"POST")]) == 1


async def test_paths_count_from_the_folder_of_the_yaml(tmp_path: Path) -> None:
    (tmp_path / "company.pem").write_bytes(PEM.read_bytes())
    async with listening("localhost", tls=served_with_tls()) as server:
        config = tmp_path / "turnguard.yaml"
        config.write_text(f"moderator: {{base_url: '{server.url}', tls: {{ca: company.pem}}}}\n")
        async with Guard.from_yaml(config) as guard:
            assert (await guard.acheck(HELLO)).action == "allow"


async def test_a_clients_certificate(client_pem: Path) -> None:
    context = served_with_tls()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(client_pem / "cert.pem")
    named = {"cert": str(client_pem / "cert.pem"), "key": str(client_pem / "key.pem")}
    async with listening("localhost", tls=context) as server:
        async with guard_of(server.url, tls={"ca": str(PEM), **named}) as guard:
            assert (await guard.acheck(HELLO)).action == "allow"
        async with guard_of(server.url, tls={"ca": str(PEM)}) as guard:
            assert (await guard.acheck(HELLO)).verdict.failure == "unavailable"


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        ({"ca": "nowhere.pem"}, "moderator.tls.ca: there is no file nowhere.pem"),
        ({"ca": __file__}, "holds no certificate in PEM form"),
        ({"cert": __file__}, "without a password"),
        ({"key": str(PEM)}, "name it under cert"),
    ],
)
def test_certificates_that_cannot_be_read_are_errors_of_the_configuration(tls: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        guard_of("https://localhost:1/v1", tls=tls)
    assert told in str(caught.value)


def test_tls_for_an_http_server_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="begins with https://"):
        guard_of("http://localhost:1/v1", tls={"ca": str(PEM)})


# ---------------------------------------------------------------- a proxy


async def test_through_a_proxy_with_a_password(fake: FakeVLLM) -> None:
    with proxying("agent:planted-password") as proxy:
        guard = guard_of(fake.base_url, proxy=proxy.url)
        async with guard:
            decision = await guard.acheck(HELLO)
            assert decision.action == "allow", decision.verdict.cause
        assert any(asked.startswith("POST ") for asked in proxy.asked)
        assert "planted-password" not in repr(guard.moderator_settings)
        async with guard_of(fake.base_url, proxy=proxy.url.replace("planted", "wrong")) as guard:
            decision = await guard.acheck(HELLO)
    assert decision.failed
    assert "password" not in str(decision.to_dict())


async def test_through_a_tunnel_to_a_server_with_a_certificate_of_its_own() -> None:
    with proxying() as proxy:
        async with (
            listening("localhost", tls=served_with_tls()) as server,
            guard_of(server.url, proxy=proxy.url, tls={"ca": str(PEM)}) as guard,
        ):
            assert (await guard.acheck(HELLO)).action == "allow"
    assert {asked.split(" ")[0] for asked in proxy.asked} == {"CONNECT"}


async def test_a_dead_proxy_fails_closed_and_never_goes_around(fake: FakeVLLM) -> None:
    async with guard_of(fake.base_url, proxy="http://127.0.0.1:9") as guard:
        assert (await guard.acheck(HELLO)).verdict.failure == "unavailable"
    assert fake.requests == []


async def test_proxies_of_the_environment_are_not_used(fake: FakeVLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying() as proxy, proxying() as other:
        monkeypatch.setenv("HTTP_PROXY", other.url)
        async with guard_of(fake.base_url, proxy=proxy.url) as guard:
            assert (await guard.acheck(HELLO)).action == "allow"
        assert other.asked == []


def test_one_guard_serves_several_loops_through_a_proxy() -> None:
    async def main() -> None:
        with FakeVLLM() as fake, proxying() as proxy:
            async with guard_of(fake.base_url, proxy=proxy.url) as guard:

                def one(number: int) -> str:
                    return asyncio.run(guard.acheck(Step.input(f"hello {number}"))).action

                first = await asyncio.gather(*(asyncio.to_thread(one, number) for number in range(4)))
                here = await guard.acheck(HELLO)
                assert [*first, here.action] == ["allow"] * 5

    asyncio.run(main())


async def test_the_doctor_goes_the_same_way() -> None:
    with FakeVLLM() as fake, proxying() as proxy:
        settings = {"base_url": fake.base_url, "proxy": proxy.url, "headers": {"X-Tenant": "search"}}
        await examine(from_dict({"moderator": settings}, {}), accept_sandbox=True)
        assert len(proxy.asked) >= len(fake.requests) > 10
        assert {request.headers.get("x-tenant") for request in fake.requests} == {"search"}


def test_a_proxy_is_a_url() -> None:
    with pytest.raises(ConfigError, match=r"moderator\.proxy.*http://proxy\.internal:3128"):
        guard_of("http://localhost:1/v1", proxy="proxy.internal:3128")
