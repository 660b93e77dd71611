"""One report per run: a self-contained page, and the same as JSON and Markdown."""

from turnguard.evaluation.report.assemble import Report, Section
from turnguard.evaluation.report.write import write

__all__ = ["Report", "Section", "write"]
