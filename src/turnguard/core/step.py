"""What is judged: a step of an agent's turn, made of parts. Plain data, checked when it is made, no I/O.

`repr()` of a part never shows content, so that a traceback or a debugger's log line cannot leak it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Union, get_args

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Stage = Literal["input", "retrieval", "tool_call", "tool_result", "output"]
"""Where in the turn a step stands."""
STAGES: tuple[Stage, ...] = get_args(Stage)

Kind = Literal["text", "image", "document", "audio", "video", "other"]
"""What a part is, as `on_uncheckable` names it."""
KINDS: tuple[Kind, ...] = get_args(Kind)

ImageSource = Union[bytes, "os.PathLike[str]", "PillowImage", str]
"""Bytes of an image file, a path, a Pillow image, or a string that is a `data:` URI or an http(s) URL."""
DocumentSource = Union[bytes, "os.PathLike[str]", str]
"""Bytes of a document file, a path, or a `data:` URI."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text."""

    text: str = field(repr=False)
    kind: Kind = field(default="text", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class Image:
    """A picture, not yet read. A plain string is never opened as a file."""

    source: ImageSource = field(repr=False)
    media_type: str | None = None
    kind: Kind = field(default="image", init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.source, str):
            _refuse_plain_string(self.source, "an image", ("data:", "http://", "https://"))


@dataclass(frozen=True, slots=True)
class Document:
    """A document (a PDF), not yet read. `name` is a file name where one is known; it is judged with the text."""

    source: DocumentSource = field(repr=False)
    media_type: str | None = None
    name: str | None = field(default=None, repr=False)
    kind: Kind = field(default="document", init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.source, str):
            _refuse_plain_string(self.source, "a document", ("data:",))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A proposed call: the tool's name and its arguments as JSON-like data. `id` is the framework's own."""

    name: str = field(repr=False)  # a model wrote it
    arguments: Mapping[str, Any] | str = field(repr=False)
    id: str | None = None
    kind: Kind = field(default="text", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class Opaque:
    """A part that arrived in a form that cannot be judged: `kind` and `cause` say what and why. Never skipped in
    silence.
    """

    kind: Kind
    cause: str
    original: Any = field(default=None, repr=False, compare=False)


Part = Text | Image | Document | ToolCall | Opaque


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to judge: a stage, its parts, and the user request that it answers.

    Use the constructors (`Step.input`, `Step.output`, ...). `prompt` and `prompt_images` are the person's request, sent
    as context where the stage is judged against it. `history` holds earlier user turns that are judged together with an
    input. `language` is an ISO 639-1 code where it is known; else it is guessed from the person's own text.
    """

    stage: Stage
    parts: tuple[Part, ...]
    prompt: str | None = field(default=None, repr=False)
    prompt_images: tuple[Image, ...] = field(default=(), repr=False)
    language: str | None = None
    tool: str | None = field(default=None, repr=False)
    history: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"unknown stage {self.stage!r}: one of {', '.join(STAGES)}")
        if not any(_holds_something(part) for part in self.parts):
            raise ValueError(f"nothing to judge: the {self.stage} step holds neither text, image nor document")

    @classmethod
    def input(
        cls,
        text: str = "",
        images: Sequence[ImageSource] = (),
        documents: Sequence[DocumentSource] = (),
        *,
        history: Sequence[str] = (),
        language: str | None = None,
    ) -> Step:
        """What a person sends. `history`: their earlier turns, oldest first, judged together with this one."""
        parts = _parts(text, images, documents)
        return cls("input", parts, language=language, history=tuple(history))

    @classmethod
    def retrieval(cls, chunks: Sequence[str], *, prompt: str | None = None, language: str | None = None) -> Step:
        """Documents found for a request: one part per chunk, each judged and dropped on its own."""
        if isinstance(chunks, str):
            chunks = [chunks]
        return cls("retrieval", tuple(Text(_text(chunk)) for chunk in chunks), prompt=prompt, language=language)

    @classmethod
    def tool_call(
        cls,
        name: str,
        args: Mapping[str, Any] | str,
        *,
        prompt: str | None = None,
        prompt_images: Sequence[ImageSource] = (),
        id: str | None = None,  # noqa: A002 - the frameworks' own word
        language: str | None = None,
    ) -> Step:
        """A call that the model proposes, judged against the request before it runs."""
        return cls(
            "tool_call",
            (ToolCall(name, args, id),),
            prompt=prompt,
            prompt_images=_images(prompt_images),
            language=language,
            tool=name,
        )

    @classmethod
    def tool_result(
        cls,
        name: str,
        text: str = "",
        images: Sequence[ImageSource] = (),
        documents: Sequence[DocumentSource] = (),
        *,
        prompt: str | None = None,
        language: str | None = None,
    ) -> Step:
        """What a tool gave back, before the agent reads it."""
        return cls("tool_result", _parts(text, images, documents), prompt=prompt, language=language, tool=name)

    @classmethod
    def output(
        cls,
        text: str = "",
        images: Sequence[ImageSource] = (),
        *,
        prompt: str | None = None,
        prompt_images: Sequence[ImageSource] = (),
        language: str | None = None,
    ) -> Step:
        """What the assistant says, judged with the request that it answers."""
        parts = _parts(text, images, ())
        return cls("output", parts, prompt=prompt, prompt_images=_images(prompt_images), language=language)


def _holds_something(part: Part) -> bool:
    return bool(part.text.strip()) if isinstance(part, Text) else True


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text must be a str, not {type(value).__name__}")
    return value


def _images(sources: Sequence[ImageSource]) -> tuple[Image, ...]:
    return tuple(source if isinstance(source, Image) else Image(_source(source, "images")) for source in sources)


def _parts(text: str, images: Sequence[ImageSource], documents: Sequence[DocumentSource]) -> tuple[Part, ...]:
    parts: list[Part] = [Text(_text(text))] if text else []
    parts += _images(images)
    parts += [doc if isinstance(doc, Document) else Document(_source(doc, "documents")) for doc in documents]
    return tuple(parts)


def _source(source: Any, where: str) -> Any:
    if isinstance(source, (bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (bytes, str, os.PathLike)) or (where == "images" and hasattr(source, "getbands")):
        return source
    raise TypeError(f"{where} take bytes, a path, a data: URI or a picture, not {type(source).__name__}")


def _refuse_plain_string(source: str, what: str, schemes: tuple[str, ...]) -> None:
    if not source[:8].lower().startswith(schemes):
        raise ValueError(
            f"{what} given as a string must be one of: {', '.join(schemes)}; a plain string is never opened as a file: "
            "pass a pathlib.Path or bytes"
        )
