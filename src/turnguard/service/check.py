"""`/v1/check` and `/v1/check/messages`: one step, or a transcript of any dialect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import AfterValidator, Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema

from turnguard.core.decision import Decision, plain_part
from turnguard.core.row import step_of_row
from turnguard.core.step import Document, Stage
from turnguard.service.body import AsPart, Body, described, is_kind, read, read_form
from turnguard.service.errors import Refusal
from turnguard.service.state import caller_of, service_of

router = APIRouter(prefix="/v1", tags=["check"])


def _fetchable(source: str | bytes) -> str | bytes:
    if isinstance(source, str) and not source[:8].lower().startswith(("data:", "http://", "https://")):
        raise ValueError("an image is a data: URI or an http(s) URL, never the name of a file")
    return source


def _inline(source: Any) -> Any:
    if isinstance(source, str) and source[:5].lower() != "data:":
        raise ValueError("a document is a data: URI, never the name of a file")
    return source


ImageField = Annotated[str | SkipJsonSchema[bytes], AfterValidator(_fetchable)]
DocumentField = Annotated[str | SkipJsonSchema[InstanceOf[Document]], AfterValidator(_inline)]
Metadata = Annotated[dict[str, str], Field(max_length=16)]
PolicyName = Annotated[str, Field(max_length=200)]


class CheckBody(Body):
    """One step: a row of `turnguard batch`, with `metadata` and `policy`."""

    id: str | None = Field(None, max_length=200, description="Your own name for the row; it comes back as `row`.")
    stage: Stage = Field("input", description="Where in the turn the step stands.")
    text: str = Field("", description="What is judged; of a tool_call and of tools a JSON object as text.")
    images: list[ImageField] = Field([], description="data: URIs, or URLs that media.allow_urls names.")
    documents: list[DocumentField] = Field([], description="data: URIs.")
    prompt: str | None = Field(None, description="The person's request that a later step answers.")
    tool: str | None = Field(None, max_length=200, description="The tool of a tool_call or tool_result.")
    language: str | None = Field(None, max_length=64, description="A language tag where it is known.")
    metadata: Metadata = Field({}, description="Short strings for the record: user, thread, request, tenant.")
    policy: PolicyName | None = Field(None, description="A named policy.")


class MessagesBody(Body):
    """A transcript in any provider's dialect."""

    messages: list[dict[str, Any]] = Field(description="OpenAI's, Anthropic's, Gemini's or Bedrock's messages.")
    metadata: Metadata = Field({}, description="Short strings for the record.")
    policy: PolicyName | None = Field(None, description="A named policy.")


def answer(data: Any) -> Response:
    """JSON that any reader takes: half of a surrogate pair in content must not end the request."""
    return Response(_COMPACT.encode(data), media_type="application/json")


_COMPACT = json.JSONEncoder(separators=(",", ":"))


def told(decision: Decision) -> dict[str, Any]:
    """A decision, with what to pass on where it passes."""
    data = decision.to_dict()
    if not decision.withheld:
        data["content"] = [plain_part(part) for part in decision.content]
    return data


_FILES: Mapping[str, AsPart] = {
    "images": lambda data, _file: data,
    "documents": lambda data, file: Document(data, file.content_type or None, file.filename or None),
}


@router.post("/check", openapi_extra=described(CheckBody, form=True), summary="Judge one step")
async def check(request: Request) -> Response:
    """The decision, and with `content` what to pass on unless it was withheld."""
    if is_kind(request, "multipart/form-data"):
        body = await read_form(request, CheckBody, files=_FILES, nested=frozenset({"metadata"}))
    else:
        body = read(request, CheckBody)
    caller = caller_of(request)
    if body.prompt and body.stage in ("input", "tools"):
        raise Refusal(422, f"prompt: a step of stage {body.stage} answers no request; give what it says as text")
    try:
        step = step_of_row(
            body.stage,
            body.text,
            body.images,
            body.documents,
            prompt=body.prompt or None,
            tool=body.tool or "tool",
            language=body.language or None,
            metadata=caller.metadata(body.metadata),
        )
    except (ValueError, TypeError) as error:
        raise Refusal(422, str(error)) from None
    decision = await service_of(request).guard.acheck(step, policy=caller.policy or body.policy)
    data = told(decision)
    if body.id is not None:
        data["row"] = body.id
    return answer(data)


@router.post("/check/messages", openapi_extra=described(MessagesBody), summary="Judge a transcript")
async def check_messages(request: Request) -> Response:
    """A decision for each part, and the messages to use instead, in their own dialect."""
    body, caller = read(request, MessagesBody), caller_of(request)
    messages, decisions = await service_of(request).guard.aguard_messages(
        body.messages, policy=caller.policy or body.policy, metadata=caller.metadata(body.metadata)
    )
    return answer({"decisions": [decision.to_dict() for decision in decisions], "messages": messages})
