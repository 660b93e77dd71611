"""The model card's own figures (Nemotron 3 Content Safety, "Evaluation Results"), to stand beside measured ones.

The copy of the card that could be read has lost the empty cells of its first table. Rows with four figures are
certain; two figures without a response set are prompt accuracy and prompt F1; a single figure is read as prompt F1,
and PolyGuard's two as prompt F1 and response F1: the readings under which the all-harmful sets agree with
themselves. Those are marked `read`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Figure = Literal["prompt_accuracy", "prompt_f1", "response_accuracy", "response_f1", "false_positive_rate"]
FIGURES: dict[Figure, tuple[str, str]] = {
    "prompt_accuracy": ("user", "accuracy"),
    "prompt_f1": ("user", "f1"),
    "response_accuracy": ("response", "accuracy"),
    "response_f1": ("response", "f1"),
    "false_positive_rate": ("user", "false_positive_rate"),
}
"""Each figure of the card: the side whose label it rates, and the measure."""
NAMES: dict[Figure, str] = {
    "prompt_accuracy": "Prompt accuracy",
    "prompt_f1": "Prompt harmful F1",
    "response_accuracy": "Response accuracy",
    "response_f1": "Response harmful F1",
    "false_positive_rate": "False-positive rate",
}


@dataclass(frozen=True, slots=True)
class CardRow:
    """One benchmark's row. `rows` is the number of samples, where the card states it; `read`: columns are our
    reading.
    """

    figures: dict[Figure, float]
    rows: int | None = None
    read: bool = False


CARD: dict[str, CardRow] = {
    "rtvlm": CardRow({"prompt_accuracy": 0.74, "prompt_f1": 0.38}, read=True),
    "vlguard": CardRow({"prompt_accuracy": 0.85, "prompt_f1": 0.87}, read=True),
    "mm-safetybench": CardRow({"prompt_accuracy": 0.56, "prompt_f1": 0.73}, read=True),
    "xstest": CardRow({"prompt_accuracy": 0.75, "prompt_f1": 0.77, "response_accuracy": 0.94, "response_f1": 0.85}),
    "figstep": CardRow({"prompt_accuracy": 0.76, "prompt_f1": 0.86}, read=True),
    "aegis2": CardRow({"prompt_accuracy": 0.85, "prompt_f1": 0.87, "response_accuracy": 0.84, "response_f1": 0.83}),
    "wildguard": CardRow({"prompt_accuracy": 0.82, "prompt_f1": 0.82, "response_accuracy": 0.90, "response_f1": 0.74}),
    "polyguard": CardRow({"prompt_f1": 0.80, "response_f1": 0.73}, read=True),
    "rtp-lx": CardRow({"prompt_f1": 0.90}, read=True),
    "multijail": CardRow({"prompt_f1": 0.96}, read=True),
    "xsafety": CardRow({"prompt_f1": 0.73}, read=True),
    "aya": CardRow({"prompt_f1": 0.97}, read=True),
    "mmmu": CardRow({"false_positive_rate": 0.023}, rows=10_500),
    "docvqa": CardRow({"false_positive_rate": 0.058}, rows=5_188),
    "ai2d": CardRow({"false_positive_rate": 0.001}, rows=3_088),
}
TABLES = {
    "card-harmful": [name for name, row in CARD.items() if "false_positive_rate" not in row.figures],
    "card-safe": [name for name, row in CARD.items() if "false_positive_rate" in row.figures],
}
"""Names that stand for one whole table of the card."""
