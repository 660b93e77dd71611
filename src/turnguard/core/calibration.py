"""P(unsafe) as the model gives it → the share of such content that is unsafe: curves from `turnguard calibrate`.

Pure: text in, curves out. A curve is looked up by side (whose label decides), category and language, the most specific
first: category in that language, category, language, all. A category's curves are for the rule of that category alone,
and only a language that was given chooses one, never a guess.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from turnguard.core.errors import ConfigError
from turnguard.core.taxonomy import canonical, nearest
from turnguard.core.validate import Section, read
from turnguard.core.verdict import Side

FORMAT = 1
EDGE = 1e-6
"""P is kept this far from 0 and 1 before its log odds are taken."""

Method = Literal["identity", "isotonic", "platt"]
_Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Curve(Section):
    """One fitted curve, never falling.

    `isotonic`: straight lines between the points (`p`, `calibrated`), flat outside. `platt`: a logistic curve over the
    log odds of P. `identity`: P as it is, where no curve did better. `rows` and `unsafe` say what it was fitted on.
    """

    method: Method
    p: tuple[_Share, ...] = ()
    calibrated: tuple[_Share, ...] = ()
    slope: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    intercept: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    rows: Annotated[int, Field(ge=0)] = 0
    unsafe: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _sound(self) -> Curve:
        if self.method != "isotonic":
            return self
        if len(self.p) != len(self.calibrated) or not self.p:
            raise ValueError("an isotonic curve needs as many values in p as in calibrated, at least one")
        if any(right <= left for left, right in zip(self.p, self.p[1:], strict=False)):
            raise ValueError("the values of p must rise")
        if any(right < left for left, right in zip(self.calibrated, self.calibrated[1:], strict=False)):
            raise ValueError("the calibrated values must not fall: a curve that falls would turn the order of P around")
        return self

    def at(self, p: float) -> float:
        """The calibrated P."""
        if self.method == "isotonic":
            xs, ys = self.p, self.calibrated
            right = bisect_right(xs, p)
            if right == 0:
                return ys[0]
            if right == len(xs):
                return ys[-1]
            left = right - 1
            share = (p - xs[left]) / (xs[right] - xs[left])
            return ys[left] + share * (ys[right] - ys[left])
        if self.method == "platt":
            kept = min(max(p, EDGE), 1.0 - EDGE)
            odds = self.slope * math.log(kept / (1.0 - kept)) + self.intercept
            return 1.0 / (1.0 + math.exp(min(-odds, 700.0)))  # beyond, exp() overflows and the value is 0 anyway
        return p


class _SideFile(Section):
    all: Curve
    categories: dict[str, Curve] = Field(default_factory=dict)
    languages: dict[str, Curve] = Field(default_factory=dict)
    cells: dict[str, dict[str, Curve]] = Field(default_factory=dict)


class _File(Section):
    turnguard_calibration: Literal[1]
    family: str | None = None
    model: str | None = None
    source: str | None = None
    sides: Annotated[dict[Side, _SideFile], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The curves of one file, whose `text` can be parsed again. `family` is the model family that they were measured
    on; `digest` names them.
    """

    sides: Mapping[Side, _SideFile]
    family: str | None = None
    digest: str = field(default="")
    text: str = field(default="", repr=False, compare=False)

    @classmethod
    def parse(cls, text: str, source: str = "the calibration") -> Calibration:
        """Read a calibration file's text. Raises `ConfigError` with a sentence per mistake."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise ConfigError(f"{source}: not valid JSON; a file from 'turnguard calibrate' is expected") from None
        return cls.from_dict(data, source)

    @classmethod
    def from_dict(cls, data: Any, source: str = "the calibration") -> Calibration:
        """The same for data that is already parsed."""
        if not isinstance(data, dict) or "turnguard_calibration" not in data:
            raise ConfigError(f"{source}: not a calibration file: the key 'turnguard_calibration' is missing")
        found, problems = read(_File, data)
        if found is None:
            raise ConfigError(*(f"{source}: {problem.where}: {problem.message}" for problem in problems))
        for side, curves in found.sides.items():
            for name in (*curves.categories, *curves.cells):
                if canonical(name) != name:
                    raise ConfigError(
                        f"{source}: sides.{side}: unknown category {name!r}; did you mean {nearest(name)!r}?"
                    )
        text = json.dumps(data, sort_keys=True)
        return cls(found.sides, found.family, hashlib.sha256(text.encode()).hexdigest()[:16], text)

    def p(self, side: Side, p: float, category: str | None = None, language: str | None = None) -> float | None:
        """The calibrated P, or None for a side that was not calibrated: a raw P must meet no calibrated threshold."""
        curves = self.sides.get(side)
        return None if curves is None else _curve(curves, category, language).at(p)

    def reach(self, at: float, category: str | None = None) -> tuple[float, float]:
        """The lowest and the highest calibrated value that a raw P of `at` can take, over sides and languages."""
        values = [curve.at(at) for curves in self.sides.values() for curve in _possible(curves, category)]
        return min(values), max(values)


def _curve(curves: _SideFile, category: str | None, language: str | None) -> Curve:
    if category is not None:
        cell = curves.cells.get(category, {}).get(language) if language is not None else None
        found = cell or curves.categories.get(category)
        if found is not None:
            return found
    if language is not None and language in curves.languages:
        return curves.languages[language]
    return curves.all


def _possible(curves: _SideFile, category: str | None) -> Iterator[Curve]:
    if category is not None:
        yield from curves.cells.get(category, {}).values()
        if category in curves.categories:
            yield curves.categories[category]
            return
    yield from curves.languages.values()
    yield curves.all
