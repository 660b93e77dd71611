"""Let `import_paths: [turnguard/rails]` be found wherever Turnguard is installed."""

from __future__ import annotations

from pathlib import Path

import turnguard


def make_importable() -> None:
    """NeMo looks beside its own package and in COLANGPATH, which it reads once, when it is imported."""
    try:
        from nemoguardrails.rails.llm.config import colang_path_dirs
    except ImportError:
        return  # a NeMo without Colang has no rails to import
    ours = str(Path(turnguard.__file__).parent.parent)
    if ours not in colang_path_dirs:
        colang_path_dirs.append(ours)
