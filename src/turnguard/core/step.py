"""What is judged: a step of an agent's turn, made of parts. Plain data, checked when it is made, no I/O.

`repr()` of a part never shows content, so that a traceback or a debugger's log line cannot leak it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Union, get_args

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Stage = Literal["input", "retrieval", "tool_call", "tool_result", "output", "tools"]
"""Where in the turn a step stands."""
STAGES: tuple[Stage, ...] = get_args(Stage)

Kind = Literal["text", "image", "document", "audio", "video", "encrypted", "other"]
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
    """A document, not yet read. `name` is a file name where one is known; it is judged with the text.

    `password` opens an encrypted PDF. It is never judged, recorded or shown.
    """

    source: DocumentSource = field(repr=False)
    media_type: str | None = None
    name: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
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
class ToolDefinition:
    """A tool as offered to the agent's model: name, description and argument schema, in any provider's form."""

    definition: Mapping[str, Any] = field(repr=False)
    kind: Kind = field(default="text", init=False, repr=False)


@dataclass(frozen=True, slots=True)
class Opaque:
    """A part that arrived in a form that cannot be judged: `kind` and `cause` say what and why. Never skipped in
    silence.
    """

    kind: Kind
    cause: str
    original: Any = field(default=None, repr=False, compare=False)


Part = Text | Image | Document | ToolCall | ToolDefinition | Opaque


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to judge: a stage, its parts, and the user request that it answers.

    Use the constructors (`Step.input`, `Step.output`, ...). `prompt` and `prompt_images` are the person's request, sent
    as context where the stage is judged against it. `history` holds earlier user turns that are judged together with an
    input. `language` is a language tag such as "de" or "pt-BR" where it is known; else it is guessed from the person's
    own text. `metadata` says whom the step belongs to, such as {"user": ..., "thread": ..., "request": ..., "tenant":
    ...}: at most 16 short strings, for records only. The moderator never sees them.
    """

    stage: Stage
    parts: tuple[Part, ...]
    prompt: str | None = field(default=None, repr=False)
    prompt_images: tuple[Image, ...] = field(default=(), repr=False)
    language: str | None = None
    tool: str | None = field(default=None, repr=False)
    history: tuple[str, ...] = field(default=(), repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"unknown stage {self.stage!r}: one of {', '.join(STAGES)}")
        if self.language is not None:
            _check_language(self.language)
        if self.metadata:
            object.__setattr__(self, "metadata", _metadata(self.metadata))
        if not any(_holds_something(part) for part in self.parts):
            raise ValueError(f"nothing to judge: the {self.stage} step holds neither text, image nor document")

    @classmethod
    def input(
        cls,
        text: str = "",
        images: Sequence[ImageSource | Image] = (),
        documents: Sequence[DocumentSource | Document] = (),
        *,
        history: Sequence[str] = (),
        language: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Step:
        """What a person sends. `history`: their earlier turns, oldest first, judged together with this one."""
        parts = _parts(text, images, documents)
        return cls("input", parts, language=language, history=tuple(history), metadata=metadata or {})

    @classmethod
    def retrieval(
        cls,
        chunks: Sequence[str],
        *,
        prompt: str | None = None,
        language: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Step:
        """Documents found for a request: one part per chunk, each judged and dropped on its own."""
        if isinstance(chunks, str):
            chunks = [chunks]
        parts = tuple(Text(_text(chunk)) for chunk in chunks)
        return cls("retrieval", parts, prompt=prompt, language=language, metadata=metadata or {})

    @classmethod
    def tools(
        cls,
        definitions: Sequence[Mapping[str, Any]],
        *,
        language: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Step:
        """The tools that an agent's model is offered: one part per definition (name, description, JSON schema), in any
        provider's form. Each is judged on its own.
        """
        if isinstance(definitions, Mapping):
            definitions = [definitions]
        for definition in definitions:
            if not isinstance(definition, Mapping):
                raise TypeError(f"a tool's definition is a mapping, not {type(definition).__name__}")
        parts = tuple(map(ToolDefinition, definitions))
        return cls("tools", parts, language=language, metadata=metadata or {})

    @classmethod
    def tool_call(
        cls,
        name: str,
        args: Mapping[str, Any] | str,
        *,
        prompt: str | None = None,
        prompt_images: Sequence[ImageSource | Image] = (),
        id: str | None = None,  # noqa: A002 - the frameworks' own word
        language: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Step:
        """A call that the model proposes, judged against the request before it runs."""
        return cls(
            "tool_call",
            (ToolCall(name, args, id),),
            prompt=prompt,
            prompt_images=_images(prompt_images),
            language=language,
            tool=name,
            metadata=metadata or {},
        )

    @classmethod
    def tool_result(
        cls,
        name: str,
        text: str = "",
        images: Sequence[ImageSource | Image] = (),
        documents: Sequence[DocumentSource | Document] = (),
        *,
        prompt: str | None = None,
        language: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Step:
        """A step for a tool's result, judged before the agent reads it."""
        parts = _parts(text, images, documents)
        return cls("tool_result", parts, prompt=prompt, language=language, tool=name, metadata=metadata or {})

    @classmethod
    def output(
        cls,
        text: str = "",
        images: Sequence[ImageSource | Image] = (),
        *,
        prompt: str | None = None,
        prompt_images: Sequence[ImageSource | Image] = (),
        language: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Step:
        """What the assistant says, judged with the request that it answers."""
        parts = _parts(text, images, ())
        return cls(
            "output",
            parts,
            prompt=prompt,
            prompt_images=_images(prompt_images),
            language=language,
            metadata=metadata or {},
        )


def _holds_something(part: Part) -> bool:
    return bool(part.text.strip()) if isinstance(part, Text) else True


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text must be a str, not {type(value).__name__}")
    return value


_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8}){0,6}")
_METADATA_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,31}")
_MOST_METADATA = 16
_LONGEST_METADATA = 200


def _check_language(language: object) -> None:
    if not isinstance(language, str):
        raise TypeError(f"language must be a language tag such as 'de', not {type(language).__name__}")
    if not _LANGUAGE.fullmatch(language):
        raise ValueError("language must be a language tag such as 'de' or 'pt-BR'")


def _metadata(metadata: object) -> dict[str, str]:
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping of names to short strings, not {type(metadata).__name__}")
    if len(metadata) > _MOST_METADATA:
        raise ValueError(f"metadata takes at most {_MOST_METADATA} entries")
    for key, value in metadata.items():
        if not isinstance(key, str) or not _METADATA_KEY.fullmatch(key):
            raise ValueError("a name in metadata must be a short identifier, such as 'user', 'thread' or 'tenant'")
        if not isinstance(value, str):
            raise TypeError(f"metadata[{key!r}] must be a str, not {type(value).__name__}")
        if len(value) > _LONGEST_METADATA or not value.isprintable():
            raise ValueError(f"metadata[{key!r}] must be one line of at most {_LONGEST_METADATA} characters")
    return dict(metadata)


def _images(sources: Sequence[ImageSource | Image]) -> tuple[Image, ...]:
    return tuple(source if isinstance(source, Image) else Image(_source(source, "images")) for source in sources)


def _parts(
    text: str, images: Sequence[ImageSource | Image], documents: Sequence[DocumentSource | Document]
) -> tuple[Part, ...]:
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
