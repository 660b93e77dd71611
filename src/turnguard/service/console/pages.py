"""The console's pages. Every one is a plain form or a link: script only makes them quicker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute

from turnguard.core.action import ACTIONS
from turnguard.core.decision import plain_part
from turnguard.core.errors import ConfigError, StoreError
from turnguard.core.step import STAGES
from turnguard.service import reviews as answers
from turnguard.service.console import session as sessions
from turnguard.service.console.explained import Whole, fired, matrix, scales
from turnguard.service.console.render import page
from turnguard.service.console.session import LoggedOut, Session
from turnguard.service.errors import KNOWN, Refusal, status_of
from turnguard.service.state import Service, service_of

T = TypeVar("T")
SPANS = {"1h": 1, "24h": 24, "7d": 168, "30d": 720}
PER_PAGE = 50
MOST_SKIPPED = 100_000


class Page(APIRoute):
    """A route whose errors are pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with what it raises told to a person."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except (LoggedOut, *KNOWN) as failure:
                return _told(request, failure)

        return handle


def _told(request: Request, failure: Exception) -> Response:
    """A page that says what went wrong, with the right status."""
    if isinstance(failure, LoggedOut):
        return RedirectResponse("/console/login", 303)
    status, message = status_of(failure)
    session = None
    with contextlib.suppress(LoggedOut):
        session = sessions.session_of(request, service_of(request))
    return page(request, "problem", status, session=session, message=message)


router = APIRouter(prefix="/console", include_in_schema=False, route_class=Page)


def _enter(request: Request) -> tuple[Service, Session]:
    service = service_of(request)
    sessions.check_host(request, service)
    return service, sessions.session_of(request, service)


def _form(request: Request, token: str) -> tuple[Service, Session]:
    """Whoever sends a form that may change something."""
    service, session = _enter(request)
    sessions.check_origin(request)
    sessions.check_token(session, token)
    return service, session


async def _asked(service: Service, work: Callable[..., T], *given: Any) -> T:
    """Ask the database, in a thread. Raises `Refusal` 404 where there is none, `StoreError` where it cannot be used."""
    try:
        return await asyncio.to_thread(lambda: work(service.store(), *given))
    except ConfigError as error:
        raise Refusal(404, str(error)) from None


# ---------------------------------------------------------------- in and out


@router.get("/login")
async def login_page(request: Request, once: str | None = None) -> Response:
    """A form for a key; or the session that the terminal's one-time URL stands for."""
    service = service_of(request)
    sessions.check_host(request, service)
    if once is None:
        return page(request, "login", open=service.access.open, problem=None)
    response = RedirectResponse("/console", 303)
    sessions.begin_once(service, response, request, once)
    return response


@router.post("/login")
async def login(
    request: Request, key: Annotated[str, Form(max_length=500)] = "", person: Annotated[str, Form(max_length=80)] = ""
) -> Response:
    """Open a session with a key."""
    service = service_of(request)
    sessions.check_host(request, service)
    sessions.check_origin(request)
    response = RedirectResponse("/console", 303)
    name = "".join(each for each in person if each.isprintable()).strip() or "someone"
    try:
        sessions.begin(service, response, request, key, name)
    except Refusal as refusal:
        return page(request, "login", refusal.status, open=service.access.open, problem=refusal.message)
    return response


@router.post("/logout")
async def logout(request: Request, token: Annotated[str, Form()] = "") -> Response:
    """End the session."""
    _form(request, token)
    response = RedirectResponse("/console/login", 303)
    response.delete_cookie(sessions.COOKIE, path="/console")
    return response


# ---------------------------------------------------------------- records


@router.get("")
async def overview_page(request: Request, span: str = "24h") -> Response:
    """The last 24 hours."""
    from turnguard.records.overview import overview
    from turnguard.records.query import Filter

    service, session = _enter(request)
    hours = SPANS.get(span, 24)
    wanted = Filter(tenant=session.caller.tenant, since=_ago(hours), until=_ago(0))
    found = await _asked(service, overview, wanted)
    form = "%H:%M" if hours <= 24 else "%b %d"
    buckets = [(f"{time:{form}}", counts) for time, counts in found.buckets]
    return page(
        request,
        "overview",
        session=session,
        found=found,
        buckets=buckets,
        span=span,
        spans=list(SPANS),
        hours=hours,
        waiting=await _waiting(service, session),
    )


def _ago(hours: float) -> int:
    """A time as records have it: milliseconds since 1970, UTC."""
    return int((time.time() - hours * 3600) * 1000)


async def _waiting(service: Service, session: Session) -> int:
    return len(await service.guard.reviews.find("waiting", tenant=session.caller.tenant, limit=1000))


@router.get("/decisions")
async def decisions_page(request: Request) -> Response:
    """Decisions, the newest first; with `rows=1` the table's rows alone, for the script."""
    from turnguard.records.query import Filter, find

    service, session = _enter(request)
    query = {name: value for name, value in request.query_params.items() if value}
    hours = SPANS.get(query.get("span", "24h"), 24)
    wanted = Filter(
        action=_among(query.get("action"), ACTIONS),
        stage=_among(query.get("stage"), STAGES),
        category=query.get("category"),
        rule=query.get("rule"),
        tenant=session.caller.tenant or query.get("tenant"),
        user=query.get("user"),
        failed=True if query.get("failed") else None,
        shadow_differs=bool(query.get("differs")),
        since=_ago(hours),
    )
    skipped = _number(query.get("skip"))
    rows = await _asked(service, find, wanted, PER_PAGE, skipped)
    older = None
    if len(rows) == PER_PAGE:
        kept = {name: value for name, value in query.items() if name not in ("skip", "rows")}
        older = urlencode({**kept, "skip": str(skipped + PER_PAGE)})
    name = "rows" if query.get("rows") else "decisions"
    return page(
        request,
        name,
        session=session,
        rows=rows,
        query=query,
        older=older,
        spans=list(SPANS),
        categories=_categories(service),
        wide=True,
    )


def _categories(service: Service) -> list[str]:
    """What a decision may be filtered by: the categories of every policy."""
    policies = (service.guard.policy, *service.guard.policies.values())
    return list(dict.fromkeys(name for policy in policies for name in policy.categories))


def _among(value: str | None, known: tuple[T, ...]) -> T | None:
    return next((each for each in known if each == value), None)


def _number(text: str | None) -> int:
    return min(int(text), MOST_SKIPPED) if text is not None and text.isascii() and text.isdigit() else 0


@router.get("/decisions/{identity}")
async def decision_page(request: Request, identity: str) -> Response:
    """One decision, explained."""
    service, session = _enter(request)
    return await _decision(request, service, session, identity)


@router.post("/decisions/{identity}")
async def decision_content(request: Request, identity: str, token: Annotated[str, Form()] = "") -> Response:
    """The same with what was judged. That somebody looked is recorded."""
    service, session = _form(request, token)
    if not session.caller.may("review"):
        raise Refusal(403, f"the role {session.caller.role} sees no content")
    return await _decision(request, service, session, identity, look=True)


async def _decision(
    request: Request, service: Service, session: Session, identity: str, *, look: bool = False
) -> Response:
    from turnguard.records.look import look as opened
    from turnguard.records.query import one

    rows = [row for row in await _asked(service, one, identity) if row.id == identity and row.event == "check"]
    if not rows or session.caller.tenant not in (None, rows[0].tenant):
        raise Refusal(404, "there is no such decision: it was erased, is older than records.keep, or never was")
    row = rows[0]
    whole = Whole.of(row)
    shown = await _asked(service, opened, row, session.by) if look else None
    try:
        policy = await asyncio.to_thread(lambda: service.store().policy(row.policy, row.edition))
    except (ConfigError, StoreError):
        policy = None
    return page(
        request,
        "decision",
        session=session,
        whole=whole,
        record=row,
        policy=policy,
        fired=fired(whole.reasons, policy),
        shadow=fired(whole.shadow_reasons, policy.shadow if policy is not None else None),
        scales=scales(whole, policy),
        content=shown,
        may_look=session.caller.may("review"),
    )


# ---------------------------------------------------------------- reviews


@router.get("/reviews")
async def reviews_page(request: Request, status: str = "waiting") -> Response:
    """What waits, or what was answered."""
    service, session = _enter(request)
    known = ("waiting", "approved", "rejected", "expired")
    chosen = _among(status, known) or "waiting"
    rows = await service.guard.reviews.find(chosen, tenant=session.caller.tenant, limit=200)  # type: ignore[arg-type]
    return page(request, "reviews", session=session, rows=rows, status=chosen, known=known)


@router.get("/reviews/{identity}")
async def review_page(request: Request, identity: str) -> Response:
    """One review, without its content."""
    service, session = _enter(request)
    return await _review(request, service, session, identity)


@router.post("/reviews/{identity}")
async def review_form(
    request: Request,
    identity: str,
    verb: Annotated[str, Form()] = "",
    note: Annotated[str, Form(max_length=4000)] = "",
    token: Annotated[str, Form()] = "",
) -> Response:
    """Show the content, approve or reject."""
    service, session = _form(request, token)
    if not session.caller.may("review"):
        raise Refusal(403, f"the role {session.caller.role} answers no reviews")
    if verb == "show":
        await answers.found(service, session.caller, identity)
        _, held = await service.guard.reviews.show(identity, by=session.by)
        return await _review(request, service, session, identity, held)
    if verb not in ("approve", "reject"):
        raise Refusal(422, "a review is approved or rejected")
    try:
        await answers.answered(service, session.caller, identity, verb, session.by, note)
    except Refusal as refusal:
        return await _review(request, service, session, identity, problem=refusal)
    return RedirectResponse("/console/reviews", 303)


async def _review(
    request: Request,
    service: Service,
    session: Session,
    identity: str,
    held: Any = None,
    problem: Refusal | None = None,
) -> Response:
    review = await answers.found(service, session.caller, identity)
    return page(
        request,
        "review",
        problem.status if problem is not None else 200,
        session=session,
        review=review,
        fired=fired(review.reasons, service.guard.policy),
        content=None if held is None else [plain_part(part) for part in held.parts],
        prompt=None if held is None else held.prompt,
        may_answer=session.caller.may("review"),
        problem=None if problem is None else problem.message,
    )


# ---------------------------------------------------------------- policy


@router.get("/policy")
async def policy_page(request: Request, name: str = "") -> Response:
    """The live policy and its shadow, per category and stage."""
    service, session = _enter(request)
    guard = service.guard
    own = session.caller.policy
    names = [own] if own is not None else ["", *guard.policies]
    chosen = name if name in names else names[0]
    policy = guard.chosen(chosen or None)
    return page(
        request,
        "policy",
        session=session,
        policy=policy,
        rows=matrix(policy),
        own=[] if policy.own is None else [one.name for one in policy.own.categories],
        names=names,
        chosen=chosen,
        wide=True,
    )


@router.get("/{elsewhere:path}")
async def nothing_there() -> Response:
    """Any other address: a page that says so."""
    raise Refusal(404, "there is no such page")
