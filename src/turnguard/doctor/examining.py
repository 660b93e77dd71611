"""The examination: first contact, rounds of canaries, repeated checks, then single checks against the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from turnguard.config.document import Config
from turnguard.config.settings import EndpointSettings
from turnguard.core.errors import ConfigError
from turnguard.doctor import table
from turnguard.doctor.asking import Endpoint, Heard, Question
from turnguard.doctor.canaries import Seen, answering, key, replicas, service, steady, timing
from turnguard.doctor.canaries.service import Place
from turnguard.doctor.findings import Examination, Finding, Report, Status, Told

BUDGET = 9.0
"""Seconds for everything."""
ROUNDS = 4
"""How often each canary is sent, as far as the time goes: a server may fail, or be another one, now and then."""
_CONTACT, _MODELS, _TIMING = 3.5, 2.0, 1.5
_AT_ONCE = 8
"""Repeated checks under way at once: fewer than any server's queue holds."""
_SEVERITY: dict[Status, int] = {"ok": 0, "skipped": 1, "note": 2, "failed": 3}


async def examine(config: Config | None, *, accept_sandbox: bool = False, at: Place | None = None) -> Report:
    """Examine every endpoint that the configuration names, side by side. Sends about 130 requests to each.

    A service is examined too where `at` or the configuration names one, and alone where there is no configuration.
    Raises `ConfigError` where no endpoint is named, or a URL is none. `accept_sandbox` makes the stand-in a note
    instead of a failure.
    """
    started = time.monotonic()
    examinations = [] if config is None else await _moderators(config, accept_sandbox)
    place = at or (None if config is None else service.place(config.service))
    if place is not None:
        examinations.append(await _service(place))
    return Report(tuple(examinations), time.monotonic() - started)


async def _moderators(config: Config, accept_sandbox: bool) -> list[Examination]:
    """Every endpoint's examination; what stands beside the moderator is told with the first one."""
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
    unlike = replicas.between([seen for examination, seen in found if examination.role == "moderator"])
    more = [] if unlike is None else [Finding("replicas", *unlike)]
    for canary in table.SET_UP:
        told = await asyncio.to_thread(canary.read, config)
        more += [] if told is None else [Finding(canary.name, *told)]
    examinations[0] = replace(examinations[0], findings=(*examinations[0].findings, *more))
    return examinations


async def _service(at: Place) -> Examination:
    started = time.monotonic()
    served = await service.visit(at)
    findings = [Finding(row.name, *told) for row in table.SERVICE if (told := row.read(served)) is not None]
    answered = served.described.status is not None
    return Examination(at.url, "service", tuple(findings), answered, time.monotonic() - started)


async def _examine(
    config: Config, role: str, url: str, settings: EndpointSettings, accept_sandbox: bool
) -> tuple[Examination, Seen]:
    started = time.monotonic()
    endpoint = Endpoint(url, settings, config.folder)
    stranger = Endpoint(url, settings, config.folder, api_key=key.WRONG)
    rounds: list[Mapping[str, Heard]] = []
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
            rounds = await _rounds(endpoint, seen, started)
            repeated = await _repeat(endpoint, started)
            times = await _time(endpoint, contact, started)
            seen = replace(seen, heard=rounds[0], times=times, probes=(*early[:-1], *repeated))
    finally:
        await endpoint.aclose()
        await stranger.aclose()
    findings = tuple(_findings(seen, rounds))
    answered = contact.status is not None
    return Examination(url, role, findings, answered, time.monotonic() - started), seen


async def _without_tls(url: str, settings: EndpointSettings, folder: Path) -> Heard:
    endpoint = Endpoint(url.replace("https://", "http://", 1), settings, folder, api_key="")
    try:
        return await endpoint.models(_MODELS)
    finally:
        await endpoint.aclose()


async def _rounds(endpoint: Endpoint, seen: Seen, started: float) -> list[Mapping[str, Heard]]:
    """Ask all canaries, and again while the next round would end within half of the time."""
    rounds: list[Mapping[str, Heard]] = []
    while len(rounds) < ROUNDS:
        began = time.monotonic()
        rounds.append(await _round(endpoint, seen, started))
        if 2 * time.monotonic() - began > started + BUDGET / 2:
            break
    return rounds


async def _round(endpoint: Endpoint, seen: Seen, started: float) -> Mapping[str, Heard]:
    """Ask each canary's questions at once, except those that come after another one."""
    questions = {name: asked for row in table.ROUNDS if row.asks for name, asked in row.asks(seen).items()}
    under_way: dict[str, asyncio.Task[Heard]] = {}

    async def ask(question: Question) -> Heard:
        if question.after is not None:
            await under_way[question.after]
        return await endpoint.ask(question, max(1.0, started + BUDGET - _TIMING - time.monotonic()))

    under_way |= {name: asyncio.create_task(ask(question)) for name, question in questions.items()}
    return {name: await task for name, task in under_way.items()}


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


def _findings(seen: Seen, rounds: Sequence[Mapping[str, Heard]]) -> Iterator[Finding]:
    for row in table.CONTACT:
        if (told := row.read(seen)) is not None:
            yield Finding(row.name, *told)
    if not rounds:
        names = ", ".join(row.name for row in (*table.ROUNDS, *table.REPEATED))
        yield Finding("others", "skipped", f"Not tried, for a plain check brings no verdict: {names}.")
        return
    for row in table.ROUNDS:
        each = [row.read(replace(seen, heard=heard)) for heard in rounds]
        if (told := _worst([one for one in each if one is not None])) is not None:
            yield Finding(row.name, *told)
    for row in table.REPEATED:
        if (told := row.read(seen)) is not None:
            yield Finding(row.name, *told)


def _worst(each: Sequence[Told]) -> Told | None:
    """What the worst round told, and in how many rounds something was that bad."""
    if not each:
        return None
    worst = max(each, key=lambda told: _SEVERITY[told.status])
    count = sum(told.status == worst.status for told in each)
    if worst.status == "ok" or count == len(each):
        return worst
    return worst._replace(what=f"{worst.what} This is so in {count} of {len(each)} rounds.")
