"""The console over HTTP: sessions, forged forms, roles and tenants, answers that come twice, policies that are gone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.conftest import ADMIN, CHECK, KEYS, READ, REVIEW, Running, served
from turnguard import Guard
from turnguard.config.document import Config, parse
from turnguard.config.files import load
from turnguard.service.console import session as sessions
from turnguard.service.state import Shared, over_http
from turnguard.testing import FakeVLLM

TENANT_KEY = "key-of-a-reviewer-of-team-a"
POLICY = """
policy:
  default: block
  categories: {Needs Caution: review, Profanity: flag}
"""


def configured(vllm: FakeVLLM, folder: Path, policy: str = POLICY, moderator: str = "") -> Config:
    """A configuration with records, and a key of each role and of one tenant's reviewer."""
    keys = [f"{{key: {key}, role: {role}}}" for role, key in KEYS.items()]
    keys.append(f"{{key: {TENANT_KEY}, role: review, tenant: team-a}}")
    text = f"""
moderator: {{base_url: {vllm.base_url}, deadline: 60s{moderator}}}
records: {{url: "sqlite:///{folder}/records.db", content: true, key: {"k" * 40}}}
service: {{keys: [{", ".join(keys)}]}}
{policy}
"""
    file = folder / "policies" / "turnguard.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return over_http(load(file))


@contextmanager
def console(
    vllm: FakeVLLM, folder: Path, policy: str = POLICY, moderator: str = ""
) -> Iterator[tuple[Running, Config]]:
    """A service with its console."""
    config = configured(vllm, folder, policy, moderator)
    with served(Guard.from_config(config), config.service, records=config.records) as service:
        yield service, config


@contextmanager
def logged_in(service: Running, key: str, person: str = "Ada") -> Iterator[httpx.Client]:
    """A browser's cookies, without the browser."""
    with service.client(follow_redirects=True) as client:
        client.headers["origin"] = service.url
        answer = client.post("/console/login", data={"key": key, "person": person})
        assert answer.status_code == 200, answer.text
        yield client


def check(service: Running, text: str, tenant: str = "team-a", **more: Any) -> dict[str, Any]:
    """Ask, and wait until the record is in the database."""
    with service.client(KEYS[CHECK]) as client:
        metadata = {"tenant": tenant, **more.pop("metadata", {})}
        made: dict[str, Any] = client.post("/v1/check", json={"text": text, "metadata": metadata, **more}).json()
    with logged_in(service, KEYS[ADMIN]) as client:
        deadline = time.monotonic() + 20
        while client.get(f"/console/decisions/{made['id']}").status_code != 200:
            assert time.monotonic() < deadline, "there is no record"
            time.sleep(0.05)
    return made


def token_of(page: str) -> str:
    """The token in a page's forms."""
    found = re.search(r'name="token" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


def test_a_blocked_decision_is_explained_with_the_policys_line(vllm: FakeVLLM, tmp_path: Path) -> None:
    vllm.when("threat", user="unsafe", categories=["Violence"], p=0.93)
    with console(vllm, tmp_path) as (service, _), logged_in(service, KEYS[READ]) as client:
        made = check(service, "a threat", metadata={"user": "mallory"})
        page = client.get(f"/console/decisions/{made['id']}").text
        listed = client.get("/console/decisions?action=block").text
        overview = client.get("/console").text
        policy = client.get("/console/policy").text
    assert "policies/turnguard.yaml:" in page
    assert "policy.default" in page
    assert "default: block" in page
    assert "0.93" in page
    assert "mallory" in page
    assert "a threat" not in page
    assert made["id"] in listed
    assert "Checks by action" in overview
    assert "Needs Caution" in policy


@pytest.mark.parametrize("path", ["", "/decisions", "/decisions/x", "/reviews", "/reviews/x", "/policy"])
def test_nobody_sees_a_page_without_a_session(vllm: FakeVLLM, tmp_path: Path, path: str) -> None:
    with console(vllm, tmp_path) as (service, _), service.client() as client:
        for cookie in ("", "x.y", "e30=.00"):
            client.cookies.set(sessions.COOKIE, cookie)
            answer = client.get(f"/console{path}")
            assert answer.status_code == 303
            assert answer.headers["location"] == "/console/login"


def test_a_session_is_strict_signed_and_ends_with_its_key(vllm: FakeVLLM, tmp_path: Path) -> None:
    with console(vllm, tmp_path) as (service, _):
        with service.client() as client:
            answer = client.post(
                "/console/login", data={"key": KEYS[READ], "person": "Ada"}, headers={"origin": service.url}
            )
            cookie = answer.headers["set-cookie"]
            value = answer.cookies[sessions.COOKIE]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert KEYS[READ] not in cookie
        payload, _, signature = value.partition(".")
        for forged in (f"{payload[:-2]}AA.{signature}", f"{payload}.{'0' * 64}", payload):
            with service.client() as client:
                client.cookies.set(sessions.COOKIE, forged)
                assert client.get("/console").status_code == 303
    other = tmp_path / "other"
    other.mkdir()
    config = configured(vllm, other)
    kept = config.service.model_copy(update={"keys": config.service.keys[2:]})
    with served(Guard.from_config(config), kept, records=config.records) as service, service.client() as client:
        client.cookies.set(sessions.COOKIE, value)
        assert client.get("/console").status_code == 303  # the key was taken away


def test_a_wrong_key_and_one_that_only_asks_stay_outside(vllm: FakeVLLM, tmp_path: Path) -> None:
    with console(vllm, tmp_path) as (service, _), service.client() as client:
        client.headers["origin"] = service.url
        wrong = client.post("/console/login", data={"key": "wrong-key-0123456789", "person": "x"})
        asks = client.post("/console/login", data={"key": KEYS[CHECK], "person": "x"})
    assert (wrong.status_code, asks.status_code) == (401, 403)
    assert "set-cookie" not in wrong.headers
    assert "wrong-key" not in wrong.text


def test_a_form_of_another_site_or_without_its_token_changes_nothing(vllm: FakeVLLM, tmp_path: Path) -> None:
    vllm.when("lock", user="unsafe", categories=["Needs Caution"], p=0.8)
    with console(vllm, tmp_path) as (service, _), logged_in(service, KEYS[REVIEW]) as client:
        review = check(service, "pick a lock")["review_id"]
        place = f"/console/reviews/{review}"
        token = token_of(client.get(place).text)
        form = {"verb": "approve", "note": "", "token": token}
        with logged_in(service, KEYS[ADMIN]) as other:
            foreign = token_of(other.get(place).text)
        assert client.post(place, data=form, headers={"origin": "https://evil.example"}).status_code == 403
        assert client.post(place, data=form, headers={"origin": "null"}).status_code == 403
        del client.headers["origin"]
        assert client.post(place, data=form).status_code == 403
        client.headers["origin"] = service.url
        assert client.post(place, data={**form, "token": ""}).status_code == 403
        assert client.post(place, data={**form, "token": "é"}).status_code == 403
        assert client.post(place, data={**form, "token": foreign}).status_code == 403
        assert client.post(place, data={**form, "verb": "erase"}).status_code == 422
        assert "Approve" in client.get(place).text
        assert client.post("/console/login", data={"key": KEYS[ADMIN]}, headers={"origin": "null"}).status_code == 403


def test_a_review_is_answered_once_over_the_console_and_the_api(vllm: FakeVLLM, tmp_path: Path) -> None:
    vllm.when("lock", user="unsafe", categories=["Needs Caution"], p=0.8)
    with console(vllm, tmp_path) as (service, _), logged_in(service, KEYS[REVIEW]) as client:
        review = check(service, "pick a lock")["review_id"]
        place = f"/console/reviews/{review}"
        token = token_of(client.get(place).text)
        shown = client.post(place, data={"verb": "show", "token": token})
        assert "pick a lock" in shown.text
        done = client.post(place, data={"verb": "approve", "note": "his own door", "token": token})
        assert done.status_code == 200
        again = client.post(place, data={"verb": "reject", "note": "", "token": token})
        assert again.status_code == 409
        assert "answered already" in again.text
        with service.client(KEYS[REVIEW]) as api:
            late = api.post(f"/v1/reviews/{review}/reject", json={"by": "Grace", "note": "no"})
            assert late.status_code == 409
            assert late.json()["error"]["type"] == "conflict"
            found = api.get("/v1/reviews?status=approved").json()["reviews"]
            assert [each["id"] for each in found] == [review]
            assert found[0]["note"] == "his own door"
            assert found[0]["by"].startswith("Ada (")
            held = api.get(f"/v1/reviews/{review}?by=Grace").json()
            assert held["content"] == [{"type": "text", "text": "pick a lock"}]
            assert api.post("/v1/reviews/nothing/approve", json={"by": "Grace"}).status_code == 404
            assert api.post(f"/v1/reviews/{review}/approve", json={"by": ""}).status_code == 422


def test_a_reader_sees_no_content_and_answers_nothing(vllm: FakeVLLM, tmp_path: Path) -> None:
    vllm.when("lock", user="unsafe", categories=["Needs Caution"], p=0.8)
    with console(vllm, tmp_path) as (service, _), logged_in(service, KEYS[READ]) as client:
        made = check(service, "pick a lock")
        page = client.get(f"/console/decisions/{made['id']}")
        assert "Your role sees no content" in page.text
        token = token_of(page.text)
        refused = client.post(f"/console/decisions/{made['id']}", data={"token": token})
        assert refused.status_code == 403
        assert "pick a lock" not in refused.text
        place = f"/console/reviews/{made['review_id']}"
        for verb in ("show", "approve"):
            assert client.post(place, data={"verb": verb, "token": token}).status_code == 403


def test_content_is_shown_when_asked_for_and_the_look_is_recorded(vllm: FakeVLLM, tmp_path: Path) -> None:
    from turnguard.records.query import Filter, find
    from turnguard.records.store import Store

    with console(vllm, tmp_path) as (service, config), logged_in(service, KEYS[REVIEW]) as client:
        made = check(service, "nothing special")
        place = f"/console/decisions/{made['id']}"
        page = client.get(place).text
        assert "nothing special" not in page
        assert "nothing special" in client.post(place, data={"token": token_of(page)}).text
    store = Store.open(config.records)
    try:
        looks = find(store, Filter(event="content_seen"))
    finally:
        store.close()
    assert len(looks) == 1


def test_a_tenant_sees_its_own_alone(vllm: FakeVLLM, tmp_path: Path) -> None:
    vllm.when("lock", user="unsafe", categories=["Needs Caution"], p=0.8)
    with console(vllm, tmp_path) as (service, _), logged_in(service, TENANT_KEY) as client:
        own = check(service, "pick a lock", "team-a")
        other = check(service, "pick another lock", "team-b")
        assert client.get(f"/console/decisions/{own['id']}").status_code == 200
        assert client.get(f"/console/decisions/{other['id']}").status_code == 404
        assert client.get(f"/console/reviews/{other['review_id']}").status_code == 404
        token = token_of(client.get("/console").text)
        for place in (f"/console/decisions/{other['id']}", f"/console/reviews/{other['review_id']}"):
            answer = client.post(place, data={"verb": "show", "token": token})
            assert answer.status_code == 404
            assert "another lock" not in answer.text
        listed = client.get("/console/decisions?tenant=team-b").text
        assert own["id"] in listed
        assert other["id"] not in listed
        assert other["review_id"] not in client.get("/console/reviews").text
        with service.client(TENANT_KEY) as api:
            assert [each["id"] for each in api.get("/v1/reviews").json()["reviews"]] == [own["review_id"]]
            answer = api.post(f"/v1/reviews/{other['review_id']}/approve", json={"by": "Ada"})
            assert answer.status_code == 404


def test_a_decision_whose_policy_is_gone_is_shown_all_the_same(vllm: FakeVLLM, tmp_path: Path) -> None:
    import sqlalchemy as sa

    vllm.when("threat", user="unsafe", categories=["Violence"], p=0.93)
    with console(vllm, tmp_path) as (service, _), logged_in(service, KEYS[READ]) as client:
        made = check(service, "a threat")
        engine = sa.create_engine(f"sqlite:///{tmp_path}/records.db")
        with engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM policies"))
        engine.dispose()
        page = client.get(f"/console/decisions/{made['id']}")
        gone = client.get("/console/policy?name=deleted")
    assert page.status_code == 200
    assert "policy.default" in page.text
    assert "text was not kept" in page.text
    assert gone.status_code == 200


def test_without_records_it_says_what_to_write(vllm: FakeVLLM, tmp_path: Path) -> None:
    config = configured(vllm, tmp_path)
    with served(Guard.from_config(config), config.service) as service, logged_in_anyway(service) as client:
        answer = client.get("/console")
        assert answer.status_code == 404
        assert "records.url" in answer.text
        assert client.get("/console/policy").status_code == 200


@contextmanager
def logged_in_anyway(service: Running) -> Iterator[httpx.Client]:
    """As `logged_in`, where the first page is an error."""
    with service.client() as client:
        client.headers["origin"] = service.url
        assert client.post("/console/login", data={"key": KEYS[ADMIN], "person": "x"}).status_code == 303
        yield client


def test_a_database_that_cannot_be_opened_is_an_error_of_the_console_alone(vllm: FakeVLLM, tmp_path: Path) -> None:
    text = f'moderator: {{base_url: {vllm.base_url}}}\nrecords: {{url: "sqlite:////proc/nosuch/records.db"}}\n'
    keys = f"service: {{keys: [{{key: {KEYS[ADMIN]}, role: admin}}]}}\n"
    config = over_http(parse(text + keys, {}))
    with served(Guard.from_config(config), config.service, records=config.records) as service:
        with service.client(KEYS[ADMIN]) as client:
            assert client.post("/v1/check", json={"text": "Hello"}).json()["action"] == "allow"
        with logged_in_anyway(service) as browser:
            assert browser.get("/console").status_code == 503


@pytest.mark.parametrize("page", ["/console/login", "/console", "/console/nothing"])
def test_every_page_forbids_what_it_does_not_need(vllm: FakeVLLM, tmp_path: Path, page: str) -> None:
    with console(vllm, tmp_path) as (service, _), logged_in(service, KEYS[ADMIN]) as client:
        answer = client.get(page)
    assert answer.status_code == (404 if page == "/console/nothing" else 200)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "style=" not in answer.text


def test_a_form_of_megabytes_is_refused(vllm: FakeVLLM, tmp_path: Path) -> None:
    with console(vllm, tmp_path) as (service, _), service.client() as client:
        answer = client.post("/console/login", data={"key": "x" * 1_000_000}, headers={"origin": service.url})
    assert answer.status_code == 413


def test_the_terminals_url_opens_one_session(tmp_path: Path, guard_of: Callable[..., Guard]) -> None:
    once = tmp_path / "once"
    once.write_text("token-of-the-terminal")
    with served(guard_of(), shared=Shared(once=once, secret="s" * 64)) as service:
        with service.client() as client:
            assert client.get("/console/login?once=wrong").status_code == 403
            assert client.get("/console/login?once=token-of-the-terminal").status_code == 303
            assert client.get("/console/policy").status_code == 200
            assert client.get("/console/policy", headers={"host": "evil.example"}).status_code == 421
        with service.client() as late:
            assert late.get("/console/login?once=token-of-the-terminal").status_code == 403
            assert late.get("/console/policy").status_code == 303
