"""`python -m turnguard.nemo ...`: NeMo's own command line, which finds `turnguard/rails` wherever it is installed.

NeMo itself looks beside its own package and in COLANGPATH alone.
"""

from __future__ import annotations

from nemoguardrails.cli import app

import turnguard.nemo  # noqa: F401 - which adds where the rails are

if __name__ == "__main__":
    app()
