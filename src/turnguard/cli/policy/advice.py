"""What is legal in a `turnguard.yaml` but probably not meant."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from turnguard.cli.policy.diff import differences
from turnguard.core.families import FAMILIES, able
from turnguard.core.taxonomy import CATEGORIES, MINOR, canonical

if TYPE_CHECKING:
    from turnguard.config.document import Config
    from turnguard.config.settings import ModeratorSettings
    from turnguard.core.policy import Origin, Policy

REASONING_SECONDS = 5.0
"""A deadline below this leaves a model no time to reason: 6 to 15 seconds were seen on a small GPU."""

Advice = Iterator[tuple[tuple["str | int", ...], str]]


def advice(config: Config, data: Mapping[str, Any]) -> Iterator[str]:
    """Sentences with file and line. `data` is the document as it was written."""
    for path, told in _about_settings(config, data):
        yield config.located(f"{'.'.join(map(str, path))}: {told}")
    policies = [config.policy, *config.policies.values()]
    policies += [policy.shadow for policy in policies if policy.shadow is not None]
    for policy in policies:
        for path, told in _about_policy(policy, config.moderator):
            where = ".".join(map(str, path))
            yield f"{_place(policy.origin, where)}{where}: {told}"


def _place(origin: Origin | None, path: str) -> str:
    if origin is None:
        return ""
    line = origin.line(path)
    return f"{origin.file}: " if line is None else f"{origin.file}:{line}: "


def _about_settings(config: Config, data: Mapping[str, Any]) -> Advice:
    yield from _about_moderator(config, data)
    yield from _about_families(config)
    yield from _about_second_look(config.moderator)
    for role in config.checks.trusted_roles:
        if role.lower() in ("user", "human", "tool", "function", "assistant", "ai"):
            yield (
                ("checks", "trusted_roles"),
                f"messages of the role {role!r} are never judged; trust only roles that your own application writes",
            )
    if config.audit.path and config.audit.content:
        yield ("audit", "content"), "the audit file will hold what people wrote; keep it as you keep the conversations"
    if config.media.tiles == "never":
        yield ("media", "tiles"), "small print in large screenshots will not be seen; 'auto' judges them in tiles too"


def _about_moderator(config: Config, data: Mapping[str, Any]) -> Advice:
    settings = config.moderator
    for url in settings.base_urls:
        parts = urlsplit(url)
        if parts.scheme == "http" and not _inside(parts.hostname or ""):
            yield (
                ("moderator", "base_url"),
                f"everything that is judged travels to {parts.hostname} in the clear; use https",
            )
    for section, name, variable in (("moderator", "api_key", "API_KEY"), ("audit", "key", "AUDIT_KEY")):
        written = (data.get(section) or {}).get(name)
        if isinstance(written, str) and written and "${" not in written:
            yield (section, name), f"a key in a file ends up in version control; write ${{TURNGUARD_{variable}:-}}"
    if settings.attempt_timeout is not None and settings.attempt_timeout >= settings.deadline:
        yield ("moderator", "attempt_timeout"), "the deadline passes first; use less than moderator.deadline"


def _about_families(config: Config) -> Advice:
    family = FAMILIES.get(config.moderator.family)
    if family is not None and not family.images:
        told = f"the family {family.name!r} judges no pictures: each is uncheckable, and policy.on_uncheckable decides"
        yield ("moderator", "family"), told
    if family is not None and MINOR not in family.reaches:
        told = (
            f"the family {family.name!r} never names {MINOR!r}: such content comes under another category, whose rule "
            "may hold or record it; let the rule for Sexual block, and keep no content"
        )
        yield ("moderator", "family"), told


def _about_second_look(asked: ModeratorSettings) -> Advice:
    again = asked.second_look
    if again is None:
        return
    at = ("moderator", "second_look")
    if again.reasoning == "always" and asked.deadline < REASONING_SECONDS:
        told = f"reasoning takes seconds, and moderator.deadline is {asked.deadline:g}s: a second look finds no time"
        yield (*at, "reasoning"), told
    unseen = _reached(asked) - FAMILIES[again.family].reaches
    if again.decides == "second" and unseen:
        names = ", ".join(name for name in CATEGORIES if name in unseen)
        yield (*at, "decides"), f"the family {again.family!r} names no {names}, and may still overrule who did"


def _about_policy(policy: Policy, asked: ModeratorSettings) -> Advice:
    yield from _about_gaps(policy.source)
    yield from _about_idle_rules(policy.source, asked)
    families = [each.family for each in (asked, asked.fallback) if each is not None]
    if policy.own is not None and not any(family in able("own_categories") for family in families):
        key, it = ("custom", "them") if policy.own.text is None else ("custom_policy", "it")
        yield ("policy", key), f"only the second look is told about {it}: all else is judged without"
    if policy.own is not None and policy.own.text is not None and policy.source.get("categories"):
        told = "the model judges by custom_policy and may name none of these; the default decides what breaks it"
        yield ("policy", "categories"), told
    if policy.shadow is not None and not differences(policy, policy.shadow):
        yield ("policy", "shadow"), "the shadow decides everything as this policy does"


def _about_idle_rules(rules: Mapping[str, Any], asked: ModeratorSettings) -> Advice:
    reached = _reached(asked)
    places: list[tuple[tuple[str | int, ...], Mapping[str, Any]]] = [(("policy",), rules)]
    places += [(("policy", "stages", stage), own or {}) for stage, own in (rules.get("stages") or {}).items()]
    for at, own in places:
        for name in own.get("categories") or {}:
            known = canonical(name)
            if known is not None and known not in reached:
                told = f"the family {asked.family!r} never names this category, so that the rule can never fire"
                yield (*at, "categories", name), told


def _reached(asked: ModeratorSettings) -> frozenset[str]:
    """Every category that some verdict can name. The sandbox's rules know the whole taxonomy."""
    found: set[str] = set()
    for each in (asked, asked.fallback, asked.second_look):
        if each is not None:
            found |= FAMILIES[each.family].reaches if each.family in FAMILIES else set(CATEGORIES)
    return frozenset(found)


def _about_gaps(rules: Mapping[str, Any]) -> Advice:
    """Yield settings that let unjudged or unsafe content pass."""
    places: list[tuple[tuple[str | int, ...], Mapping[str, Any]]] = [(("policy",), rules)]
    places += [(("policy", "stages", stage), own or {}) for stage, own in (rules.get("stages") or {}).items()]
    for at, own in places:
        if own.get("on_failure") in ("allow", "flag"):
            yield (
                (*at, "on_failure"),
                "while the moderator is down, everything goes on unjudged; block or review holds it",
            )
        uncheckable = own.get("on_uncheckable")
        kinds = uncheckable if isinstance(uncheckable, Mapping) else {"": uncheckable}
        for kind, action in kinds.items():
            if action in ("allow", "flag") and kind != "encrypted":  # nobody but the provider can make such content
                what = f"{kind} content" if kind else "content"
                path = (*at, "on_uncheckable", kind) if kind else (*at, "on_uncheckable")
                yield (
                    path,
                    f"{what} that cannot be judged goes on; whoever wants something through makes it uncheckable",
                )
        reduced = own.get("on_reduced")
        if reduced in ("allow", "flag"):
            told = "small print in a picture that is judged coarsely goes on unread; block or review holds it"
            yield (*at, "on_reduced"), told
        default = own.get("default")
        if default == "allow" or (isinstance(default, Mapping) and default.get("action") == "allow"):
            yield (*at, "default"), "unsafe content goes on without a trace; 'flag' lets it go on too, and records it"


def _inside(host: str) -> bool:
    """Return whether the name is of a host on this machine or in a private network."""
    if host == "localhost" or "." not in host or host.endswith((".local", ".internal", ".lan", ".svc")):
        return ":" not in host or _private(host)
    return _private(host)


def _private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
