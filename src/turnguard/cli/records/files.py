"""`turnguard records export` and `import`: Parquet, JSON lines, audit files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from turnguard.cli.records.asking import CONFIG, Config, filtered, opened


@filtered
def export(
    wanted: Any,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A file that ends in .jsonl or .parquet.")],
    content: Annotated[bool, typer.Option("--content", help="With the content, decrypted.")] = False,
    config: Config = CONFIG,
) -> int:
    """Write records to a file, oldest first."""
    from turnguard.cli import output
    from turnguard.records.export import rows, write_json, write_parquet

    write = {".jsonl": write_json, ".parquet": write_parquet}.get(out.suffix)
    if write is None:
        raise output.UsageError(f"{out}: its ending says the form: .jsonl or .parquet")
    beginning = out.with_name(out.name + ".tmp")
    with opened(config) as store:
        count = write(rows(store, wanted, content=content), beginning)
    beginning.replace(out)  # whole, or not at all
    output.line(f"{count:,} records in {out}")
    return output.PASSED


def import_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audit files, of one process or of several.")],
    config: Config = CONFIG,
) -> int:
    """Read audit files into the database. The same file may be imported again: no line is kept twice."""
    from turnguard.cli import output
    from turnguard.config.files import load
    from turnguard.records.export import import_audit
    from turnguard.records.store import Store

    store = Store.open(load(config).records)
    try:
        for file in files:
            good, bad = import_audit(store, file)
            output.line(f"{file}: {good:,} records" + (f", {bad:,} lines are damaged" if bad else ""))
    finally:
        store.close()
    return output.PASSED
