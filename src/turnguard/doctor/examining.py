"""The examination: first contact, the canaries, repeated checks, then single checks against the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from turnguard.config.document import Config
from turnguard.config.settings import EndpointSettings
from turnguard.core.errors import ConfigError
from turnguard.doctor.asking import Endpoint, Heard, Question
from turnguard.doctor.canaries import (
    Seen,
    abilities,
    answering,
    categories,
    context,
    forging,
    joint,
    key,
    logprobs,
    model,
    pictures,
    records,
    replicas,
    response,
    shared,
    steady,
    timing,
)
from turnguard.doctor.findings import Examination, Finding, Report, skipped

BUDGET = 9.0
"""Seconds for everything."""
_CONTACT, _MODELS, _TIMING = 3.5, 2.0, 1.5
_AT_ONCE = 8
"""Repeated checks under way at once: fewer than any server's queue holds."""
_OTHERS = (
    "judges",
    "categories",
    "logprobs",
    "pictures",
    "joint",
    "response",
    "control_tokens",
    "context",
    "steady",
    "deadline",
)


async def examine(config: Config, *, accept_sandbox: bool = False) -> Report:
    """Examine every endpoint that the configuration names, side by side. Sends about ninety requests to each.

    Raises `ConfigError` where none is named. `accept_sandbox` makes the stand-in a note instead of a failure.
    """
    started = time.monotonic()
    settings, fallback = config.moderator, config.moderator.fallback
    roles: list[tuple[str, str, EndpointSettings]] = [("moderator", url, settings) for url in settings.base_urls]
    if settings.checkpoint is not None:
        raise ConfigError("moderator.checkpoint: the model is judged with in this process: no server to examine")
    if not roles:
        raise ConfigError("moderator.base_url: no server to examine; give its URL, or set TURNGUARD_BASE_URL")
    if fallback is not None:
        roles += [("fallback", url, fallback) for url in fallback.base_urls]
    if settings.second_look is not None:  # at the same server too: there it is asked otherwise
        roles += [("second look", url, settings.second_look) for url in settings.second_look.base_urls]
    found = await asyncio.gather(
        *(_examine(config, role, url, endpoint, accept_sandbox) for role, url, endpoint in roles)
    )
    examinations = [examination for examination, _ in found]
    unlike = replicas.between(
        [seen for (role, _, _), (_, seen) in zip(roles, found, strict=True) if role == "moderator"]
    )
    if unlike is not None:
        examinations[0] = replace(examinations[0], findings=(*examinations[0].findings, unlike))
    kept = await asyncio.to_thread(records.examine, config)
    common = await shared.examine(config)
    examinations[0] = replace(examinations[0], findings=(*examinations[0].findings, *common, *kept))
    return Report(tuple(examinations), time.monotonic() - started)


async def _examine(
    config: Config, role: str, url: str, settings: EndpointSettings, accept_sandbox: bool
) -> tuple[Examination, Seen]:
    started = time.monotonic()
    endpoint = Endpoint(url, settings, config.folder)
    stranger = Endpoint(url, settings, config.folder, api_key=key.WRONG)
    try:
        models, contact, wrong_key = await asyncio.gather(
            endpoint.models(_MODELS), endpoint.ask(answering.CONTACT, _CONTACT), stranger.models(_MODELS)
        )
        early = [contact]
        while contact.status == 200 and contact.verdict is None and len(early) < 3:
            contact = await endpoint.ask(answering.CONTACT, _CONTACT)  # once may be a server that fails now and then
            early.append(contact)
        seen = Seen(config, settings, url, models, contact, wrong_key, accept_sandbox=accept_sandbox)
        if contact.status is None and url.startswith("https://"):
            seen = replace(seen, plain_http=await _without_tls(url, settings, config.folder))
        if contact.verdict is not None:
            heard = await _put(endpoint, _questions(seen), started)
            repeated = await _repeat(endpoint, started)
            times = await _time(endpoint, contact, started)
            seen = replace(seen, heard=heard, times=times, probes=(*early[:-1], *repeated))
        findings = tuple(_findings(seen))
    finally:
        await endpoint.aclose()
        await stranger.aclose()
    answered = contact.status is not None
    return Examination(url, role, findings, answered, time.monotonic() - started), seen


def _questions(seen: Seen) -> dict[str, Question]:
    tokens = context.tokens_of(seen.config.moderator, context.limit_of(seen.card))
    return {
        **answering.questions(),
        **categories.questions(),
        **(pictures.questions() | joint.questions() if seen.family.images else {}),
        **abilities.questions(seen),
        **response.questions(),
        **forging.questions(),
        **context.questions(tokens),
    }


async def _without_tls(url: str, settings: EndpointSettings, folder: Path) -> Heard:
    endpoint = Endpoint(url.replace("https://", "http://", 1), settings, folder, api_key="")
    try:
        return await endpoint.models(_MODELS)
    finally:
        await endpoint.aclose()


async def _put(endpoint: Endpoint, questions: dict[str, Question], started: float) -> dict[str, Heard]:
    """Ask at once what may come in any order, and beside it each pair of pictures in its own order."""

    async def ask(names: Sequence[str]) -> list[tuple[str, Heard]]:
        answers = []
        for name in names:
            seconds = max(1.0, started + BUDGET - _TIMING - time.monotonic())
            answers.append((name, await endpoint.ask(questions[name], seconds)))
        return answers

    ordered = [name for pair in pictures.PAIRS for name in pair]
    pairs = (pair for pair in pictures.PAIRS if pair[0] in questions)
    rows = (*pairs, *((name,) for name in questions if name not in ordered))
    return dict(found for answers in await asyncio.gather(*map(ask, rows)) for found in answers)


async def _repeat(endpoint: Endpoint, started: float) -> list[Heard]:
    """Repeat harmless checks, a few at once, as far as the time goes."""
    until = started + BUDGET - _TIMING
    places = asyncio.Semaphore(_AT_ONCE)

    async def ask(question: Question) -> Heard | None:
        async with places:
            left = until - time.monotonic()
            return await endpoint.ask(question, left) if left > 0.5 else None

    return [heard for heard in await asyncio.gather(*map(ask, steady.probes())) if heard is not None]


async def _time(endpoint: Endpoint, contact: Heard, started: float) -> list[float]:
    """Seconds of single checks, one after another. The first contact counts only where nothing else does: it paid for
    the connection."""
    times: list[float] = []
    until = min(time.monotonic() + _TIMING, started + BUDGET)
    for question in timing.samples():
        left = until - time.monotonic()
        if left <= 0.0:
            break
        heard = await endpoint.ask(question, max(left, 0.2))
        if heard.verdict is None:
            break
        times.append(heard.seconds)
    return times or [contact.seconds]


def _findings(seen: Seen) -> Iterator[Finding]:
    yield from answering.contact(seen)
    yield from key.read(seen)
    yield from model.read(seen) if seen.contact.status is not None else ()
    if seen.contact.verdict is None:
        yield skipped("others", f"Not tried, for a plain check brings no verdict: {', '.join(_OTHERS)}.")
        return
    for canary in (
        answering,
        categories,
        logprobs,
        pictures,
        joint,
        response,
        abilities,
        forging,
        context,
        steady,
        timing,
        replicas,
    ):
        yield from canary.read(seen)
