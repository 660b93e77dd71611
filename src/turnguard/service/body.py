"""Bodies: strict JSON or a form with files, validated by pydantic. What is unknown, doubled or no JSON is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from turnguard.service.errors import Refusal, told
from turnguard.service.state import service_of

MOST_FILES = 64
MOST_FIELDS = 32


class Body(BaseModel):
    """A body: an unknown field is an error, and no error shows a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


M = TypeVar("M", bound=BaseModel)
AsPart = Callable[[bytes, UploadFile], Any]
"""A file of a form → what stands for it in the body."""


def read(request: Request, model: type[M]) -> M:
    """The JSON body."""
    if not is_kind(request, "application/json"):
        # a browser sends a form or plain text to any site without asking it first, but never JSON
        raise Refusal(415, "the body must be application/json")
    return validated(model, parse(request.state.body))


async def read_form(request: Request, model: type[M], *, files: Mapping[str, AsPart], nested: frozenset[str]) -> M:
    """The body as a form. The fields in `files` may come several times, each as a file or as text, and those in
    `nested` hold JSON.
    """
    return validated(model, await _form(request, files, nested))


def is_kind(request: Request, kind: str) -> bool:
    """Whether the body is of this media type."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == kind


def validated(model: type[M], data: Any) -> M:
    """The model, or 422 with a sentence."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise Refusal(
            422,
            told(error.errors(include_url=False, include_context=False, include_input=False)),
        ) from None


def parse(text: bytes) -> Any:
    """Strict JSON: UTF-8, no key twice, no NaN. Readers differ in what they make of those."""
    try:
        return _STRICT.decode(text.decode())
    except UnicodeDecodeError:
        raise Refusal(400, "the body is not UTF-8") from None
    except RecursionError:
        raise Refusal(400, "the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Refusal(400, f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refusal(400, "the body is not JSON that every reader reads alike: a key stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise Refusal(400, f"the body is not JSON: {name} is no number")


_STRICT = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)


class _InMemory(MultiPartParser):
    """A form whose files never touch the disk: the whole body is in memory and bounded already."""

    def __init__(self, request: Request, limit: int) -> None:
        self.spool_max_size = limit + 1
        super().__init__(
            request.headers, request.stream(), max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=limit
        )


async def _form(request: Request, files: Mapping[str, AsPart], nested: frozenset[str]) -> dict[str, Any]:
    try:
        form = await _InMemory(request, service_of(request).settings.limits.body).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refusal(400, f"the form cannot be read: {getattr(error, 'message', type(error).__name__)}") from None
    data: dict[str, Any] = {}
    try:
        for name, value in form.multi_items():
            if name in files:
                item = value if isinstance(value, str) else files[name](await value.read(), value)
                data.setdefault(name, []).append(item)
            elif not isinstance(value, str):
                raise Refusal(422, f"{name}: a file cannot stand here")
            elif name in data:
                raise Refusal(422, f"{name}: the field stands twice")
            else:
                data[name] = parse(value.encode()) if name in nested else value
    finally:
        await form.close()
    return data


def described(model: type[BaseModel], *, form: bool = False) -> dict[str, Any]:
    """The request body for the OpenAPI page."""
    content: dict[str, Any] = {"application/json": {"schema": model.model_json_schema()}}
    if form:
        content["multipart/form-data"] = {"schema": {"type": "object", "description": "The same fields, with files."}}
    return {"requestBody": {"required": True, "content": content}}
