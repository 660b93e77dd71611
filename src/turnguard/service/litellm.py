"""`/beta/litellm_basic_guardrail_api`: LiteLLM's generic guardrail API, so that its gateway asks without a plug-in.

LiteLLM sends the texts and pictures that it took out of a request or a response, and the messages that they stand in.
All of it is judged as one transcript. LiteLLM can carry new texts out, and nothing else: whatever asks for another
change is blocked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from turnguard.core.decision import Decision
from turnguard.core.step import Step, Text
from turnguard.service.body import described, read
from turnguard.service.check import answer
from turnguard.service.state import caller_of, service_of

router = APIRouter(tags=["LiteLLM"])

METADATA: Mapping[str, tuple[str, ...]] = {
    "user": ("user_api_key_end_user_id", "user_api_key_user_id"),
    "tenant": ("user_api_key_team_id", "user_api_key_org_id"),
    "litellm_key": ("user_api_key_alias", "user_api_key_hash"),
}
"""What stands in the record, and which of LiteLLM's fields it is taken from, the first that is set."""


class LitellmBody(BaseModel):
    """LiteLLM's request. Fields that are not known are ignored: it sends more of them with every version."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    input_type: Literal["request", "response"]
    texts: list[str] | None = None
    images: list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    structured_messages: list[dict[str, Any]] | None = None
    request_data: dict[str, Any] = {}
    litellm_call_id: str | None = None
    litellm_trace_id: str | None = None


def conversation(body: LitellmBody) -> tuple[list[dict[str, Any]], int]:
    """The messages to judge, and how many of them are there for context alone."""
    messages: list[dict[str, Any]] = []
    role, context = "user", 0
    if body.input_type == "request":
        messages += body.structured_messages or ()
    else:
        role, prompt = "assistant", _last_text(body.structured_messages or ())
        messages += [{"role": "user", "content": prompt}] if prompt else ()
        context = len(messages)
    covered = set(_strings(messages[context:]))
    messages += [{"role": role, "content": text} for text in body.texts or () if text.strip() and text not in covered]
    pictures = [_image(each) for each in body.images or () if each not in covered]
    if pictures:
        messages.append({"role": role, "content": pictures})
    if body.tool_calls:
        messages.append({"role": "assistant", "content": None, "tool_calls": body.tool_calls})
    return messages, context


def outcome(texts: Sequence[str], before: Sequence[Any], after: Sequence[Any], decisions: Any) -> dict[str, Any]:
    """LiteLLM's response. A change that `texts` cannot carry is a block."""
    withheld = next((decision for decision in decisions if decision.withheld), None)
    rewritten = [decision for decision in decisions if decision.action == "rewrite"]
    old, new = list(_strings(before)), list(_strings(after))
    changed = dict(zip(old, new, strict=True)) if len(old) == len(new) else {}
    passed = [changed.get(text, text) for text in texts]
    if withheld is None and not all(_carried(each, passed) for each in rewritten):
        withheld = rewritten[0]
    if withheld is not None:
        reason = withheld.message or withheld.summary()
        return {"action": "BLOCKED", "blocked_reason": reason, "turnguard": withheld.to_dict()}
    return {"action": "GUARDRAIL_INTERVENED", "texts": passed} if rewritten else {"action": "NONE"}


def _carried(decision: Decision, texts: Sequence[str]) -> bool:
    """Whether the new texts hold everything that a rewrite made."""
    return all(isinstance(part, Text) and part.text in texts for part in decision.content)


@router.post(
    "/beta/litellm_basic_guardrail_api", openapi_extra=described(LitellmBody), summary="LiteLLM's generic guardrail"
)
async def guardrail(request: Request) -> Response:
    """`BLOCKED` with a reason, `GUARDRAIL_INTERVENED` with other texts, or `NONE`."""
    body, service, caller = read(request, LitellmBody), service_of(request), caller_of(request)
    metadata, guard = caller.metadata(_metadata(body)), service.guard
    messages, context = conversation(body)
    new, decisions = await guard.aguard_messages(messages, policy=caller.policy, metadata=metadata)
    decisions = [each for each in decisions if each.where is None or each.where[0] >= context]
    if body.tools and guard.checks.tools != "none":
        decisions.append(await guard.acheck(Step.tools(body.tools, metadata=metadata), policy=caller.policy))
    return answer(outcome(body.texts or (), messages[context:], new[context:], decisions))


def _metadata(body: LitellmBody) -> dict[str, str]:
    found = {"request": body.litellm_call_id, "thread": body.litellm_trace_id}
    for name, sources in METADATA.items():
        found[name] = next((body.request_data[each] for each in sources if body.request_data.get(each)), None)
    return {name: _line(value) for name, value in found.items() if isinstance(value, str) and value}


def _line(text: str) -> str:
    """What metadata takes: one line of at most 200 characters."""
    return "".join(each if each.isprintable() else " " for each in text[:200])


def _last_text(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """The newest that the person said, which a response answers."""
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            parts = [content] if isinstance(content, str) else content if isinstance(content, list) else []
            texts = [part if isinstance(part, str) else str(part.get("text") or "") for part in parts if part]
            return "\n".join(filter(None, texts)) or None
    return None


def _strings(value: Any) -> Any:
    """Every string in the messages, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)


def _image(source: str) -> dict[str, Any]:
    """A URL as it is, or base64 text as a data: URI. What the bytes are is told when they are read."""
    if not source[:8].lower().startswith(("data:", "http://", "https://")):
        source = f"data:application/octet-stream;base64,{source}"
    return {"type": "image_url", "image_url": {"url": source}}
