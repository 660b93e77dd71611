"""Whether decisions can be recorded where the configuration says."""

from __future__ import annotations

from collections.abc import Iterator

from turnguard.config.document import Config
from turnguard.core.errors import ConfigError, StoreError
from turnguard.doctor.findings import Finding, failed, note, ok
from turnguard.records.audit_file import refused

DAY = 86_400_000


def examine(config: Config) -> tuple[Finding, ...]:
    """The audit file and the database, where there are any. Blocks for some seconds where the database is slow."""
    return tuple(_findings(config))


def _findings(config: Config) -> Iterator[Finding]:
    if config.audit.path is not None:
        problem = refused(config.audit)
        if problem is not None:
            yield failed("audit", problem, "Name a file that this user may write, in audit.path.")
        else:
            yield ok("audit", f"{config.audit.path} can be written")
    if config.records.url is not None:
        yield _database(config)


def _database(config: Config) -> Finding:
    try:
        from turnguard.records.query import lost
        from turnguard.records.store import Store, now

        store = Store.open(config.records)
        try:
            count = lost(store, now() - DAY)
        finally:
            store.close()
    except (StoreError, ConfigError) as error:
        return failed("records", str(error), "Start the database, or name another one in records.url.")
    except ModuleNotFoundError as error:
        return failed("records", f"the package {error.name!r} is not installed", "pip install 'turnguard[records]'")
    if count:
        told = f"{count:,} records were lost in the last day: the database was away, or too slow"
        return note("records", told, "The application's log says when; records.required makes checks wait instead.")
    return ok("records", "the database can be written, and no record was lost in the last day")
