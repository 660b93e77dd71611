"""The database: made on first use, refused where it is another version's, with keys that rotate."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from tests.records.conftest import KEY, Opener
from turnguard import ConfigError, Guard
from turnguard.config.files import load
from turnguard.config.settings import RecordsSettings
from turnguard.core.errors import StoreError
from turnguard.records import schema
from turnguard.records.keys import Keys
from turnguard.records.store import Store, edition

YAML = """\
moderator: {api_key: planted-secret}
policy:
  # guns need a sure verdict
  categories:
    Guns and Illegal Weapons: {action: block, above: 0.85, otherwise: flag}
    Profanity: flag
# the planted-key of old
audit: {key: planted-secret}
"""


def test_the_tables_are_made_once_and_found_again(opened: Opener) -> None:
    opened()
    again = opened()
    with again.begin() as connection:
        assert connection.scalars(sa.select(schema.version.c.version)).all() == [schema.VERSION]
        assert {"records", "policies", "reviews", "losses"} <= set(sa.inspect(connection).get_table_names())


@pytest.mark.parametrize("version", [schema.VERSION + 1, schema.VERSION - 1])
def test_a_database_of_another_version_is_refused_in_a_sentence(opened: Opener, version: int) -> None:
    with opened().begin() as connection:
        connection.execute(sa.update(schema.version), {"version": version})
    with pytest.raises(ConfigError, match=rf"the database is of version {version}, not {schema.VERSION}; "):
        opened()


def _open(url: str) -> int:
    Store.open(RecordsSettings(url=SecretStr(url))).close()
    return 0


def test_processes_that_make_the_tables_at_once_do_not_disturb_each_other(url: str) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(_open, [url] * 4) == [0] * 4


def test_many_processes_open_new_files_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        for number in range(60):
            assert pool.map(_open, [f"sqlite:///{tmp_path}/{number}.db"] * 8, chunksize=1) == [0] * 8


def test_a_relative_file_counts_from_the_folder_of_the_yaml(tmp_path: Path) -> None:
    (tmp_path / "turnguard.yaml").write_text(
        "records: {url: sqlite:///data/turnguard.db}\naudit: {path: logs/audit.jsonl}\n"
    )
    config = load(tmp_path / "turnguard.yaml")
    Store.open(config.records).close()
    assert (tmp_path / "data" / "turnguard.db").exists()
    assert config.audit.path == str(tmp_path / "logs" / "audit.jsonl")


@pytest.mark.parametrize("path", ["/proc/nosuch/turnguard.db", "/dev/null/turnguard.db"])
def test_a_file_that_cannot_be_made_is_told(path: str) -> None:
    with pytest.raises(StoreError, match="the database of records"):
        Store.open(RecordsSettings(url=SecretStr(f"sqlite:///{path}")))


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("no database " * 100)
    with pytest.raises(StoreError, match="the database of records"):
        Store.open(RecordsSettings(url=SecretStr(f"sqlite:///{tmp_path / 'a.db'}")))


def test_a_server_that_is_not_there_is_told_without_its_password() -> None:
    with pytest.raises(StoreError) as error:
        Store.open(RecordsSettings(url=SecretStr("postgresql://someone:planted@127.0.0.1:1/none")))
    assert "planted" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"url": "mysql://host/name"}, "a database is named as"),
        ({"url": "sqlite:///a.db", "content": True}, "content is kept encrypted"),
        ({"url": "sqlite:///a.db", "key": "short"}, "32 characters or more"),
        ({"url": "sqlite:///a.db", "key": [KEY, "short"]}, "32 characters or more"),
        ({"url": "sqlite:///a.db", "keep": "soon"}, "a duration is"),
    ],
)
def test_settings_that_cannot_be_meant_are_told(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Guard.from_dict({"moderator": {"base_url": "http://127.0.0.1:1/v1"}, "records": settings})


def test_keys_rotate_by_a_list() -> None:
    old, new = "o" * 32, "n" * 32
    token = Keys([old]).encrypt(b"planted")
    assert b"planted" not in token
    assert Keys([new, old]).decrypt(token) == b"planted"
    with pytest.raises(ConfigError, match=r"records.key does not open this content"):
        Keys([new]).decrypt(token)
    with pytest.raises(ConfigError, match=r"give the records.key"):
        Keys([]).decrypt(token)
    with pytest.raises(ConfigError, match=r"give records.key"):
        Keys([]).encrypt(b"planted")
    assert Keys([new, old]).digest(b"x") == Keys([new]).digest(b"x") != Keys([old]).digest(b"x")


def test_a_policy_is_kept_as_text_and_a_rule_of_last_tuesday_finds_its_line(opened: Opener, tmp_path: Path) -> None:
    file = tmp_path / "turnguard.yaml"
    file.write_text(YAML)
    policy = load(file).policy
    store = opened()
    store.keep_policy(policy)
    store.keep_policy(policy)
    file.write_text("policy: {}\n")
    kept = store.policy(policy.digest, edition(policy))
    assert kept is not None
    assert kept.digest == policy.digest
    assert kept.stages == policy.stages
    assert kept.origin is not None
    assert kept.origin.line("policy.categories.Guns and Illegal Weapons.otherwise") == 5
    assert kept.origin.line("policy.on_failure") == 2
    assert kept.origin.text.splitlines()[5 - kept.origin.first].lstrip().startswith("Guns")
    (row,) = store.policies(policy.digest)
    assert "planted" not in json.dumps([str(value) for value in row])


def test_the_same_rules_on_other_lines_are_another_edition(opened: Opener, tmp_path: Path) -> None:
    store = opened()
    found = []
    for number in (0, 7):
        (tmp_path / "turnguard.yaml").write_text("\n" * number + YAML)
        found.append(load(tmp_path / "turnguard.yaml").policy)
        store.keep_policy(found[-1])
    first, second = found
    assert first.digest == second.digest
    assert edition(first) != edition(second)
    for policy, line in ((first, 6), (second, 13)):
        kept = store.policy(policy.digest, edition(policy))
        assert kept is not None
        assert kept.origin is not None
        assert kept.origin.line("policy.categories.Profanity") == line


def test_a_policy_in_braces_is_kept_without_what_stands_beside_it(opened: Opener, tmp_path: Path) -> None:
    (tmp_path / "turnguard.yaml").write_text("{moderator: {api_key: planted}, policy: {categories: {Profanity: flag}}}")
    policy = load(tmp_path / "turnguard.yaml").policy
    store = opened()
    store.keep_policy(policy)
    (row,) = store.policies(policy.digest)
    assert "planted" not in str(row)
    assert json.loads(row.text) == {"categories": {"Profanity": "flag"}}


def test_a_policy_that_is_gone_is_none(opened: Opener) -> None:
    assert opened().policy("0" * 16) is None
