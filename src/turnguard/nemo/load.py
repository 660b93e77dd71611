"""From NeMo's configuration to a guard at work in one `LLMRails`."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnguard.core.errors import ConfigError
from turnguard.core.step import STAGES, Stage
from turnguard.guard import Guard, GuardLike
from turnguard.nemo import drop_in, engine
from turnguard.nemo.host import KIND, RAILS, Host

if TYPE_CHECKING:
    from nemoguardrails import LLMRails, RailsConfig

log = logging.getLogger("turnguard")

_FILE = "turnguard.yaml"
_NEMOS_REFUSAL = "I'm sorry, I can't respond to that."
IMPORT_PATH = "turnguard/rails"


def init(app: LLMRails) -> None:
    """Called by NeMo while it builds an `LLMRails`, which then raises `ConfigError`, a sentence per mistake."""
    try:
        _install(app)
    except ConfigError as error:
        engine.refuse_to_load(app, error)


def _install(app: LLMRails) -> None:
    engine.require_known(app)
    config = app.config
    _require_known_flows(config)
    guard = _guard(config)
    policy = (config.custom_data or {}).get("turnguard_policy")
    guard.chosen(policy)
    if guard.checks.input == "beside":
        log.warning(
            "checks.input: beside has no effect in NeMo Guardrails, whose engine runs its input rails before the main "
            "model: the input is checked before"
        )
    first_version = config.colang_version == "1.0"
    own = dict(_own_flows(config) if first_version else _own_in_colang_2(config))
    if not own and not (first_version and _runs_our_actions(config)):
        raise ConfigError(
            "custom_data.turnguard is given, and none of Turnguard's flows is listed: nothing would be checked. List "
            "them, such as rails: {input: {flows: [turnguard check input]}, output: {flows: [turnguard check output]}} "
            "(in Colang 2.x let main.co run them in its flows 'input rails' and 'output rails')"
        )
    rails, output = config.rails, config.rails.output
    host = Host(
        guard,
        frozenset(own.values()),
        policy,
        exceptions=bool(config.enable_rails_exceptions),
        others=not {*rails.input.flows, *output.flows} <= RAILS.keys(),
        late=tuple(flow for flow in output.flows if flow not in own or not _starts_with_us(flow, config)),
        own_refusal=_own_refusal(guard, config),
        alone=own.keys() >= {*rails.input.flows, *rails.tool_input.flows},
    )
    if host.late and output.streaming.enabled and output.streaming.stream_first and "output" in host.stages:
        log.warning(
            "rails.output.streaming.stream_first: Turnguard judges text before it is shown, and NeMo runs %r after "
            "that: set stream_first: false",
            host.late[0],
        )
    drop_in.install(app, host)


def guard_of(app: LLMRails) -> Guard:
    """The guard at work in an app, to close it with the app: `await guard_of(rails).aclose()`."""
    guard: Guard = app.runtime.registered_action_params["turnguard"].host.guard
    return guard


def checked_rails(
    config: RailsConfig | str | os.PathLike[str],
    guard: GuardLike | None = None,
    *,
    stages: Collection[Stage] = STAGES,
    **options: Any,
) -> LLMRails:
    """An `LLMRails` with a rail of ours for every stage, added to what `config` lists itself.

    `config` is a Colang 1.0 `RailsConfig` or the path of a folder. `guard` stands in for `custom_data.turnguard`.
    `options` go to `LLMRails` (`llm=...`). Raises `ConfigError`.
    """
    from nemoguardrails import LLMRails, RailsConfig

    if isinstance(config, RailsConfig):
        config = config.model_copy(deep=True)
    else:
        config = RailsConfig.from_path(os.fspath(config))
    if config.colang_version != "1.0":
        raise ConfigError("checked_rails is for Colang 1.0; for 2.x write 'import turnguard.nemo.v2' in main.co")
    if not any(_is_defined(flow, config) for flow in RAILS):
        ours = RailsConfig.from_content(yaml_content=f"import_paths: ['{IMPORT_PATH}']")
        config.flows = [*ours.flows, *config.flows]
        config.imported_paths = {**(config.imported_paths or {}), **ours.imported_paths}
    for flow, (kind, stage) in RAILS.items():
        flows = getattr(config.rails, kind).flows
        if stage in stages and flow not in flows:
            flows.insert(0, flow)
    if guard is not None:
        config.custom_data = {**(config.custom_data or {}), "turnguard": Guard.of(guard)}
    return LLMRails(config, **options)


def _own_refusal(guard: Guard, config: RailsConfig) -> str | None:
    """The user's `define bot refuse to respond`, where the policy has no messages and this one has no variables."""
    said = (getattr(config, "bot_messages", None) or {}).get("refuse to respond") or ()
    own = [text for text in said if text != _NEMOS_REFUSAL and "$" not in text and "{" not in text]
    return own[0] if own and not guard.policy.messages else None


def _guard(config: RailsConfig) -> Guard:
    settings = (config.custom_data or {}).get("turnguard")
    if isinstance(settings, Guard):  # by `checked_rails`
        return settings
    _require_one_policy(config)
    if settings is None:
        raise ConfigError(
            "custom_data.turnguard is missing: name the file with Turnguard's settings there "
            "(custom_data: {turnguard: turnguard.yaml}), or write the settings themselves"
        )
    if isinstance(settings, Mapping):
        if "file" in settings or "path" in settings:
            raise ConfigError("custom_data.turnguard holds settings or names a file, not both: write the name alone")
        beside = next((folder / _FILE for folder in _folders(config) if (folder / _FILE).is_file()), None)
        if beside is not None and config.config_path:
            raise ConfigError(f"custom_data.turnguard holds the settings and {beside} does too: keep one of them")
        return Guard.from_dict(settings)
    if not isinstance(settings, str) or not settings.strip():
        raise ConfigError(
            "custom_data.turnguard must be the name of a file or a mapping with settings, "
            f"not {type(settings).__name__}"
        )
    return Guard.from_yaml(_found(settings, config))


def _found(name: str, config: RailsConfig) -> Path:
    for folder in _folders(config):
        if (folder / name).is_file():
            return folder / name
    tried = ", ".join(str(folder / name) for folder in _folders(config))
    raise ConfigError(f"custom_data.turnguard names a file that does not exist: {tried}")


def _require_one_policy(config: RailsConfig) -> None:
    """Raise if two of the joined configurations have a policy: NeMo would silently keep only one of them."""
    from nemoguardrails import RailsConfig

    paths = [each.strip() for each in (config.config_path or "").split(",") if each.strip()]
    if len(paths) < 2:
        return
    having = [path for path in paths if "turnguard" in (RailsConfig.from_path(path).custom_data or {})]
    if len(having) > 1:
        raise ConfigError(f"{' and '.join(having)} are combined, and each has custom_data.turnguard: keep one of them")


def _folders(config: RailsConfig) -> list[Path]:
    """Where a relative name counts from: the configuration's folders, or the working directory with `from_content`."""
    paths = [Path(each.strip()) for each in (config.config_path or "").split(",") if each.strip()]
    return [path if path.is_dir() else path.parent for path in paths] or [Path.cwd()]


def _require_known_flows(config: RailsConfig) -> None:
    """NeMo checks the names of input, output and retrieval flows, and not those of tool flows."""
    problems = []
    for kind, flow in _listed(config):
        if config.colang_version != "1.0" and flow in RAILS and kind not in ("input", "output"):
            problems.append(f"rails.{kind}.flows: {flow!r} is not supported with Colang 2.x: use Colang 1.0")
            continue
        if not flow.lower().startswith("turnguard") or (_is_defined(flow, config) and flow not in RAILS):
            continue
        if flow not in RAILS:
            near = difflib.get_close_matches(flow, RAILS, 1, 0.4) or list(RAILS)[:1]
            problems.append(f"rails.{kind}.flows: there is no flow {flow!r}; did you mean {near[0]!r}?")
        elif RAILS[flow][0] != kind:
            problems.append(f"rails.{kind}.flows: {flow!r} belongs under rails.{RAILS[flow][0]}.flows")
    if problems:
        raise ConfigError(*problems)


def _listed(config: RailsConfig) -> list[tuple[str, str]]:
    """The flows that the configuration lists, each with the kind of rail."""
    return [(kind, flow) for kind in KIND.values() for flow in getattr(config.rails, kind).flows]


def _is_defined(flow: str, config: RailsConfig) -> bool:
    return any(flow == each.get("id") for each in config.flows if isinstance(each, Mapping))


def _own_flows(config: RailsConfig) -> Iterator[tuple[str, Stage]]:
    """The flows that the rails list and that check with us: ours, and users' own that execute our actions."""
    stages = dict(RAILS.values())
    for kind, flow in _listed(config):
        if flow in RAILS:
            yield flow, RAILS[flow][1]
        elif f"turnguard_check_{stages[kind]}" in _actions(flow, config):
            yield flow, stages[kind]


def _own_in_colang_2(config: RailsConfig) -> Iterator[tuple[str, Stage]]:
    """The flows of ours that flows of the user's run there, or whose actions they do."""
    for flow, (kind, stage) in RAILS.items():
        if stage in ("input", "output"):
            names = [f"name={name!r}" for name in (flow, f"TurnguardCheck{stage.title()}Action")]
            others = (repr(each.elements) for each in config.flows if each.name != flow)
            if (kind, flow) in _listed(config) or any(name in elements for elements in others for name in names):
                yield flow, stage


def _actions(flow: str, config: RailsConfig, seen: frozenset[str] = frozenset()) -> list[str]:
    """The actions that a flow may execute, in order, with those of the subflows that it runs."""
    found: list[str] = []
    for each in config.flows:
        if not isinstance(each, Mapping) or each.get("id") != flow or flow in seen:
            continue
        for element in each.get("elements", ()):
            if element.get("_type") == "run_action":
                found.append(element.get("action_name", ""))
            elif element.get("_type") == "flow":
                found += _actions(element.get("flow_name", ""), config, seen | {flow})
    return found


def _runs_our_actions(config: RailsConfig) -> bool:
    """Whether a flow of the user's own executes one of our actions, without being listed as a rail."""
    names = {flow.get("id") for flow in config.flows if isinstance(flow, Mapping)}
    own = (name for name in names if isinstance(name, str) and not name.startswith("turnguard "))
    return any(action.startswith("turnguard_check_") for name in own for action in _actions(name, config))


def _starts_with_us(flow: str, config: RailsConfig) -> bool:
    """Whether the first action of a rail is ours: the one that the engine runs on chunks of a stream."""
    return (_actions(flow, config) or [""])[0].startswith("turnguard_check_")
