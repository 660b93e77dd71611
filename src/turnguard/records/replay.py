"""An audit line and another policy → what that policy would have made of it. No model is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from turnguard.core.decide import decide
from turnguard.core.decision import Outcome
from turnguard.core.policy import Policy
from turnguard.core.verdict import Coverage, Covered, Judgement, Reduced, Verdict


def replay(line: str | Mapping[str, Any], policy: Policy) -> Outcome:
    """Decide a recorded step again under `policy`, with the verdicts that were recorded.

    `line` is a line of the audit file, or what it parses to. Raises `ValueError` where it is none. The outcome says
    what the policy asks for; whether a rewrite would have succeeded is not in the record.
    """
    record = json.loads(line) if isinstance(line, str) else line
    try:
        judgements = [_judgement(entry) for entry in record["judgements"]]
        coverage = Coverage(
            tuple(Covered(**entry) for entry in record["coverage"]["judged"]),
            tuple(Covered(**entry) for entry in record["coverage"]["not_judged"]),
            tuple(Reduced(**entry) for entry in record["coverage"].get("reduced", ())),
        )
        stage, language = record["stage"], record.get("language_given")
    except (KeyError, TypeError, AttributeError):
        raise ValueError("not a line of the audit file") from None
    return decide(judgements, coverage, policy, stage, language)


def _judgement(entry: Mapping[str, Any]) -> Judgement:
    verdict = Verdict(
        user=entry["user"],
        response=entry["response"],
        categories=tuple(entry["categories"]),
        p_user=entry["p_user"],
        p_response=entry["p_response"],
        failure=entry["failure"],
        cause=entry["cause"],
    )
    return Judgement(verdict, entry["decides"], tuple(entry["parts"]), entry["detail"], entry["kind"])
