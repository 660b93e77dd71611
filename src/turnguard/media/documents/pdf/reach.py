"""Which forms and pictures of a PDF its pages draw, and which other readers alone can find.

What a page draws is seen in its picture. Text in patterns, soft masks and annotations is in no page's text, and what no
page draws (thumbnails, alternates, other states of a button, hidden notes, pages outside the tree, earlier versions) is
in neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from turnguard.media.documents.pdf.objects import Item, Objects, Ref, Word, walk
from turnguard.media.documents.pdf.streams import Undecoded, decoded

_DRAWS = re.compile(rb"/([^\s()<>\[\]{}/%]+)\s+Do\b")
_HIDDEN = 1 | 2 | 32  # Invisible, Hidden, NoView
_DEEPEST = 60


@dataclass(slots=True)
class Reached:
    """Numbers of objects: `drawn` by pages and in their text, and `shown` in their pictures alone."""

    drawn: set[int] = field(default_factory=set)
    shown: set[int] = field(default_factory=set)
    contents: set[int] = field(default_factory=set)
    """Content streams of pages in the tree."""
    orphans: list[Item] = field(default_factory=list)
    """Pages that are not in the tree."""


def reach(objects: Objects) -> Reached:
    """Walk from the pages to what they draw."""
    out = Reached()
    in_tree = _tree(objects)
    names = _drawn_names(objects)
    for item in list(objects.latest.values()):
        if item.entries.get("Type") != "Page":
            continue
        if in_tree and item.number not in in_tree:
            out.orphans.append(item)
            continue
        out.contents |= _numbers(item.entries.get("Contents"), objects)
        _resources(_inherited(item.entries, objects), objects, names, out, out.drawn)
        annotations = objects.get(item.entries.get("Annots"))
        for annotation in annotations if isinstance(annotations, list) else []:
            _annotation(objects.entries(annotation), objects, names, out)
    return out


def _tree(objects: Objects) -> set[int]:
    """Numbers of the pages that a catalog's tree holds."""
    found: set[int] = set()
    catalogs = [item for item in objects.all if item.entries.get("Type") == "Catalog" or "Pages" in item.entries]
    todo = [item.entries.get("Pages") for item in catalogs]
    while todo:
        value = todo.pop()
        if not isinstance(value, Ref) or value.number in found:
            continue
        found.add(value.number)
        kids = objects.get(objects.entries(value).get("Kids"))
        todo += kids if isinstance(kids, list) else []
    return found


def _drawn_names(objects: Objects) -> set[str]:
    """Names that any content stream draws."""
    names: set[str] = set()
    for item in objects.all:
        if item.stream is None or "Width" in item.entries or "Length1" in item.entries:
            continue
        try:
            data = decoded(item, objects)
        except Undecoded:
            continue
        names |= {name.decode("latin-1") for name in _DRAWS.findall(data)}
    return names


def _inherited(page: dict[str, Any], objects: Objects) -> dict[str, Any]:
    for _ in range(_DEEPEST):
        if "Resources" in page:
            return objects.entries(page["Resources"])
        page = objects.entries(page.get("Parent"))
    return {}


def _resources(resources: dict[str, Any], objects: Objects, names: set[str], out: Reached, into: set[int]) -> None:
    """Mark what resources lead to. Iterative: forms may nest without end."""
    todo: list[tuple[dict[str, Any], set[int]]] = [(resources, into)]
    while todo:
        resources, into = todo.pop()
        found: list[tuple[Any, set[int]]] = [
            (value, into)
            for name, value in objects.entries(resources.get("XObject")).items()
            if name in names or not name.isascii() or not name.isalnum()
        ]
        found += [(value, out.shown) for value in objects.entries(resources.get("Pattern")).values()]
        for state in objects.entries(resources.get("ExtGState")).values():
            found.append((objects.entries(objects.entries(state).get("SMask")).get("G"), out.shown))
        for font in objects.entries(resources.get("Font")).values():
            todo.append((objects.entries(objects.entries(font).get("Resources")), out.shown)) if "CharProcs" in (
                objects.entries(font)
            ) else None
        for value, mark in found:
            if isinstance(value, Ref) and value.number not in out.drawn | out.shown:
                mark.add(value.number)
                entries = objects.entries(value)
                out.drawn |= _numbers(entries.get("SMask"), objects) | _numbers(entries.get("Mask"), objects)
                todo.append((objects.entries(entries.get("Resources")), mark))


def _annotation(annotation: dict[str, Any], objects: Objects, names: set[str], out: Reached) -> None:
    """Mark the appearance that a viewer draws."""
    flags = objects.get(annotation.get("F"))
    if isinstance(flags, Word) and flags.isdigit() and int(flags) & _HIDDEN:
        return
    normal = objects.entries(annotation.get("AP")).get("N")
    state = objects.get(annotation.get("AS"))
    if isinstance(normal, Ref) and (item := objects.latest.get(normal.number)) and item.stream is None:
        normal = item.entries
    if isinstance(normal, dict):
        normal = normal.get(str(state))
    if isinstance(normal, Ref):
        out.shown.add(normal.number)
        _resources(objects.entries(objects.entries(normal).get("Resources")), objects, names, out, out.shown)


def _numbers(value: Any, objects: Objects) -> set[int]:
    """The objects that a value refers to, through arrays."""
    if isinstance(value, Ref):
        inner = objects.get(value)
        more = {entry.number for entry in inner if isinstance(entry, Ref)} if isinstance(inner, list) else set()
        return {value.number} | more
    return {entry.number for _, entry, _ in walk(value) if isinstance(entry, Ref)}
