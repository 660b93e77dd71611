"""Read many replies of each family, legal and nearly legal: `python scripts/fuzz_families.py [COUNT] [SEED]`.

A reply that is read as safe and is not a legal verdict of its family ends the run with an error, as does a crash.
`COUNT` is per family, 300,000 by default: about a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main(arguments: list[str]) -> None:
    """Print what the replies of each family were read as."""
    from tests.families.grammar import GRAMMARS
    from tests.fuzz.families import run

    count = int(arguments[0]) if arguments else 300_000
    seed = int(arguments[1]) if len(arguments) > 1 else 1
    for name in GRAMMARS:
        found = run(name, count, seed)
        print(f"{name:28} {count:,} replies: " + ", ".join(f"{number:,} {read}" for read, number in found.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
