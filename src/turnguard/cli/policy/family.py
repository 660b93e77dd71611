"""`turnguard policy show --family`: what a family of models can do, and what its categories become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from turnguard.core.families import Family


def named(name: str) -> Family:
    """The family of that name. Raises `ConfigError` with the nearest one."""
    from turnguard.moderators.families import family

    return family(name).can


def table(can: Family) -> Table:
    """A family's own categories beside those of the taxonomy; below them those that it can never name."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), caption_justify="left")
    shown.add_column(f"{can.title} says")
    shown.add_column("which is, for the policy")
    for native, category in can.categories.items():
        shown.add_row(native, category if category != native else "the same")
    return shown


def traits(can: Family) -> list[str]:
    """One line for each thing that a policy may want to know."""
    never = _never(can)
    return [
        f"pictures: {'judged, one at a time' if can.images else 'uncheckable'}",
        f"an answer beside its request: {'both are rated' if can.labels == 'both' else 'the answer alone is rated'}",
        f"categories of your own: {'yes' if can.own_categories else 'no'}",
        f"reasoning: {'yes' if can.reasoning else 'no'}",
        f"P(unsafe): from {can.probability}",
        f"never named: {', '.join(never)}" if never else "never named: none",
    ]


def plain(can: Family) -> dict[str, Any]:
    """The same, JSON-ready."""
    return {
        "family": can.name,
        "title": can.title,
        "hub": can.hub,
        "pictures": can.pictures,
        "labels": can.labels,
        "own_categories": can.own_categories,
        "reasoning": can.reasoning,
        "controversial": can.controversial,
        "probability": can.probability,
        "categories": dict(can.categories),
        "never": _never(can),
    }


def _never(can: Family) -> list[str]:
    from turnguard.core.taxonomy import CATEGORIES

    return [name for name in CATEGORIES if name not in can.reaches]
