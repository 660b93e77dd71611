"""Decide recorded steps again under another policy. No model is asked, and nothing is guessed: what a record does not
hold is counted apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

from turnguard.core.action import ACTIONS
from turnguard.core.decision import Outcome, Reason
from turnguard.core.errors import ConfigError
from turnguard.core.policy import Policy
from turnguard.core.rules import StagePolicy
from turnguard.core.step import Stage
from turnguard.core.verdict import Verdict
from turnguard.records.evidence import OTHER_OWN, Evidence
from turnguard.records.query import Filter, stream
from turnguard.records.schema import records
from turnguard.records.store import Store
from turnguard.records.why import thresholds

DISTINCT = 100_000
"""Distinct sets of verdicts whose decisions are kept at hand."""
EXAMPLES = 5
"""Records of each kind of change that are named."""

NO_LOGPROBS = "no_logprobs"
"""What `decide` says where `unsafe_above` met no P."""
DAMAGED = "the record is damaged"
NO_P = "no P was kept, and the policy has another threshold"
OTHER_FAMILY = "the calibration was measured on another model family"


class Recorded(NamedTuple):
    """One decision of the past: what the rules asked for, and what they read."""

    id: str
    stage: Stage
    asked: str
    rule: str | None
    policy: str
    edition: str | None
    family: str | None
    evidence: str | None


class Again(NamedTuple):
    """The same under the other policy. `blind` are the thresholds that met no P where one would have mattered."""

    action: str
    rule: str | None
    blind: frozenset[tuple[str, float]]


@dataclass(slots=True)
class Replayed:
    """What another policy would have done. `moves` counts (from, to), `by_rule` (rule, from, to); the rule is the one
    that decides under the other policy, or where none does, the one that decided before.
    """

    policy: str
    total: int = 0
    undecided: Counter[str] = field(default_factory=Counter)
    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_rule: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    by_stage: Counter[str] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def decided(self) -> int:
        """Records that could be decided again."""
        return self.total - self.undecided.total()

    @property
    def changed(self) -> int:
        """Decisions that another action would have been."""
        return self.moves.total()

    @property
    def share(self) -> float:
        """Of those that could be decided again, the share that changes."""
        return self.changed / self.decided if self.decided else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "policy": self.policy,
            "records": self.total,
            "decided": self.decided,
            "changed": self.changed,
            "share": self.share,
            "undecided": dict(self.undecided.most_common()),
            "before": {action: self.before[action] for action in ACTIONS if self.before[action]},
            "after": {action: self.after[action] for action in ACTIONS if self.after[action]},
            "changes": [
                {"from": old, "to": new, "count": count, "examples": self.examples[old, new]}
                for (old, new), count in self.moves.most_common()
            ],
            "rules": [
                {"rule": rule, "from": old, "to": new, "count": count}
                for (rule, old, new), count in self.by_rule.most_common()
            ],
            "stages": dict(self.by_stage.most_common()),
        }


class Replay:
    """Decides records under `policy`. `store` gives the policies that they were decided by."""

    def __init__(self, policy: Policy, store: Store | None = None) -> None:
        self.policy = policy
        self.found = Replayed(policy.digest)
        self._limits = {stage: frozenset(thresholds(rules).items()) for stage, rules in policy.stages.items()}
        self._calibration = policy.calibration
        self._again = lru_cache(DISTINCT)(self._decide)
        self._earlier = lru_cache(256)(lambda digest, edition: _earlier(store, digest, edition))

    def add(self, record: Recorded) -> None:
        """Decide one record and count what becomes of it."""
        found = self.found
        found.total += 1
        calibration = self._calibration
        if calibration is not None and calibration.family is not None and record.family != calibration.family:
            found.undecided[OTHER_FAMILY] += 1
            return
        again = self.again(record.evidence, record.stage)
        if isinstance(again, str):
            found.undecided[again] += 1
            return
        if again.blind and not again.blind <= self._known(record):
            found.undecided[NO_P] += 1
            return
        found.before[record.asked] += 1
        found.after[again.action] += 1
        if again.action != record.asked:
            move = record.asked, again.action
            found.moves[move] += 1
            found.by_rule[again.rule or record.rule or "", *move] += 1
            found.by_stage[record.stage] += 1
            if len(found.examples[move]) < EXAMPLES:
                found.examples[move].append(record.id)

    def again(self, evidence: str | None, stage: Stage) -> Again | str:
        """What the policy makes of the verdicts; else why it cannot be told."""
        return DAMAGED if evidence is None else self._again(evidence, stage)

    def _known(self, record: Recorded) -> frozenset[tuple[str, float]]:
        """The thresholds that failed closed for want of P when the record was made, as they would again."""
        earlier = self._earlier(record.policy, record.edition)
        same = earlier is not None and _digest(earlier) == _digest(self.policy)
        return frozenset(thresholds(earlier.stages[record.stage]).items()) if earlier and same else frozenset()

    def _decide(self, text: str, stage: Stage) -> Again | str:
        try:
            evidence = Evidence.load(text)
        except ValueError:
            return DAMAGED
        if not evidence.fits(self.policy):
            return OTHER_OWN
        outcome = evidence.decide(self.policy, stage)
        rule = outcome.decisive[0].rule if outcome.decisive else None
        blind = frozenset(self._blind(evidence, outcome, stage)) if self._limits[stage] else frozenset()
        return Again(outcome.action, rule, blind)

    def _blind(self, evidence: Evidence, outcome: Outcome, stage: Stage) -> Iterable[tuple[str, float]]:
        limits = dict(self._limits[stage])
        where_met = (_without_p(reason, self.policy.stages[stage]) for reason in outcome.reasons)
        met = {where: limits[where] for where in where_met if where in limits}
        if not met:
            return ()
        # whatever P would have been, the action is the same
        lowest, highest = (_with_p(evidence, p).decide(self.policy, stage).action for p in (0.0, 1.0))
        return () if lowest == highest == outcome.action else met.items()


def replay_store(store: Store, policy: Policy, wanted: Filter) -> Replayed:
    """Decide the records of a database again."""
    again = Replay(policy, store)
    columns = [records.c[name] for name in Recorded._fields]
    for rows in stream(store, wanted, columns):
        for row in rows:
            again.add(Recorded._make(row))
    return again.found


def replay_rows(rows: Iterable[Mapping[str, Any]], policy: Policy, earlier: Policy, family: str | None) -> Replayed:
    """The same for verdicts that were kept without a decision: `earlier` makes the one that is compared with."""
    again, before = Replay(policy), Replay(earlier)
    for number, row in enumerate(rows):
        text, stage = row.get("evidence"), row["stage"]
        first = before.again(text, stage)
        if isinstance(first, str):
            again.found.total += 1
            again.found.undecided[first] += 1
        else:
            name = str(row.get("id") or number)
            again.add(Recorded(name, stage, first.action, first.rule, earlier.digest, None, family, text))
    return again.found


def _earlier(store: Store | None, digest: str, edition: str | None) -> Policy | None:
    try:
        return None if store is None else store.policy(digest, edition)
    except (ConfigError, ValueError):
        return None  # it is there, and this version can no longer read it


def _digest(policy: Policy) -> str | None:
    return None if policy.calibration is None else policy.calibration.digest


def _without_p(reason: Reason, rules: StagePolicy) -> str | None:
    """The path of the rule whose threshold met no P."""
    if reason.cause == NO_LOGPROBS:
        return rules.unsafe_above_path
    return reason.rule if reason.kind == "verdict" and reason.p_unsafe is None else None


def _with_p(evidence: Evidence, p: float) -> Evidence:
    """The evidence as if the server had given P."""

    def filled(verdict: Verdict) -> Verdict:
        user, response = verdict.p_user, verdict.p_response
        return replace(verdict, p_user=p if user is None else user, p_response=p if response is None else response)

    return evidence.with_verdicts(filled)
