"""A verdict in the model's own grammar, and the envelope that vLLM puts around it: whole, or as a stream of events."""

from __future__ import annotations

import json
import math
import re
import time
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from turnguard.sandbox.wire.request import ChatRequest

Label = Literal["safe", "unsafe"]

END_OF_TURN = 106
"""Gemma 3's id of `<end_of_turn>`, which vLLM reports as `stop_reason`."""

_TOKEN = re.compile(r" ?\w+|[^\w\s]|\s")
_OTHERS: tuple[str, ...] = (
    " Safe",
    " Unsafe",
    " SAFE",
    " UNSAFE",
    "safe",
    "unsafe",
    " harmful",
    " not",
    " un",
    " s",
    " the",
)
_OTHERS += (" a", " is", " no", " yes", " N", " S", " U", " H", "\t", "\n\n")
_CERTAIN = -1e-5
_RESIDUE = 1e-6


@dataclass(frozen=True, slots=True)
class Answer:
    """What stands in the reply. `p_user` and `p_response` are P(unsafe); None means near certainty of the label."""

    user: Label | None
    response: Label | None = None
    categories: tuple[str, ...] = ()
    p_user: float | None = None
    p_response: float | None = None


def render(answer: Answer, *, categories: bool) -> str:
    """The model's output grammar (its model card): labels, then the categories where something is unsafe and they
    were asked for."""
    lines = []
    if answer.user is not None:
        lines.append(f"User Safety: {answer.user}")
    if answer.response is not None:
        lines.append(f"Response Safety: {answer.response}")
    if categories and answer.categories and "unsafe" in {answer.user, answer.response}:
        lines.append("Safety Categories: " + ", ".join(answer.categories))
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Completion:
    """One reply, ready to be sent whole (`body`) or as events (`events`)."""

    request: ChatRequest
    tokens: tuple[tuple[str, float | None], ...]
    content: str | None
    finish_reason: str | None
    stop_reason: int | None
    completion_tokens: int
    id: str
    created: int
    model: str
    fingerprint: str
    logprobs: bool

    def body(self) -> dict[str, Any]:
        """The JSON object of a reply that is not streamed."""
        entries = {"content": [self._entry(token, p) for token, p in self.tokens]} if self.logprobs else None
        message = {
            "role": "assistant",
            "content": self.content,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": None,
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": entries,
            "finish_reason": self.finish_reason,
            "stop_reason": self.stop_reason,
            "token_ids": None,
            "routed_experts": None,
        }
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": self.fingerprint,
            "usage": self.usage(),
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "prompt_text": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def usage(self) -> dict[str, Any]:
        """Token counts; the prompt's is an estimate."""
        return {
            "prompt_tokens": self.request.prompt_tokens,
            "total_tokens": self.request.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        }

    def events(self) -> Iterator[bytes]:
        """Server-sent events: the role, a chunk per token (the last one says the finish), the usage if asked for,
        `[DONE]`. The fingerprint stands in the very last chunk only."""
        yield self._event({"role": "assistant", "content": ""}, prompt_token_ids=None, prompt_text=None)
        for number, (token, p) in enumerate(self.tokens or [("", None)], 1):
            last = number >= len(self.tokens)
            yield self._event(
                {"content": "" if token == "<end_of_turn>" else token},
                logprobs={"content": [self._entry(token, p)]} if self.logprobs and token else None,
                finish=self.finish_reason if last else None,
                stop=self.stop_reason,
                **self._fingerprint(at=last and not self.request.include_usage),
            )
        if self.request.include_usage:
            usage = {name: count for name, count in self.usage().items() if count is not None}
            yield self._data({**self._chunk(), "choices": [], "usage": usage, **self._fingerprint(at=True)})
        yield b"data: [DONE]\n\n"

    def _fingerprint(self, *, at: bool) -> dict[str, Any]:
        return {"system_fingerprint": self.fingerprint} if at else {}

    def _chunk(self) -> dict[str, Any]:
        return {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}

    def _event(
        self,
        delta: dict[str, Any],
        *,
        logprobs: Any = None,
        finish: str | None = None,
        stop: int | None = None,
        **more: Any,
    ) -> bytes:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        if finish is not None:
            choice["stop_reason"] = stop
        if "role" not in delta:
            choice["token_ids"] = None
        return self._data({**self._chunk(), "choices": [choice], **more})

    @staticmethod
    def _data(chunk: dict[str, Any]) -> bytes:
        return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"

    def _entry(self, token: str, p_unsafe: float | None) -> dict[str, Any]:
        return _entry(token, p_unsafe, self.request.top_logprobs)


def complete(
    request: ChatRequest,
    answer: Answer | str | None,
    *,
    fingerprint: str,
    finish_reason: str | None = None,
    with_logprobs: bool = True,
    with_categories: bool = True,
    request_id: str | None = None,
) -> Completion:
    """Answer a request with a verdict, or with any text (None: `content: null`), cut to the request's `max_tokens`."""
    asked = request.categories and with_categories
    content = render(answer, categories=asked) if isinstance(answer, Answer) else answer
    tokens = _tokens(content, answer) if content is not None else []
    cut = request.max_tokens is not None and len(tokens) > request.max_tokens
    if cut:
        tokens = tokens[: request.max_tokens]
        content = "".join(token for token, _ in tokens)
    reason = finish_reason or ("length" if cut else "stop")
    return Completion(
        request=request,
        tokens=tuple(tokens),
        content=content,
        finish_reason=reason,
        stop_reason=END_OF_TURN if reason == "stop" else None,
        completion_tokens=len(tokens),
        id=f"chatcmpl-{request_id or uuid.uuid4().hex[:16]}",
        created=int(time.time()),
        model=request.model,
        fingerprint=fingerprint,
        logprobs=request.logprobs and with_logprobs,
    )


def _tokens(content: str, answer: Answer | str | None) -> list[tuple[str, float | None]]:
    """The content cut as Gemma's tokenizer cuts a verdict (5 tokens for a safe one, as recorded), with P(unsafe) at
    labels."""
    ps: Sequence[float | None] = (None, None)
    if isinstance(answer, Answer):
        ps = [_p(answer.user, answer.p_user), _p(answer.response, answer.p_response)]
        ps = [p for p in ps if p is not None]
    labels = iter(ps)
    tokens: list[tuple[str, float | None]] = []
    for match in _TOKEN.finditer(content):
        token = match[0]
        label = (
            token in {" safe", " unsafe"} and len(tokens) >= 2 and tokens[-1][0] == ":" and tokens[-2][0] == " Safety"
        )
        tokens.append((token, next(labels, None) if label else None))
    tokens.append(("<end_of_turn>", None))
    return tokens


def _p(label: Label | None, p: float | None) -> float | None:
    if label is None:
        return None
    return p if p is not None else (0.98 if label == "unsafe" else 0.02)


@lru_cache(maxsize=4096)  # a verdict has few tokens, and the same ones every time; the entries are never changed
def _entry(token: str, p_unsafe: float | None, wanted: int) -> dict[str, Any]:
    """vLLM's token entry: the sampled token with the `wanted` likeliest ones, itself among them or before them."""
    ranked = _alternatives(token, p_unsafe, wanted)
    top = ranked[:wanted]
    own = next(entry for entry in ranked if entry["token"] == token)
    if top and own not in top:
        top = [own, *top]
    return {**own, "top_logprobs": top}


def _alternatives(token: str, p_unsafe: float | None, wanted: int) -> list[dict[str, Any]]:
    """The likely tokens at this place, best first; probabilities sum to at most one."""
    if p_unsafe is None:
        likely = [(token, _CERTAIN)]
    else:
        p = min(max(p_unsafe, _RESIDUE), 1 - _RESIDUE)
        labels = [(" unsafe", math.log(p) + _CERTAIN), (" safe", math.log1p(-p) + _CERTAIN)]
        likely = sorted(labels, key=lambda pair: -pair[1])
    if wanted > len(likely):
        others = [other for other in _OTHERS if other != token]
        likely += [(other, -16.0 - n) for n, other in enumerate(others[: wanted - len(likely)])]
    return [{"token": name, "logprob": value, "bytes": list(name.encode())} for name, value in likely]
