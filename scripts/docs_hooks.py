"""mkdocs hook: give every table cell the name of its column, so that a phone can show a wide table row by row."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

AFTER_INLINE = 5
"""Lower than the priority of Markdown's inline patterns, which make the headers' text."""


class _Labels(Treeprocessor):
    def run(self, root: Element) -> None:
        for table in root.iter("table"):
            names = ["".join(cell.itertext()) for cell in table.iter("th")]
            for row in table.iter("tr"):
                for name, cell in zip(names, row.findall("td"), strict=False):
                    cell.set("data-label", name)


class _Labelled(Extension):
    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - the base class's name
        md.treeprocessors.register(_Labels(md), "column_labels", AFTER_INLINE)


def on_config(config: Any) -> Any:
    """Add the extension; mkdocs calls this."""
    config.markdown_extensions.append(_Labelled())
    return config
