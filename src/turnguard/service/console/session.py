"""Who sits in front of the console: a signed cookie, and tokens against forged forms.

A session is signed with a secret that is derived from the key that opened it. So it works in every worker and on every
machine that knows the key, it can do no more than the key can, and it ends when the key is taken away.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request, Response

from turnguard.service.access import Caller, host_of, is_loopback
from turnguard.service.errors import Refusal
from turnguard.service.state import Service

COOKIE = "turnguard_session"
SECONDS = 12 * 3600
LOCAL = Caller("admin", "local")


class LoggedOut(Exception):
    """There is no session: the login page follows."""


@dataclass(frozen=True, slots=True)
class Session:
    """A person at the console. `person` is the name they gave: a claim. `token` stands in every form."""

    caller: Caller
    person: str
    token: str

    @property
    def by(self) -> str:
        """Who is recorded with an answer: the claimed name, and the key that vouches for it."""
        return f"{self.person} ({self.caller.name})"


def begin(service: Service, response: Response, request: Request, key: str, person: str) -> Caller:
    """Open a session with a key. Raises `Refusal` where it is not known or may not see anything."""
    caller = service.access.find(key.strip())
    if caller is None:
        raise Refusal(401, "this key is not known")
    if not caller.may("read"):
        raise Refusal(403, f"this key has the role {caller.role}: it asks, and sees nothing")
    _give(response, request, key.strip(), caller.name, person)
    return caller


def begin_once(service: Service, response: Response, request: Request, token: str) -> None:
    """Open the session that the terminal's URL stands for, once. Raises `Refusal`."""
    once = service.shared.once
    if once is None:
        raise Refusal(403, "this service has keys: log in with one")
    try:
        right = hmac.compare_digest(once.read_text(encoding="ascii"), token)
        if right:
            once.unlink()  # only one of several who come at once can remove it
    except (OSError, TypeError):
        right = False
    if not right:
        raise Refusal(403, "this URL was used before or is wrong; start the service again for a new one")
    _give(response, request, service.shared.secret, LOCAL.name, "local")


def _give(response: Response, request: Request, key: str, name: str, person: str) -> None:
    words = {"k": name, "p": person[:80], "e": int(time.time()) + SECONDS, "n": secrets.token_hex(8)}
    payload = base64.urlsafe_b64encode(json.dumps(words).encode()).decode()
    origin = request.headers.get("origin", "")
    response.set_cookie(
        COOKIE,
        f"{payload}.{_signature(key, payload)}",
        max_age=SECONDS,
        path="/console",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https" or origin.startswith("https:"),
    )


def _signature(key: str, text: str, purpose: bytes = b"turnguard console session") -> str:
    return hmac.new(hashlib.sha256(purpose + key.encode()).digest(), text.encode(), "sha256").hexdigest()


def session_of(request: Request, service: Service) -> Session:
    """The session of this request. Raises `LoggedOut`."""
    payload, _, signature = request.cookies.get(COOKIE, "").partition(".")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        words = json.loads(base64.urlsafe_b64decode(payload))
        known = _known(service, words["k"])
        if known is not None and words["e"] > time.time():
            key, caller = known
            if hmac.compare_digest(_signature(key, payload), signature):
                return Session(caller, str(words["p"]), _signature(key, payload, b"turnguard console form"))
    raise LoggedOut


def _known(service: Service, name: str) -> tuple[str, Caller] | None:
    if service.access.open:
        known = service.shared.once is not None and name == LOCAL.name
        return (service.shared.secret, LOCAL) if known else None
    return service.access.named(name)


def check_host(request: Request, service: Service) -> None:
    """Refuse a name that the console is not reached by: a page elsewhere may have pointed its own name here."""
    host = host_of(request.headers)
    hosts = service.settings.hosts
    if host not in hosts and not is_loopback(host) and (hosts or service.access.open):
        raise Refusal(421, "the console does not answer to this name; service.hosts lists those that it does")


def check_origin(request: Request) -> None:
    """Refuse a form that another site sends. Browsers name the origin of every form."""
    origin = request.headers.get("origin")
    if origin is None or urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise Refusal(403, "this form was sent from another site")


def check_token(session: Session, token: str) -> None:
    """Refuse a form that was not made for this session."""
    if not hmac.compare_digest(session.token.encode(), token.encode()):
        raise Refusal(403, "this form has expired: load the page again")
