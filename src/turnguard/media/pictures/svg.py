"""SVG as a picture: drawn by resvg, without scripts, animations, or anything from outside the file. Runs in a child.

Source: SVG 2. What a browser would show beyond that is named, so that it can be listed; the source itself is judged as
text by whoever reads the file.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, NamedTuple

from turnguard.media.data_uris import read_data_uri
from turnguard.media.types import Unreadable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_LEAST = 1100  # pixels along the longer side: a small drawing is shown larger, as a viewer would zoom into it
_MOST = 16_000_000
_DEPTH = 3  # SVG inside SVG inside ...
_UNITS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0, "em": 16.0}
_LENGTH = re.compile(r"\s*\+?([0-9]{0,9}(?:\.[0-9]{1,9})?(?:e[0-9]{1,2})?)\s*([a-z]{0,2})\s*", re.IGNORECASE)
_OUTSIDE = re.compile(r"@import|url\(\s*[\"']?\s*(?!#|data:)[^)\s]", re.IGNORECASE)
_MOVING = frozenset(("animate", "animateTransform", "animateMotion", "animateColor", "set", "discard"))
_LOADING = frozenset(
    ("image", "feImage", "use", "tref", "mpath", "linearGradient", "radialGradient", "pattern", "filter")
)


class Drawn(NamedTuple):
    """A PNG, its scale against the size that the file asks for (1 or more: nothing is lost), and what is not in it."""

    png: bytes
    scale: float
    left_out: tuple[str, ...]


def draw(data: bytes, max_pixels: int) -> Drawn:
    """Draw an SVG file; `Unreadable` where it is malformed or resvg is not installed."""
    try:
        import resvg_py
    except ImportError:
        raise Unreadable("drawing an SVG needs the extra: pip install 'turnguard[images]'") from None
    root, left_out = _bare(data, 0)
    size = _size(root)
    scale = max(1.0, _LEAST / max(size))
    scale = min(scale, (min(max_pixels, _MOST) / (size[0] * size[1] * scale * scale)) ** 0.5 * scale)
    if root.get("viewBox") is None:
        root.set("viewBox", f"0 0 {size[0]} {size[1]}")
    for name, length in zip(("width", "height"), size, strict=True):
        root.set(name, str(max(1, int(length * scale))))
    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=_text(root)))
    except Exception as error:  # noqa: BLE001 - whatever a renderer makes of a hostile file
        raise Unreadable(f"cannot be drawn ({type(error).__name__})") from None
    if b"<?xml-stylesheet" in data:
        left_out.add("a style sheet from outside the file")
    return Drawn(png, round(scale, 2), tuple(sorted(left_out)))


def _text(root: Element) -> str:
    from xml.etree import ElementTree as ET

    return ET.tostring(root, encoding="unicode")


def _bare(data: bytes, depth: int) -> tuple[Element, set[str]]:
    """The document without what reaches outside it, and what that was."""
    from xml.etree import ElementTree as ET

    try:
        root = ET.fromstring(data)  # noqa: S314 - in a child with bounds; expat loads no external entity
    except (ET.ParseError, ValueError, LookupError):
        raise Unreadable("a malformed SVG") from None
    left_out: set[str] = set()
    for element in root.iter():
        name = _local(element.tag)
        if name == "script" or any(_local(key).lower().startswith("on") for key in element.attrib):
            left_out.add("a script, which is not run here")
        elif name in _MOVING:
            left_out.add("an animation, of which the beginning is drawn")
        styled = " ".join((element.get("style") or "", (element.text or "") if name == "style" else ""))
        if _OUTSIDE.search(styled):
            left_out.add("a style sheet or picture from outside the file")
        for key in [key for key in element.attrib if _local(key) in ("href", "src")]:
            _inside(element, key, name, left_out, depth)
    return root, left_out


def _inside(element: Element, key: str, name: str, left_out: set[str], depth: int) -> None:
    """Keep a reference into the file; take away one that leads outside."""
    target = element.attrib[key].strip()
    if target.startswith("#"):
        return
    if target[:5].lower() == "data:" and name in ("image", "feImage"):
        try:
            media_type, inner = read_data_uri(target)
            if "svg" in media_type or inner.lstrip()[:1] == b"<":
                if depth >= _DEPTH:
                    raise Unreadable("too deep")
                drawing, more = _bare(inner, depth + 1)
                left_out |= more
                inner = _text(drawing).encode()
                element.set(key, f"data:image/svg+xml;base64,{base64.b64encode(inner).decode('ascii')}")
        except Unreadable:
            left_out.add("a picture inside that cannot be read")
            del element.attrib[key]
        return
    del element.attrib[key]
    if name in _LOADING:
        left_out.add("a picture from outside the file")


def _local(tag: object) -> str:
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _size(root: Element) -> tuple[float, float]:
    """Width and height in pixels: as asked for, else by the view box, else what browsers take."""
    box = [float(number) for number in re.findall(r"-?[0-9.]{1,12}(?:e-?[0-9]{1,2})?", root.get("viewBox") or "")[:4]
           if number.strip("-.")]  # fmt: skip
    from_box = (box[2], box[3]) if len(box) == 4 and box[2] > 0 and box[3] > 0 else None
    asked = tuple(_length(root.get(name)) for name in ("width", "height"))
    wide, high = asked
    if wide and high:
        return wide, high
    if from_box:
        if wide or high:
            ratio = from_box[0] / from_box[1]
            return (wide, wide / ratio) if wide else ((high or 1.0) * ratio, high or 1.0)
        return from_box
    return wide or 300.0, high or 150.0


def _length(value: str | None) -> float | None:
    match = _LENGTH.fullmatch(value or "")
    if match is None or not match[1] or match[2].lower() not in _UNITS:
        return None
    try:
        length = float(match[1]) * _UNITS[match[2].lower()]
    except ValueError:
        return None
    return length if 0 < length < 1e9 else None
