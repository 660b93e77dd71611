"""What can follow a verdict, and how a rewrite is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Action = Literal["allow", "flag", "rewrite", "review", "block"]
ACTIONS: tuple[Action, ...] = get_args(Action)
SEVERITY: Mapping[Action, int] = {action: rank for rank, action in enumerate(ACTIONS)}
"""Strictest highest."""

Way = Literal["trim", "redact", "replace", "drop"]
WAYS: tuple[Way, ...] = get_args(Way)
"""How a rewrite is done, the strictest last: it wins where two rules rewrite one part. `trim` cuts off what could not
be judged, and is done before any other.
"""
