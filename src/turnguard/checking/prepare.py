"""A step → the exchanges that put it to the model.

Text parts of one message are judged joined; retrieval chunks and definitions of tools each on its own. What the
assistant or a tool produced as an image goes to the prompt side with the text that came with it, decided by the user
label.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from turnguard.checking.check import Check, Limits, Plan
from turnguard.checking.requests import Context, Seen, Unit, add_requests
from turnguard.core.errors import Timeout
from turnguard.core.step import Document, Image, Kind, Opaque, Part, Step, Text, ToolCall, ToolDefinition
from turnguard.core.verdict import Covered, Judgement, Verdict
from turnguard.media import Media, Prepared, split_data_uris
from turnguard.moderators.base import about
from turnguard.text.windows import fits, head_and_tail, room

log = logging.getLogger("turnguard")

ANY_SERVER = 2000
"""Texts up to half this many tokens fit any server; for longer ones the server's own limit is asked for first."""


async def prepare(check: Check) -> None:
    """Plan the requests of a check, before its deadline. Whatever content does to its readers, it raises nothing."""
    step, setup = check.step, check.setup
    settings = setup.moderator_settings
    try:
        if not check.heavy and _surely_fits(step, min(settings.max_input_tokens, ANY_SERVER) // 2):
            check.plan = await _planned(check, _limits(check, None))
            return
        async with asyncio.timeout(check.deadline.remaining):
            max_model_len = (await about(setup.moderator, check.deadline)).max_model_len
            check.plan = await _planned(check, _limits(check, max_model_len))
    except TimeoutError:
        check.plan = _too_slow(step)
    except Exception as error:  # noqa: BLE001 - see above: it has not been judged
        log.error("a %s step could not be prepared: %s", step.stage, type(error).__name__)  # noqa: TRY400
        check.plan = _unread(step, f"could not be prepared ({type(error).__name__})", counts=True)


def _surely_fits(step: Step, tokens: int) -> bool:
    """Whether no window can be needed, so that the server's own limit need not be known."""
    return all(isinstance(part, Text) and fits(part.text, tokens) for part in step.parts)


def _limits(check: Check, max_model_len: int | None) -> Limits:
    settings = check.setup.moderator_settings
    tokens = settings.max_input_tokens if max_model_len is None else room(settings.max_input_tokens, max_model_len)
    partly = check.policy.stages[check.step.stage].partly
    return Limits(tokens, settings.max_windows, check.setup.media_settings.max_requests, partly)


def _too_slow(step: Step) -> Plan:
    """Preparing the step took until the deadline: a failure of this check for every part, whatever its kind."""
    heavy = any(isinstance(part, (Image, Document)) for part in step.parts)
    reading = "reading the step's images and documents took until the deadline"
    cause = reading if heavy else "no verdict before the deadline"
    plan = _unread(step, cause, counts=False)
    verdict = Verdict(failure=Timeout.failure, cause=cause)
    plan.failed = Judgement(verdict, "user", tuple(range(len(step.parts))), kind="other")
    return plan


def _unread(step: Step, cause: str, *, counts: bool) -> Plan:
    entries = [Covered(index, part.kind, cause=cause, counts=counts) for index, part in enumerate(step.parts)]
    return Plan(list(step.parts), not_judged=entries)


async def _planned(check: Check, limits: Limits) -> Plan:
    step, media = check.step, check.setup.media
    plan = Plan(list(step.parts))
    units: list[Unit] = []
    seen: list[Seen] = []
    texts: list[tuple[int, str]] = []
    read = await _read(step.parts, media, limits) if check.heavy else {}
    for index, part in enumerate(step.parts):
        if isinstance(part, Text):
            if not part.text.strip():
                plan.not_judged.append(Covered(index, "text", cause="empty", counts=False))
            elif part.text in check.setup.own_words:
                plan.not_judged.append(Covered(index, "text", cause="Turnguard's own words", counts=False))
            else:
                texts.append((index, await _without_data_uris(part.text, index, media, limits, seen, plan)))
        elif isinstance(part, (ToolCall, ToolDefinition)):
            found = check.shown[index]
            plan.not_judged += (Covered(index, missed.kind, cause=missed.cause) for missed in found.missed)
            text = await _without_data_uris(found.text, index, media, limits, seen, plan)
            texts.append((index, await _with_files(text, found.files, index, media, limits, seen, plan)))
        elif isinstance(part, Opaque):
            plan.not_judged.append(Covered(index, part.kind, cause=part.cause))
        else:
            plan.parts[index] = read[index].pinned
            units += _taken(read[index], index, part.kind, seen, plan)
    if step.stage in ("retrieval", "tools"):
        units = [Unit(text, (index,)) for index, text in texts] + units
    elif texts:
        units.insert(0, Unit.joined(dict(texts)) if len(texts) > 1 else Unit(texts[0][1], texts[0][:1]))
    elif step.stage == "input" and step.history:
        units.insert(0, Unit("", tuple(range(len(step.parts)))))  # the earlier turns are judged all the same
    context = await _context(step, media, limits, plan) if step.stage in ("output", "tool_call") else Context()
    add_requests(step, units, seen, context, limits, plan)
    return plan


# ---------------------------------------------------------------- reading parts


async def _read(parts: Sequence[Part], media: Media, limits: Limits) -> dict[int, Prepared]:
    """All pictures and documents at once: the media's own pool bounds how many are decoded side by side."""
    heavy = {index: part for index, part in enumerate(parts) if isinstance(part, (Image, Document))}
    prepared = await asyncio.gather(*(media.prepare(part, limit=limits.max_requests) for part in heavy.values()))
    return dict(zip(heavy, prepared, strict=True))


async def _without_data_uris(text: str, index: int, media: Media, limits: Limits, seen: list[Seen], plan: Plan) -> str:
    """The text with placeholders where `data:` URIs stood; what they held is judged like any other part."""
    plain, found = split_data_uris(text)
    return await _with_files(plain, found, index, media, limits, seen, plan) if found else plain


async def _with_files(
    text: str,
    files: Sequence[Image | Document],
    index: int,
    media: Media,
    limits: Limits,
    seen: list[Seen],
    plan: Plan,
) -> str:
    """The text, and below it the words of the files that were found in it."""
    for part in files:
        prepared = await media.prepare(part, limit=limits.max_requests)
        kind: Kind = part.kind if prepared.views or prepared.texts or part.kind == "image" else "other"
        text = "\n".join([text, *(unit.text for unit in _taken(prepared, index, kind, seen, plan))])
    return text


def _taken(prepared: Prepared, index: int, kind: Kind, seen: list[Seen], plan: Plan) -> list[Unit]:
    seen.extend(Seen(view, index, kind) for view in prepared.views)
    plan.not_judged.extend(Covered(index, kind, s.detail, s.cause, s.counts) for s in prepared.skipped)
    text = "\n".join(text for _, text in prepared.texts if text.strip())
    if text and kind == "image" and not prepared.views:
        # what the agent's model would make of it is not known, whatever can be read from its bytes here
        plan.not_judged.append(Covered(index, kind, cause="not an image"))
    return [Unit(text, (index,), kind)] if text else []


async def _context(step: Step, media: Media, limits: Limits, plan: Plan) -> Context:
    # a quarter of the room: a long prompt never crowds out the response
    prompt = head_and_tail(split_data_uris(step.prompt)[0], limits.tokens // 4) if step.prompt else ""
    if not step.prompt_images:
        return Context(prompt)
    prepared = await media.prepare(step.prompt_images[-1], limit=1)  # the newest, whole, never tiled
    whole = prepared.views[0].picture if prepared.views else None
    if whole is None:
        cause = prepared.skipped[0].cause if prepared.skipped else "unreadable"
        plan.not_judged.append(Covered(None, "image", "the request's image, as context", cause, counts=False))
    if len(step.prompt_images) > 1:
        cause = "the model takes one image: the newest was shown"
        plan.not_judged.append(Covered(None, "image", "earlier images of the request, as context", cause, counts=False))
    return Context(prompt, whole)
