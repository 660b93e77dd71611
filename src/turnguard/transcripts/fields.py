"""What a block holds beside the one carrier that is judged: further carriers, and text in wrappers.

Pure and framework-free. Whoever writes a block may fill every field of it, and a provider may read another one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from turnguard.transcripts.names import SEALS, wordless

MIME_KEYS = ("mime_type", "mimeType", "media_type", "mediaType")
DATA_KEYS = ("base64", "data", "blob", "result", "b64_json", "file_data", "bytes", "base64_image", "base64_data")
URL_KEYS = ("url", "file_url", "file_uri", "fileUri", "uri")
ID_KEYS = ("file_id", "fileId", "id", "file", "s3Location", "s3_location")
INLINE = ("inline_data", "inlineData", "file_data", "fileData")
RECORDED = ("audio", "input_audio", "audio_url", "video", "input_video", "video_url")
CARRIERS = {*DATA_KEYS, *URL_KEYS, *ID_KEYS, *INLINE, *RECORDED, "image_url", "document_url", "image"} - {"id"}
"""Fields whose value is data, an address or an id of a file, or a mapping that wraps one."""
WRAPPERS = {*CARRIERS, "source", "document"}
_DEPTH = 3
"""How far wrappers are followed: no dialect nests more than two."""

_TOKEN = re.compile(r"[\w.:/+\-]{0,128}")
_SEAL = re.compile(r"[A-Za-z0-9+/_\-]*={0,2}")
_PLAIN_KEY = re.compile(r"[\w.:/$@\-]{1,64}")


def is_switch(key: str, value: Any) -> bool:
    """Whether a value is a token, a number or a seal, and no prose."""
    if value is None or isinstance(value, (bool, int, float)):
        return True
    if isinstance(value, str):
        return _TOKEN.fullmatch(value) is not None or (key in SEALS and _SEAL.fullmatch(value) is not None)
    return isinstance(value, bytes) and key in SEALS


def is_plain_key(key: str) -> bool:
    """Whether a key is a name, and not a sentence in a name's place."""
    return _PLAIN_KEY.fullmatch(key) is not None


def holds_no_words(key: str, value: Any) -> bool:
    """Whether the value of a field needs no reading: a number, or a wordless string."""
    if isinstance(value, str):
        return wordless(key, value)
    return value is None or isinstance(value, (bool, int, float)) or (isinstance(value, bytes) and key in SEALS)


def sources(block: Mapping[str, Any]) -> int:
    """How many different carriers a block holds, those in its wrappers included."""
    found: set[Any] = set()
    _collect(block, found, _DEPTH)
    return len(found)


def _collect(holder: Mapping[str, Any], found: set[Any], depth: int) -> None:
    for key, value in holder.items():
        if value is None or isinstance(value, bool) or (isinstance(value, (str, bytes)) and not value):
            continue
        if isinstance(value, Mapping) and key in WRAPPERS:
            if depth:
                _collect(value, found, depth - 1)
            else:
                found.add(id(value))
        elif key in CARRIERS and not (key == "uri" and holder.get("blob")):  # a resource's own name
            found.add(value if isinstance(value, (str, bytes)) else id(value))
        elif key == "source" and isinstance(value, str) and "image" in str(holder.get("type"))[:32]:
            found.add(value)


def rest(block: Mapping[str, Any], keys: Collection[str], name: str | None) -> dict[str, Any]:
    """The block without what its part covers: `keys`, but not what else stands in a wrapper under one of them, and a
    document's `name`. Paths stay as they were.
    """
    out: dict[str, Any] = {}
    for key, value in block.items():
        if key in keys:
            if isinstance(value, Mapping) and (left := _left(value, name, _DEPTH)):
                out[key] = left
            elif isinstance(value, (list, tuple)):
                out[key] = value  # no carrier: whatever stands in it is read
        elif not _is_name(value, name):
            out[key] = value
    return out


def _left(holder: Mapping[str, Any], name: str | None, depth: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in holder.items():
        if key in WRAPPERS and isinstance(value, Mapping):
            left = _left(value, name, depth - 1) if depth else dict(value)
            if left:
                out[key] = left
        elif not (key in CARRIERS or _is_name(value, name)) or isinstance(value, (list, tuple)):
            out[key] = value
    return out


def _is_name(value: Any, name: str | None) -> bool:
    return name is not None and isinstance(value, str) and value == name
