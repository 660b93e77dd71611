"""`/v1/reviews`: what waits for a person, and their answers, within the tenant of the key."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from turnguard.core.decision import plain_part
from turnguard.core.errors import ReviewError
from turnguard.core.review import Review
from turnguard.service.access import Caller
from turnguard.service.body import Body, described, read
from turnguard.service.check import answer
from turnguard.service.errors import Refusal
from turnguard.service.state import Service, caller_of, service_of

router = APIRouter(prefix="/v1/reviews", tags=["reviews"])

Wanted = Literal["waiting", "approved", "rejected", "expired", "all"]
Name = Annotated[str, Query(min_length=1, max_length=200)]


class AnswerBody(Body):
    """A reviewer's answer."""

    by: str = Field(min_length=1, max_length=200, description="Who answers; it is recorded as a claim.")
    note: str = Field("", max_length=4000, description="Why.")


async def found(service: Service, caller: Caller, identity: str) -> Review:
    """A review of the caller's tenant. Raises `Refusal` 404: of another tenant's not even the existence is told."""
    review = await service.guard.reviews.get(identity)
    if review is None or caller.tenant not in (None, review.tenant):
        raise Refusal(404, "there is no such review")
    return review


async def answered(service: Service, caller: Caller, identity: str, verb: str, by: str, note: str) -> Review:
    """The review as `approve` or `reject` leaves it. Raises `Refusal` 409 where it was answered before."""
    review = await found(service, caller, identity)
    if review.status != "waiting":
        raise Refusal(409, f"this review was answered already: {review.status}{_by(review)}")
    reviews = service.guard.reviews
    try:
        return await (reviews.approve if verb == "approve" else reviews.reject)(identity, by=by, note=note)
    except ReviewError as error:
        late = await reviews.get(identity)
        raise Refusal(409 if late is not None and late.status != "waiting" else 422, str(error)) from None


def _by(review: Review) -> str:
    return f" by {review.by}" if review.by else ""


@router.get("", summary="What waits")
async def waiting(
    request: Request, status: Wanted = "waiting", limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Response:
    """Reviews without their content, the newest first."""
    wanted = None if status == "all" else status
    reviews = service_of(request).guard.reviews
    rows = await reviews.find(wanted, tenant=caller_of(request).tenant, limit=limit)
    return answer({"reviews": [review.to_dict() for review in rows]})


@router.get("/{identity}", summary="One review, with what it holds")
async def show(request: Request, identity: str, by: Name) -> Response:
    """The review with its content. That `by` looked at it is recorded."""
    service = service_of(request)
    await found(service, caller_of(request), identity)
    try:
        review, held = await service.guard.reviews.show(identity, by=by)
    except ReviewError as error:
        raise Refusal(422, str(error)) from None
    return answer({**review.to_dict(), "prompt": held.prompt, "content": [plain_part(part) for part in held.parts]})


@router.post("/{identity}/approve", openapi_extra=described(AnswerBody), summary="Let it pass")
async def approve(request: Request, identity: str) -> Response:
    """The review; 409 where it was answered before."""
    return await _answer(request, identity, "approve")


@router.post("/{identity}/reject", openapi_extra=described(AnswerBody), summary="Withhold it for good")
async def reject(request: Request, identity: str) -> Response:
    """The review; 409 where it was answered before."""
    return await _answer(request, identity, "reject")


async def _answer(request: Request, identity: str, verb: str) -> Response:
    body = read(request, AnswerBody)
    review = await answered(service_of(request), caller_of(request), identity, verb, body.by, body.note)
    return answer(review.to_dict())
