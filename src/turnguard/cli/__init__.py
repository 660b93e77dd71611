"""The command line. `main()` is the entry point; each command is one file that imports what it needs when it runs.

Exit codes: 0 passed on, 1 withheld, 2 usage or configuration error, 3 the moderator failed; 130
after Ctrl-C. Nothing ends in a traceback: `TURNGUARD_TRACEBACK=1` asks for one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. An error is one sentence on stderr, or JSON with `--json`."""
    from turnguard.cli import output

    given = list(sys.argv[1:] if arguments is None else arguments)
    output.prepare()
    code = output.FAILED
    try:
        code = _run(given)
    except KeyboardInterrupt:
        code = output.INTERRUPTED
    except Exception as error:
        if os.environ.get("TURNGUARD_TRACEBACK"):
            raise
        code = output.report(error, as_json="--json" in given)
    finally:
        output.finish()
    return code


def _run(given: list[str]) -> int:
    import typer

    from turnguard.cli import output
    from turnguard.cli.app import app

    try:
        # not standalone: errors come here to be told in the house's own way, and no exit code is the framework's choice
        code = app(args=given, prog_name="turnguard", standalone_mode=False)
    except typer.Abort:  # what older versions of typer make of Ctrl-C
        return output.INTERRUPTED
    except SystemExit as ended:  # typer's own way out of a broken pipe
        code = ended.code
    return code if isinstance(code, int) else output.PASSED
