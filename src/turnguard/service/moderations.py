"""`/v1/moderations`: OpenAI's wire form, so that its clients need another base URL and nothing else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from turnguard.core.decision import Decision
from turnguard.core.step import Step
from turnguard.core.taxonomy import CATEGORIES
from turnguard.service.body import Body, described, read
from turnguard.service.check import ImageField, answer
from turnguard.service.errors import Refusal
from turnguard.service.state import caller_of, service_of

router = APIRouter(prefix="/v1", tags=["OpenAI"])

MOST_INPUTS = 1024

OPENAI: Mapping[str, tuple[str, ...]] = {
    "harassment": ("Harassment", "Threat"),
    "harassment/threatening": ("Threat",),
    "hate": ("Hate/Identity Hate",),
    "hate/threatening": (),
    "illicit": (
        "Criminal Planning/Confessions",
        "Guns and Illegal Weapons",
        "Controlled/Regulated Substances",
        "Fraud/Deception",
        "Malware",
        "Illegal Activity",
    ),
    "illicit/violent": ("Guns and Illegal Weapons",),
    "self-harm": ("Suicide and Self Harm",),
    "self-harm/instructions": (),
    "self-harm/intent": (),
    "sexual": ("Sexual", "Sexual (minor)"),
    "sexual/minors": ("Sexual (minor)",),
    "violence": ("Violence",),
    "violence/graphic": (),
}
"""OpenAI's categories (its moderation guide), and those of Nemotron that fall under each. An empty one is finer than
what the model tells apart, and is never set."""

WITH_IMAGES = frozenset(
    {"self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "violence", "violence/graphic"}
)
"""Those that OpenAI applies to pictures, too; its clients take no other type for the rest."""


class ImageUrl(Body):
    """Where a picture is."""

    url: ImageField


class TextInput(Body):
    """A text."""

    type: Literal["text"]
    text: str


class ImageInput(Body):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrl


class ModerationsBody(Body):
    """OpenAI's request. `model` is taken and ignored: the service's own moderator judges."""

    input: str | list[str] | list[Annotated[TextInput | ImageInput, Field(discriminator="type")]]
    model: str | None = None


@router.post("/moderations", openapi_extra=described(ModerationsBody), summary="OpenAI's moderations")
async def moderations(request: Request) -> Response:
    """A result per text, or one for a text with its pictures. `turnguard` beside each is the whole decision."""
    body, service, caller = read(request, ModerationsBody), service_of(request), caller_of(request)
    metadata = caller.metadata(None)
    steps = [Step.input(text, images, metadata=metadata) for text, images in _inputs(body.input)]
    room = asyncio.Semaphore(service.guard.moderator_settings.max_in_flight)

    async def judged(step: Step) -> Decision:
        async with room:
            return await service.guard.acheck(step, policy=caller.policy)

    decisions = await asyncio.gather(*map(judged, steps))
    model = next((each.verdict.model for each in decisions if each.verdict.model), None)
    pairs = zip(steps, decisions, strict=True)
    return answer(
        {
            "id": f"modr-{os.urandom(12).hex()}",
            "model": model or service.guard.moderator_settings.model,
            "results": [result(step, decision) for step, decision in pairs],
        }
    )


def _inputs(given: str | list[Any]) -> Sequence[tuple[str, list[Any]]]:
    items = [given] if isinstance(given, str) else given
    if not items:
        raise Refusal(422, "input: nothing to judge")
    if len(items) > MOST_INPUTS:
        raise Refusal(422, f"input: at most {MOST_INPUTS} entries")
    if isinstance(items[0], str):
        found: list[tuple[str, list[Any]]] = [(text, []) for text in items]
    else:
        texts = [item.text for item in items if isinstance(item, TextInput)]
        found = [("\n".join(texts), [item.image_url.url for item in items if isinstance(item, ImageInput)])]
    if not all(text.strip() or images for text, images in found):
        raise Refusal(422, "input: nothing to judge in an entry that is empty")
    return found


def result(step: Step, decision: Decision) -> dict[str, Any]:
    """One result. A category's score is P(unsafe) where the model named it, 1 where the server gave no P, else 0."""
    verdict = decision.verdict
    named = set(verdict.categories)
    unsafe = "unsafe" in (verdict.user, verdict.response)
    score = (verdict.p_unsafe if verdict.p_unsafe is not None else 1.0) if unsafe else 0.0
    flags = {name: not named.isdisjoint(ours) for name, ours in OPENAI.items()}
    flags |= {name: name in named for name in dict.fromkeys((*CATEGORIES, *verdict.categories))}
    kinds = sorted({part.kind for part in step.parts}, reverse=True)
    return {
        # what could not be judged is flagged, like what was judged and is not simply allowed
        "flagged": unsafe or decision.action != "allow",
        "categories": flags,
        "category_scores": {name: score if flag else 0.0 for name, flag in flags.items()},
        "category_applied_input_types": {
            name: [kind for kind in kinds if kind == "text" or name in WITH_IMAGES or name not in OPENAI]
            for name in flags
        },
        "turnguard": decision.to_dict(),
    }
