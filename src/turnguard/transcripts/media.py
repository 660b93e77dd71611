"""How each dialect writes a picture, file or recording into a block: read one, write one back.

Pure and framework-free: plain dicts by their keys. The dialects: OpenAI chat and Responses, Anthropic, Gemini, Bedrock,
LangChain v0 and v1, MCP (raw and through adapters), A2A, Vercel's AI SDK, Haystack, Cohere, Mistral, transformers.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from turnguard.core.step import Document, Image, Kind, Opaque, Part
from turnguard.transcripts.fields import DATA_KEYS, ID_KEYS, INLINE, MIME_KEYS, RECORDED, URL_KEYS

KIND_OF_TYPE: dict[str, Kind] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "output_image": "image",
    "computer_screenshot": "image",
    "image_generation_call": "image",
    "file": "document",
    "input_file": "document",
    "document": "document",
    "document_url": "document",
    "text-plain": "document",
    "resource": "document",
    "audio": "audio",
    "input_audio": "audio",
    "output_audio": "audio",
    "audio_url": "audio",
    "video": "video",
    "input_video": "video",
    "video_url": "video",
    "media": "other",
}
_NAME_KEYS = ("filename", "name", "title", "display_name", "displayName")
_IMAGE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM", b"\0\0\1\0")


class Found(NamedTuple):
    """A part, and the keys of the block that it accounts for."""

    part: Part
    keys: tuple[str, ...]


def from_bytes(data: bytes) -> Image | Document:
    """Bare bytes: the media wing tells by their content what they are, whichever of the two this says."""
    return Image(data) if data.startswith(_IMAGE_MAGIC) or data[4:8] == b"ftyp" else Document(data)


def is_picture(value: object) -> bool:
    """True for a Pillow image, without importing Pillow."""
    return hasattr(value, "getbands") and hasattr(value, "tobytes")


def media(block: Mapping[str, Any]) -> Found | None:
    """The picture, file or recording that a block holds; None where it holds none."""
    kind = KIND_OF_TYPE.get(str(block.get("type")))
    if "image_url" in block or kind == "image":
        url = block.get("image_url")
        if isinstance(url, Mapping):
            url = url.get("url")
        if url is not None:
            return Found(_at_address("image", None, url), ("image_url",))
    for key in INLINE:
        if isinstance(inline := block.get(key), Mapping):
            return Found(_carried("other", inline), (key,))
    for key in RECORDED:
        if block.get(key) is not None:
            name: Kind = "video" if "video" in key else "audio"
            return Found(Opaque(name, f"{name} is not judged"), (key,))
    if block.get("document_url") is not None:  # Mistral
        url = block["document_url"]
        url = url.get("url") if isinstance(url, Mapping) else url
        return Found(_at_address("document", None, url, _name(block)), ("document_url",))
    for key in ("image", "document", "file"):
        inner = block.get(key)
        if isinstance(inner, Mapping) and _is_prose(inner):
            continue
        if isinstance(inner, Mapping):
            return _wrapped("image" if key == "image" else "document", key, inner)
        if key == "image" and inner is not None:
            return Found(_value("image", None, inner), (key,))
    source = block.get("source")
    if isinstance(source, Mapping) and kind is not None:
        return _sourced(kind, block, source)
    if kind is not None or "blob" in block or block.get("source_type") in ("base64", "url", "id"):
        return _flat(kind or "document", block)
    return None


def carries_media(value: Mapping[str, Any]) -> bool:
    """Whether a mapping inside JSON-like data is a media block with its data in it, and not a mere mention of one."""
    if any(isinstance(value.get(key), Mapping) for key in INLINE):
        return True
    holders = [value, *(value[key] for key in ("source", "image_url", "file") if isinstance(value.get(key), Mapping))]
    if str(value.get("type")) not in KIND_OF_TYPE:
        return False
    carried = [holder.get(key) for holder in holders for key in (*DATA_KEYS, "url")]
    return any(isinstance(item, bytes) or (isinstance(item, str) and len(item) > 100) for item in carried)


def _wrapped(kind: Kind, key: str, inner: Mapping[str, Any]) -> Found | None:
    """Read the wrappers of Bedrock, `{"image": {"format", "source": {...}}}`, and of OpenAI chat, `{"file": {...}}`."""
    source = inner.get("source")
    if not isinstance(source, Mapping):
        return Found(_carried(kind, inner), (key,))
    if "bytes" in source:
        form = inner.get("format")
        media_type = f"image/{form}" if kind == "image" else "application/pdf" if form == "pdf" else None
        return Found(_value(kind, media_type, source["bytes"], _name(inner)), (key,))
    if "text" in source or "content" in source:
        return None  # plain text inside a document: the caller reads on
    return Found(_carried(kind, source), (key,))


def _is_prose(inner: Mapping[str, Any]) -> bool:
    """Whether `data` is a document's text and not its bytes: Cohere's documents declare no media type."""
    data = inner.get("data")
    if isinstance(data, Mapping):
        return True
    declared = any(key in inner for key in (*MIME_KEYS, "source_type", "format"))
    return isinstance(data, str) and not declared and data[:5].lower() != "data:"


def _sourced(kind: Kind, block: Mapping[str, Any], source: Mapping[str, Any]) -> Found | None:
    """Anthropic: `{"type": "image", "source": {"type": "base64" | "url" | "file" | "text" | "content", ...}}`."""
    if source.get("type") in ("text", "content") or ("text" in source and "data" not in source):
        return None
    return Found(_carried(kind, source, _name(block)), ("source",))


def _flat(kind: Kind, block: Mapping[str, Any]) -> Found | None:
    """LangChain v0 and v1, MCP, Google's `media`, OpenAI's `input_file`: the data stands in the block itself."""
    if block.get("type") in ("text-plain", "resource", "document") and not any(
        block.get(key) for key in (*DATA_KEYS, "url", "file_id")
    ):
        return None
    if block.get("source_type") == "text":
        return None
    # not `id`, which is the block's own, nor the address that is an MCP resource's name
    own = {"id", "uri"} if block.get("blob") else {"id"}
    keys = tuple(key for key in (*DATA_KEYS, *URL_KEYS, *ID_KEYS) if key in block and key not in own)
    return Found(_carried(kind, block, _name(block)), keys)


def _carried(kind: Kind, holder: Mapping[str, Any], name: str | None = None) -> Part:
    """What a mapping carries: data, else an address, else an id."""
    media_type = next((holder[key] for key in MIME_KEYS if isinstance(holder.get(key), str)), None)
    name = name or _name(holder)
    for given in (_holds, _is_given):  # an empty field hides no other one
        for key in DATA_KEYS:
            if given(holder.get(key)):
                return _value(kind, media_type, holder[key], name)
        for key in URL_KEYS:
            if given(holder.get(key)):
                return _at_address(_kind(kind, media_type), media_type, holder[key], name)
    kind = _kind(kind, media_type)
    if kind in ("audio", "video"):
        return Opaque(kind, f"{kind} is not judged")
    if any(holder.get(key) is not None for key in ID_KEYS):
        return Opaque(kind, "file id")
    return Opaque(kind, f"a block of kind {kind} that holds neither data nor an address")


def _holds(value: Any) -> bool:
    return value is not None and not (isinstance(value, (str, bytes)) and not value)


def _is_given(value: Any) -> bool:
    return value is not None


def _value(kind: Kind, media_type: str | None, value: Any, name: str | None = None) -> Part:
    """Data: bytes, base64, a `data:` URI, a Pillow image or a path."""
    if isinstance(value, str) and value.lstrip()[:8].lower().startswith(("data:", "http:", "https:", "file:")):
        return _at_address(kind, media_type, value, name)
    kind = _kind(kind, media_type)
    if kind in ("audio", "video"):
        return Opaque(kind, f"{kind} is not judged")
    if isinstance(value, (bytearray, memoryview)):
        value = bytes(value)
    if isinstance(value, str):
        value = f"data:{media_type or 'application/octet-stream'};base64,{value}"
    if is_picture(value) or (kind == "image" and isinstance(value, (str, bytes, os.PathLike))):
        return Image(value, media_type)
    if isinstance(value, (str, bytes, os.PathLike)):
        return Document(value, media_type, name)
    return Opaque(kind, f"data of type {type(value).__name__}")


def _at_address(kind: Kind, media_type: str | None, url: Any, name: str | None = None) -> Part:
    if isinstance(url, (bytes, bytearray)) or is_picture(url):
        return _value(kind, media_type, url, name)
    if not isinstance(url, str):
        return Opaque(kind, "an address that is no text")
    url = url.strip()
    scheme = url[:8].lower()
    if scheme.startswith("data:"):
        declared = url[5:100].partition(",")[0].partition(";")[0].strip().lower()
        kind = _kind(kind, declared or media_type)
        if kind in ("audio", "video"):
            return Opaque(kind, f"{kind} is not judged")
        return Image(url, media_type) if kind == "image" else Document(url, media_type or declared or None, name)
    if kind in ("audio", "video"):
        return Opaque(kind, f"{kind} is not judged")
    if scheme.startswith(("http://", "https://")):
        return Image(url, media_type) if kind == "image" else Opaque(kind, "a document's address is not fetched")
    return Opaque(kind, "an address that is neither data: nor http(s):")


def _kind(kind: Kind, media_type: str | None) -> Kind:
    """A declared image, audio or video type wins over the block's word; what is left is a document."""
    family = (media_type or "").partition("/")[0].lower()
    if family in get_args(Kind) and family != "text":
        return family  # type: ignore[return-value] # just checked
    return "document" if kind == "other" or (kind == "image" and family in ("application", "text")) else kind


def _name(holder: Mapping[str, Any]) -> str | None:
    return next((holder[key] for key in _NAME_KEYS if isinstance(holder.get(key), str) and holder[key]), None)


def pinned(block: Mapping[str, Any], part: Image | Document) -> dict[str, Any]:
    """The block with its address replaced by `part`'s own data, in the same dialect."""
    media_type, encoded = _payload(part)
    uri = f"data:{media_type};base64,{encoded}"
    out = dict(block)
    if "image_url" in out:
        out.pop("file_id", None)
        out["image_url"] = {**out["image_url"], "url": uri} if isinstance(out["image_url"], Mapping) else uri
        return out
    for key in INLINE:
        if isinstance(out.get(key), Mapping):
            camel = key in ("inlineData", "fileData")
            del out[key]
            value = {"mimeType" if camel else "mime_type": media_type, "data": encoded}
            return {**out, "inlineData" if camel else "inline_data": value}
    for key in ("image", "document", "file"):
        inner = out.get(key)
        if isinstance(inner, Mapping) and "source" in inner:
            source: Any = {"bytes": base64.b64decode(encoded)}
            return {**out, key: {**inner, "format": media_type.partition("/")[2], "source": source}}
        if isinstance(inner, Mapping):
            kept = {k: v for k, v in inner.items() if k not in ("file_id", "uri")}
            own = next(
                (k for k in ("bytes", "base64_image", "base64_data") if k in inner), "bytes" if "uri" in inner else ""
            )
            return {**out, key: {**kept, **({own: encoded} if own else {"file_data": uri})}}
        if inner is not None:
            return {**out, key: uri}
    if isinstance(out.get("source"), Mapping):
        return {**out, "source": {"type": "base64", "media_type": media_type, "data": encoded}}
    for key in (*URL_KEYS, *DATA_KEYS, "file_id"):
        out.pop(key, None)
    if out.get("type") == "input_file":
        return {**out, "file_data": uri}
    if "source_type" in out:
        return {**out, "source_type": "base64", "mime_type": media_type, "data": encoded}
    if out.get("type") == "media":
        return {**out, "mime_type": media_type, "data": encoded}
    if "mimeType" in out:
        return {**out, "mimeType": media_type, "data": encoded}
    return {**out, "mime_type": media_type, "base64": encoded}


def _payload(part: Image | Document) -> tuple[str, str]:
    """(media type, base64) of a part whose source is a `data:` URI in base64 or bytes."""
    source = part.source
    if isinstance(source, str) and source[:5].lower() == "data:":
        head, _, payload = source.partition(",")
        return head[5:].partition(";")[0] or part.media_type or "application/octet-stream", payload
    if isinstance(source, bytes):
        return part.media_type or "application/octet-stream", base64.b64encode(source).decode("ascii")
    raise TypeError("a part that stands in place of another one holds a data: URI or bytes")
