"""A step → the exchanges that put it to the model.

Text parts of one message are judged joined; retrieval chunks and definitions of tools each on its own. What the
assistant or a tool produced as an image goes to the prompt side with the text that came with it, decided by the user
label.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from turnguard.checking.budget import prepared
from turnguard.checking.check import Check, Limits, Plan
from turnguard.checking.requests import Context, Seen, Unit, add_requests
from turnguard.checking.trim import Kept
from turnguard.core.errors import Timeout
from turnguard.core.step import Document, Image, Kind, Opaque, Step, Text
from turnguard.core.verdict import Covered, Judgement, Reduced, Verdict
from turnguard.media import Prepared, split_data_uris
from turnguard.moderators.base import About, about
from turnguard.text import language
from turnguard.text.windows import fits, head_and_tail, room

log = logging.getLogger("turnguard")

ANY_SERVER = 2000
"""Texts up to half this many tokens fit any server; for longer ones the server's own limit is asked for first."""

BLIND = "the moderator judges no pictures"


async def prepare(check: Check) -> None:
    """Plan the requests of a check, before its deadline. Whatever content does to its readers, it raises nothing."""
    step, setup = check.step, check.setup
    settings = setup.moderator_settings
    if not language.asked:
        language.load_beside()  # for the message, if the step is withheld
    try:
        if (
            not check.heavy
            and check.policy.own is None
            and _surely_fits(step, min(settings.max_input_tokens, ANY_SERVER) // 2)
        ):
            check.plan = await _planned(check, _limits(check, None))
            return
        async with asyncio.timeout(check.deadline.remaining):
            model = await about(setup.moderator, check.deadline)
            check.plan = await _planned(check, _limits(check, model))
    except TimeoutError:
        check.plan = _too_slow(step)
    except Exception as error:  # noqa: BLE001 - see above: it has not been judged
        log.error("a %s step could not be prepared: %s", step.stage, type(error).__name__)  # noqa: TRY400
        check.plan = _unread(step, f"could not be prepared ({type(error).__name__})", counts=True)


def _surely_fits(step: Step, tokens: int) -> bool:
    """Whether no window can be needed, so that the server's own limit need not be known."""
    return all(isinstance(part, Text) and fits(part.text, tokens) for part in step.parts)


def _limits(check: Check, model: About | None) -> Limits:
    settings = check.setup.moderator_settings
    most = None if model is None else model.max_model_len
    own = check.policy.own
    if most is not None and own is not None:
        most -= own.tokens
    tokens = settings.max_input_tokens if most is None else room(settings.max_input_tokens, most)
    partly = check.policy.stages[check.step.stage].partly
    requests = check.setup.media_settings.max_requests
    return Limits(tokens, settings.max_windows, requests, partly, model is None or model.images)


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
    failed = not counts
    entries = [Covered(n, part.kind, cause=cause, counts=counts, failed=failed) for n, part in enumerate(step.parts)]
    return Plan(list(step.parts), not_judged=entries)


async def _planned(check: Check, limits: Limits) -> Plan:
    step = check.step
    plan = Plan(list(step.parts))
    texts: dict[int, str] = {}
    files: list[tuple[int, Image | Document]] = []
    for index, part in enumerate(step.parts):
        if isinstance(part, (Image, Document)):
            files.append((index, part))
        elif isinstance(part, Opaque):
            plan.not_judged.append(Covered(index, part.kind, cause=part.cause))
        elif isinstance(part, Text) and not part.text.strip():
            plan.not_judged.append(Covered(index, "text", cause="empty", counts=False))
        elif isinstance(part, Text) and part.text in check.setup.own_words:
            plan.not_judged.append(Covered(index, "text", cause="Turnguard's own words", counts=False))
        else:
            said = check.shown[index]
            texts[index] = said.text
            files += ((index, file) for file in said.files)
            plan.not_judged += (Covered(index, missed.kind, cause=missed.cause) for missed in said.missed)
    if check.heavy:
        check.fetches = check.fetches or check.setup.media.fetches()
    units, seen = await _read(files, texts, check, limits, plan) if files else ([], [])
    if step.stage in ("retrieval", "tools"):
        units = [Unit(text, (index,)) for index, text in texts.items()] + units
    elif texts:
        units.insert(0, Unit.joined(texts) if len(texts) > 1 else Unit(next(iter(texts.values())), tuple(texts)))
    elif step.stage == "input" and step.history:
        units.insert(0, Unit("", tuple(range(len(step.parts)))))  # the earlier turns are judged all the same
    context = await _context(check, limits, plan) if step.stage in ("output", "tool_call") else Context()
    add_requests(step, units, seen, context, limits, plan, check.policy.own)
    return plan


# ---------------------------------------------------------------- reading parts


async def _read(
    files: Sequence[tuple[int, Image | Document]], texts: dict[int, str], check: Check, limits: Limits, plan: Plan
) -> tuple[list[Unit], list[Seen]]:
    """Read all files at once. The words of those that stand in a text go below it; the others' are units."""
    assert check.fetches is not None  # noqa: S101 - files make a check heavy
    units: list[Unit] = []
    seen: list[Seen] = []
    parts = [file for _, file in files]
    made = await prepared(parts, check.setup.media, check.fetches, limits.max_requests)
    for (index, file), one in zip(files, made, strict=True):
        if index not in texts:
            plan.parts[index] = one.pinned
            units += _taken(one, index, file.kind, seen, plan, limits)
            continue
        kind: Kind = file.kind if one.views or one.texts or file.kind == "image" else "other"
        fixed = replace(one, without=None)  # what stands in a text or in a call cannot be exchanged there
        words = (unit.text for unit in _taken(fixed, index, kind, seen, plan, limits))
        texts[index] = "\n".join([texts[index], *words])
        plan.kept[index] = Kept(texts[index], len(texts[index]))
    return units, seen


def _taken(made: Prepared, index: int, kind: Kind, seen: list[Seen], plan: Plan, limits: Limits) -> list[Unit]:
    without = made.without
    words = kind == "document" and any(text.strip() for detail, text in made.texts if detail != "name")
    body = words and without is None
    for each in made.skipped:
        behind = without is not None and bool(each.recorded)
        told = cast("Kind", each.recorded) if behind else kind
        plan.not_judged.append(
            Covered(index, told, each.detail, each.cause, each.counts, each.counts and (body or behind))
        )
    if limits.images:
        seen.extend(Seen(view, index, kind) for view in made.views)
        plan.reduced.extend(Reduced(index, kind, coarse.detail, coarse.scale) for coarse in made.reduced)
    elif made.views:
        plan.not_judged.append(Covered(index, kind, "" if kind == "image" else "its pictures", BLIND, trims=body))
    text = "\n".join(text for _, text in made.texts if text.strip())
    if text and kind == "image" and not made.views:
        # what the agent's model would make of it is not known, whatever can be read from its bytes here
        plan.not_judged.append(Covered(index, kind, cause="not an image"))
    if body:
        plan.kept[index] = Kept(text, len(text))
    elif without is not None:
        plan.kept[index] = without
    return [Unit(text, (index,), kind)] if text else []


async def _context(check: Check, limits: Limits, plan: Plan) -> Context:
    step = check.step
    # a quarter of the room: a long prompt never crowds out the response
    prompt = head_and_tail(split_data_uris(step.prompt)[0], limits.tokens // 4) if step.prompt else ""
    if not step.prompt_images:
        return Context(prompt)
    if not limits.images:
        plan.not_judged.append(Covered(None, "image", "the request's image, as context", BLIND, counts=False))
        return Context(prompt)
    # the newest, whole, never tiled
    made = await check.setup.media.prepare(step.prompt_images[-1], limit=1, fetches=check.fetches)
    whole = made.views[0].picture if made.views else None
    if whole is None:
        cause = made.skipped[0].cause if made.skipped else "unreadable"
        plan.not_judged.append(Covered(None, "image", "the request's image, as context", cause, counts=False))
    if len(step.prompt_images) > 1:
        cause = "the model takes one image: the newest was shown"
        plan.not_judged.append(Covered(None, "image", "earlier images of the request, as context", cause, counts=False))
    return Context(prompt, whole)
