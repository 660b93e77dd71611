"""What the doctor makes of measured times: pure, so that no test has to wait for them."""

from __future__ import annotations

from typing import Any

import pytest

from turnguard.config.document import from_dict
from turnguard.doctor.asking import Heard
from turnguard.doctor.canaries import Seen, timing
from turnguard.doctor.findings import Told

ONE, TWO = "http://one:8000/v1", ["http://one:8000/v1", "http://two:8000/v1"]


def told(times: list[float], **moderator: Any) -> Told:
    config = from_dict({"moderator": {"base_url": ONE, **moderator}}, {})
    return timing.deadline(Seen(config, config.moderator, ONE, Heard(0.1), Heard(0.1), times=times))


@pytest.mark.parametrize(
    ("times", "moderator", "status", "named"),
    [
        ([0.1] * 20, {}, "ok", "100 ms (median) and 100 ms (p95 of 20); moderator.deadline is 2.0 s"),
        ([0.1] * 19 + [5.0], {}, "ok", "100 ms (p95 of 20)"),  # one in twenty is beyond p95
        ([0.1] * 18 + [5.0] * 2, {}, "failed", "Set moderator.deadline: 20s"),
        ([1.5] * 3, {}, "note", "no room for a retry"),
        ([0.3] * 9, {"attempt_timeout": "200ms"}, "failed", "moderator.attempt_timeout is 200 ms"),
        ([0.3] * 9, {"attempt_timeout": "9s", "deadline": "2s"}, "ok", "moderator.deadline is 2.0 s"),
        ([3.0] * 9, {"attempt_timeout": "9s", "deadline": "2s"}, "failed", "Set moderator.deadline: 12s"),
        ([0.3] * 9, {"base_url": TWO, "deadline": "500ms"}, "failed", "half of moderator.deadline"),
        ([0.3] * 9, {"base_url": TWO, "deadline": "2s"}, "ok", "half of moderator.deadline"),
    ],
)
def test_the_deadline(times: list[float], moderator: dict[str, Any], status: str, named: str) -> None:
    finding = told(times, **moderator)
    assert finding.status == status, finding
    assert named in f"{finding.what} | {finding.change}"


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 5.0), (0.95, 10.0), (0.9, 9.0), (1.0, 10.0)])
def test_quantiles_are_nearest_ranks(share: float, expected: float) -> None:
    assert timing.quantile([float(n) for n in range(10, 0, -1)], share) == expected
