"""Databases for the tests: SQLite as Python ships it, and a real PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.cli.conftest import run
from tests.records import postgres
from turnguard.config.settings import RecordsSettings
from turnguard.records.store import Store

__all__ = ["run"]  # a fixture

KEY = "a key for tests of forty characters long"


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Postgres]:
    if not postgres.available():
        pytest.skip("PostgreSQL 15 is not installed here (scripts/debian_packages.sh)")
    with postgres.running() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'turnguard.db'}"
    running: postgres.Postgres = request.getfixturevalue("server")
    engine = sa.create_engine(running.url.replace("postgresql", "postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return running.url


def in_child(work: Callable[[], object]) -> int:
    """Do something in a forked child; returns the child's pid."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    return child


Opener = Callable[..., Store]


@pytest.fixture
def opened(url: str) -> Iterator[Opener]:
    """Open the database with settings of the test's own; closed at its end."""
    stores: list[Store] = []

    def open_store(**settings: Any) -> Store:
        stores.append(Store.open(RecordsSettings.model_validate({"url": url, **settings})))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()
