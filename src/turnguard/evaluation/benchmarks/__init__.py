"""The benchmarks of both tables of the model card: where they are from, under which licence, how their files read."""

from turnguard.evaluation.benchmarks.base import Benchmark
from turnguard.evaluation.benchmarks.registry import BENCHMARKS, find

__all__ = ["BENCHMARKS", "Benchmark", "find"]
