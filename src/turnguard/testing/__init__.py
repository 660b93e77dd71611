"""For adopters' own tests: a scripted vLLM server on loopback, and a scripted moderator without any network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnguard.testing import faults
    from turnguard.testing._requests import RecordedRequest
    from turnguard.testing.fake_moderator import FakeModerator
    from turnguard.testing.fake_vllm import FakeVLLM
    from turnguard.testing.faults import Fault

__all__ = ["FakeModerator", "FakeVLLM", "Fault", "RecordedRequest", "faults"]


def __getattr__(name: str) -> Any:
    if name == "FakeModerator":
        from turnguard.testing.fake_moderator import FakeModerator

        return FakeModerator
    if name == "FakeVLLM":
        from turnguard.testing.fake_vllm import FakeVLLM

        return FakeVLLM
    if name == "RecordedRequest":
        from turnguard.testing._requests import RecordedRequest

        return RecordedRequest
    if name in {"Fault", "faults"}:
        import importlib

        module = importlib.import_module("turnguard.testing.faults")
        return module if name == "faults" else module.Fault
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
