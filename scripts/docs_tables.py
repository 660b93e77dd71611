"""Write the generated pages of docs/: `python -m scripts.docs_tables [NAME]...`, from the repository's root.

Each page has a module in tests/ with `DOCUMENT`, its path, and `document()`, its text. Three pages follow from what the
tests declare and assert; those of docs/coverage/ are measured, which takes minutes.
"""

from __future__ import annotations

import importlib
import sys

PAGES = {
    "attacks": "tests.attacks.page",
    "doctor": "tests.doctor.page",
    "faults": "tests.faults.page",
    "langchain": "tests.langchain.page",
    "nemo": "tests.nemo.page",
}


def main(names: list[str]) -> None:
    """Write the pages of these names; all of them where none is given."""
    for name in names or PAGES:
        page = importlib.import_module(PAGES[name])
        page.DOCUMENT.write_text(page.document(), encoding="utf-8")
        print(f"wrote {page.DOCUMENT}")


if __name__ == "__main__":
    main(sys.argv[1:])
