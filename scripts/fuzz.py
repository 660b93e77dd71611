"""Fuzz one target under atheris: `python scripts/fuzz.py TARGET [RUNS] [-- libFuzzer's own options]`.

Needs `pip install atheris` beside the project's dependencies (CPython 3.8 to 3.13 on Linux). Targets: those of
`tests/fuzz/targets.py`. Each starts from its seeds; a finding is written to `crash-*` in the working directory and ends
the run with an error. `SECURITY.md` says how many inputs were tried, and what was found.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main(arguments: list[str]) -> None:
    """Run one target until its runs are used up or something is found."""
    import atheris

    with atheris.instrument_imports(include=["turnguard"]):
        from tests.fuzz.targets import SEEDS, TARGETS
    if not arguments or arguments[0] not in TARGETS:
        raise SystemExit(f"which target? one of: {', '.join(TARGETS)}")
    name, *rest = arguments
    runs = rest.pop(0) if rest and rest[0].isdigit() else "1000000"
    with TemporaryDirectory() as folder:
        for number, seed in enumerate(SEEDS[name]):
            Path(folder, str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], folder, f"-runs={runs}", "-max_len=600", "-timeout=20", *rest], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
