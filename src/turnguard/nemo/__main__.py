"""`python -m turnguard.nemo ...`: NeMo's own command line, which finds `turnguard/rails` wherever it is installed.

NeMo itself looks beside its own package and in COLANGPATH alone.
"""

from __future__ import annotations

from nemoguardrails.cli import app

from turnguard.nemo.engine import make_importable

if __name__ == "__main__":
    make_importable()
    app()
