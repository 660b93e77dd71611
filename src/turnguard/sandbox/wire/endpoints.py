"""Authorisation and the paths besides chat: models, health, metrics."""

from __future__ import annotations

import hmac
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turnguard.core.families import DEFAULT, FAMILIES
from turnguard.sandbox.wire import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

CHAT_PATH = "/v1/chat/completions"
_GUARDED = ("/v1", "/v2", "/inference")


@dataclass(slots=True)
class ServerInfo:
    """What a server says about itself. `image_limit` is `--limit-mm-per-prompt`; `max_model_len` is in tokens."""

    model: str = "nemotron_moderator"
    root: str = "nvidia/Nemotron-3-Content-Safety"
    max_model_len: int = 4096
    image_limit: int = 1
    api_key: str | None = None
    version: str = "0.32.0"
    fingerprint: str = "vllm-0.32.0-4316c265"
    started: int = field(default_factory=lambda: int(time.time()))
    family: str = DEFAULT

    @classmethod
    def of(cls, family: str, *, image_limit: int | None, **rest: Any) -> ServerInfo:
        """One that serves this family; it takes as many pictures as the makers' recipe, unless told otherwise."""
        if family not in FAMILIES:
            raise ValueError(f"no such family: {family!r}; there are: {', '.join(FAMILIES)}")
        limit = FAMILIES[family].pictures if image_limit is None else image_limit
        return cls(image_limit=limit, family=family, **rest)


@dataclass(slots=True)
class Counters:
    """What `/metrics` counts. `finished` is by finish reason."""

    running: int = 0
    waiting: int = 0
    finished: dict[str, int] = field(default_factory=dict)

    def finish(self, reason: str) -> None:
        """Count one request that was answered."""
        self.finished[reason] = self.finished.get(reason, 0) + 1


def authorise(info: ServerInfo, path: str, headers: Mapping[str, str]) -> None:
    """Raise 401 unless the path is open or the key is right. vLLM guards `/v1`, `/v2` and `/inference` only."""
    if info.api_key is None or not path.startswith(_GUARDED):
        return
    given = headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {info.api_key}".encode()):
        raise errors.unauthorized()


def route(info: ServerInfo, counters: Counters, method: str, path: str) -> tuple[str, bytes]:
    """Answer any path but the chat's: (content type, body) with status 200, or raise."""
    if path == CHAT_PATH:
        raise errors.method_not_allowed("POST")
    if path not in {"/v1/models", "/health", "/ping", "/version", "/metrics"}:
        raise errors.not_found()
    if method != "GET" and not (path == "/ping" and method == "POST"):
        raise errors.method_not_allowed("GET")
    if path == "/v1/models":
        return "application/json", _json(models(info))
    if path == "/version":
        return "application/json", _json({"version": info.version})
    if path == "/metrics":
        return "text/plain; version=0.0.4; charset=utf-8", metrics(info, counters).encode()
    return "text/plain", b""


def models(info: ServerInfo) -> dict[str, Any]:
    """The body of `GET /v1/models`."""
    card = {
        "id": info.model,
        "object": "model",
        "created": info.started,
        "owned_by": "vllm",
        "root": info.root,
        "parent": None,
        "max_model_len": info.max_model_len,
        "permission": [],
    }
    return {"object": "list", "data": [card]}


def metrics(info: ServerInfo, counters: Counters) -> str:
    """Return the Prometheus series that routers read."""
    name = f'model_name="{info.model}"'
    lines = []
    for gauge, value in (("running", counters.running), ("waiting", counters.waiting)):
        lines += [f"# TYPE vllm:num_requests_{gauge} gauge", f"vllm:num_requests_{gauge}{{{name}}} {float(value)}"]
    lines.append("# TYPE vllm:request_success_total counter")
    for reason in sorted({"stop", "length", "abort", *counters.finished}):
        count = float(counters.finished.get(reason, 0))
        lines.append(f'vllm:request_success_total{{finished_reason="{reason}",{name}}} {count}')
    return "\n".join(lines) + "\n"


def _json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
