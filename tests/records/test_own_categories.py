"""Verdicts that were asked for with a policy's own categories say nothing about a policy that defines others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.records.conftest import Opener
from turnguard import Guard, Policy, Step
from turnguard.config.settings import AuditSettings, RecordsSettings
from turnguard.records import replay as replay_line
from turnguard.records.evidence import OTHER_OWN, Evidence
from turnguard.records.query import Filter, find
from turnguard.records.replay import replay_rows, replay_store
from turnguard.testing import FakeModerator

NAME = 'Übergriff "…" 💣'
RULE = f"policy.custom.{NAME}"
UNSAFE = {"grab": [NAME], "damn": ["Profanity"]}


def policy(action: str = "flag", definition: str = "Touches without consent.", **more: Any) -> Policy:
    own: Mapping[str, Any] = {NAME: {"definition": definition, "action": action}}
    return Policy.from_dict({"custom": own, **more})


def _decided(chosen: Policy, **kept: Any) -> None:
    guard = Guard(chosen, FakeModerator(unsafe=UNSAFE), **kept)
    for text in ("grab", "damn", "fine"):
        guard.check(Step.input(text))
    guard.close()


def test_records_are_decided_again_only_under_the_same_categories(url: str, opened: Opener) -> None:
    records = RecordsSettings.model_validate({"url": url})
    _decided(policy(), records=records)
    _decided(Policy.from_dict({}), records=records)
    store = opened()
    for again, decided, changed in (
        (policy(), 3, 0),
        (policy("block"), 3, 1),
        (policy(categories={"Profanity": "flag"}), 3, 1),
        (policy(definition="Something else."), 0, 0),
        (Policy.from_dict({"categories": {"Profanity": "flag"}}), 3, 1),
    ):
        found = replay_store(store, again, Filter())
        assert (found.decided, found.changed) == (decided, changed)
        assert found.undecided == {OTHER_OWN: 6 - decided}


def test_a_name_of_any_letters_is_found_again(url: str, opened: Opener) -> None:
    _decided(policy(), records=RecordsSettings.model_validate({"url": url}))
    store = opened()
    for wanted in (Filter(rule=RULE), Filter(category=NAME)):
        (row,) = find(store, wanted)
        assert (row.rule, row.category, row.action) == (RULE, NAME, "flag")
    assert find(store, Filter(rule=RULE[:-1])) == []


def test_audit_lines_too(tmp_path: Path) -> None:
    _decided(policy(), audit=AuditSettings(path=str(tmp_path / "a.jsonl")))
    _decided(Policy.from_dict({}), audit=AuditSettings(path=str(tmp_path / "b.jsonl")))
    mine, plain = ((tmp_path / name).read_text().splitlines() for name in ("a.jsonl", "b.jsonl"))
    assert [replay_line(line, policy("block")).action for line in mine] == ["block", "block", "allow"]
    for line, other in ((mine[2], Policy.from_dict({})), (plain[2], policy())):
        with pytest.raises(ValueError, match=OTHER_OWN):
            replay_line(line, other)


def test_rows_of_a_batch_too(tmp_path: Path) -> None:
    _decided(policy(), audit=AuditSettings(path=str(tmp_path / "a.jsonl")))
    lines = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    rows = [{"id": line["id"], "stage": "input", "evidence": line["evidence"]} for line in lines]
    assert (found := replay_rows(rows, policy("block"), policy(), None)).decided == 3
    assert found.changed == 1
    assert replay_rows(rows, Policy.from_dict({}), policy(), None).undecided == {OTHER_OWN: 3}
    assert replay_rows(rows, policy(), Policy.from_dict({}), None).undecided == {OTHER_OWN: 3}


def test_what_was_never_asked_fits_every_policy() -> None:
    assert Evidence(()).fits(policy())
