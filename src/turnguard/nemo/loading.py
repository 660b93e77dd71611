"""From NeMo's configuration to a guard at work in one `LLMRails`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnguard.content import Stage
from turnguard.errors import ConfigError
from turnguard.guard import Guard, GuardLike
from turnguard.nemo import engine
from turnguard.nemo.host import RAILS, Host
from turnguard.nemo.tracking import Tracked

if TYPE_CHECKING:
    from nemoguardrails import LLMRails, RailsConfig

IMPORT_PATH = "turnguard/rails"
_KINDS = ("input", "output", "tool_output", "tool_input", "retrieval")


def init(app: LLMRails) -> None:
    """Called by NeMo while it builds an `LLMRails`. Raises `ConfigError`, a sentence per mistake."""
    engine.require_supported()
    config = app.config
    _require_known_flows(config)
    guard = _given.pop(id(config), None) or _guard(config)
    guard.moderator = Tracked(guard.moderator)
    own = dict(_own_flows(config))
    exceptions = bool(config.enable_rails_exceptions)
    host = Host(guard, frozenset(own.values()), exceptions, own_flows=frozenset(own))
    engine.install(app, host)


_given: dict[int, Guard] = {}
"""Guards that `checked_rails` hands to `init`, by the configuration's identity."""


def guard_of(app: LLMRails) -> Guard:
    """The guard at work in an app, to close it with the app: `await guard_of(rails).aclose()`."""
    host: Host = app.runtime.registered_action_params["turnguard"]
    return host.guard


def checked_rails(
    config: RailsConfig | str | os.PathLike[str], guard: GuardLike | None = None, **options: Any
) -> LLMRails:
    """An `LLMRails` with Turnguard's rails added where `config` lists none of its own.

    `config` is a `RailsConfig` or a folder. `guard` stands in for `custom_data.turnguard`. `options` go to `LLMRails`
    (`llm=...`). Rails of the configuration are kept, ours come first. Raises `ConfigError`.
    """


def _guard(config: RailsConfig) -> Guard:
    settings = (config.custom_data or {}).get("turnguard")
    if settings is None:
        raise ConfigError(
            "custom_data.turnguard is missing: name the file with Turnguard's settings there "
            "(custom_data: {turnguard: turnguard.yaml}), or write the settings themselves"
        )
    if isinstance(settings, Mapping):
        if "file" in settings or "path" in settings:
            raise ConfigError("custom_data.turnguard holds settings or names a file, not both: write the name alone")
        return Guard.from_dict(settings)
    if not isinstance(settings, str) or not settings.strip():
        raise ConfigError(
            f"custom_data.turnguard must be the name of a file or a mapping with settings, not {type(settings).__name__}"
        )
    return Guard.from_yaml(_found(settings, config))


def _found(name: str, config: RailsConfig) -> Path:
    folders = [Path(each.strip()) for each in (config.config_path or "").split(",") if each.strip()]
    folders = [folder if folder.is_dir() else folder.parent for folder in folders] or [Path.cwd()]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    tried = ", ".join(str(folder / name) for folder in folders)
    raise ConfigError(f"custom_data.turnguard names a file that does not exist: {tried}")


def _require_known_flows(config: RailsConfig) -> None:
    """NeMo checks the names of input, output and retrieval flows, and none of the tool flows'."""
    problems = []
    for kind in _KINDS:
        for flow in getattr(config.rails, kind).flows:
            if not flow.lower().startswith("turnguard") or _is_defined(flow, config) and flow not in RAILS:
                continue
            if flow not in RAILS:
                near = difflib.get_close_matches(flow, RAILS, 1, 0.4) or list(RAILS)[:1]
                problems.append(f"rails.{kind}.flows: there is no flow {flow!r}; did you mean {near[0]!r}?")
            elif RAILS[flow][0] != kind:
                problems.append(f"rails.{kind}.flows: {flow!r} belongs under rails.{RAILS[flow][0]}.flows")
    if problems:
        raise ConfigError(*problems)


def _is_defined(flow: str, config: RailsConfig) -> bool:
    return any(flow == each.get("id") for each in config.flows if isinstance(each, Mapping))


def _own_flows(config: RailsConfig) -> Iterator[tuple[str, Stage]]:
    """The flows that the rails list and that check with us: ours, and users' own that execute our actions."""
    for kind in _KINDS:
        for flow in getattr(config.rails, kind).flows:
            if flow in RAILS:
                yield flow, RAILS[flow][1]
                continue
            stage = next(stage for each, stage in RAILS.values() if each == kind)
            for each in config.flows:
                if isinstance(each, Mapping) and each.get("id") == flow:
                    actions = {element.get("action_name") for element in each.get("elements", ())}
                    if f"turnguard_check_{stage}" in actions:
                        yield flow, stage
