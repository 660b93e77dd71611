"""One record explained: which rule decided, where it stood in the policy as it was then, and what P it saw."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from turnguard.core.decision import Reason
from turnguard.core.errors import ConfigError
from turnguard.core.policy import Policy
from turnguard.core.rules import Rule, StagePolicy
from turnguard.core.step import Stage
from turnguard.records.evidence import Evidence, load_reasons
from turnguard.records.look import look
from turnguard.records.store import Store


def explained(store: Store, row: Any, *, reader: str | None = None) -> dict[str, Any]:
    """A record as JSON: for a `reader`, whose look is recorded, with its content. Raises `ConfigError` where no key
    opens it.

    What cannot be read any more, such as a policy that is gone, is None and named under `missing`.
    """
    missing: list[str] = []
    policy: Policy | None = None
    try:
        policy = store.policy(row.policy, row.edition)
        if policy is None:
            missing.append(f"the policy {row.policy} is not in the database")
    except (ConfigError, ValueError) as error:
        missing.append(f"the policy {row.policy} can no longer be read: {error}")
    fired, shadow, evidence = _parsed(row, missing)
    data: dict[str, Any] = {
        name: getattr(row, name)
        for name in row._fields
        if name not in ("parts", "reasons", "shadow_reasons", "evidence", "content", "metadata")
    }
    data["metadata"] = _json(row.metadata, missing) or {}
    data["parts"] = _json(row.parts, missing) or []
    data["reasons"] = [_reason(reason, policy, row.stage) for reason in fired]
    data["shadow_reasons"] = [_reason(reason, policy and policy.shadow, row.stage) for reason in shadow]
    data |= evidence
    origin = policy.origin if policy is not None else None
    data["policy_text"] = origin.text if origin else None
    data["policy_first_line"] = origin.first if origin else None
    if reader is not None:
        data["content"] = look(store, row, reader)
        if data["content"] is None:
            missing.append("no content was kept")
    data["missing"] = missing
    return data


def _parsed(row: Any, missing: list[str]) -> tuple[tuple[Reason, ...], tuple[Reason, ...], dict[str, Any]]:
    try:
        fired, shadow = load_reasons(row.reasons), load_reasons(row.shadow_reasons)
        if row.evidence is None:
            return fired, shadow, {"judgements": [], "coverage": {}}
        Evidence.load(row.evidence)
        return fired, shadow, {"judgements": [], "coverage": {}, **json.loads(row.evidence)}
    except ValueError as error:
        missing.append(f"the record is damaged: {error}")
        return (), (), {"judgements": [], "coverage": {}}


def _json(text: str | None, missing: list[str]) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        missing.append("the record is damaged")
        return None


def _reason(reason: Reason, policy: Policy | None, stage: Stage) -> dict[str, Any]:
    origin = policy.origin if policy is not None else None
    line = origin.line(reason.rule) if origin is not None and origin.lines else None
    limit = thresholds(policy.stages[stage]).get(reason.cause or reason.rule) if policy is not None else None
    written = None
    if origin is not None and line is not None and 0 <= line - origin.first < len(origin.text.splitlines()):
        written = origin.text.splitlines()[line - origin.first].strip()
    return {
        "kind": reason.kind,
        "category": reason.category,
        "rule": reason.rule,
        "action": reason.action,
        "cause": reason.cause,
        "failure": reason.failure,
        "parts": list(reason.parts),
        "p": reason.p_unsafe,
        "threshold": limit,
        "file": origin.file if origin is not None and line is not None else None,
        "line": line,
        "written": written,
    }


def thresholds(rules: StagePolicy) -> Mapping[str, float]:
    """The P that the rule of each path is compared with; none for a rule that needs no P."""
    return dict(_limits(rules))


def _limits(rules: StagePolicy) -> Iterator[tuple[str, float]]:
    if rules.unsafe_above is not None:
        yield rules.unsafe_above_path, rules.unsafe_above
    found: list[Rule | None] = [rules.default, *rules.categories.values()]
    for rule in found:
        if rule is not None and rule.above is not None:
            yield rule.path, rule.above
            if rule.otherwise is not None:
                yield rule.otherwise.path, rule.above
