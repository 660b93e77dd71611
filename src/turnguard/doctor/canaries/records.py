"""Whether decisions can be recorded where the configuration says."""

from __future__ import annotations

from turnguard.config.document import Config
from turnguard.core.errors import ConfigError, StoreError
from turnguard.doctor.findings import Told, failed, note, ok
from turnguard.records.audit_file import refused

DAY = 86_400_000


def audit(config: Config) -> Told | None:
    """Say whether the audit file can be written; nothing where none is named."""
    if config.audit.path is None:
        return None
    problem = refused(config.audit)
    if problem is not None:
        return failed(problem, "Name a file that this user may write, in audit.path.")
    return ok(f"{config.audit.path} can be written")


def records(config: Config) -> Told | None:
    """Say whether the database takes records, and whether it lost some; nothing where none is named.

    Blocks for some seconds where it is slow.
    """
    return None if config.records.url is None else _database(config)


def _database(config: Config) -> Told:
    try:
        from turnguard.records.query import lost
        from turnguard.records.store import Store, now

        store = Store.open(config.records)
        try:
            count = lost(store, now() - DAY)
        finally:
            store.close()
    except (StoreError, ConfigError) as error:
        return failed(str(error), "Start the database, or name another one in records.url.")
    except ModuleNotFoundError as error:
        return failed(f"the package {error.name!r} is not installed", "pip install 'turnguard[records]'")
    if count:
        told = f"{count:,} records were lost in the last day: the database was away, or too slow"
        return note(told, "The application's log says when; records.required makes checks wait instead.")
    return ok("the database can be written, and no record was lost in the last day")
