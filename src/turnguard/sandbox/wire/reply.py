"""A verdict in the model's own grammar, and the envelope that vLLM puts around it: whole, or as a stream of events."""

from __future__ import annotations

import json
import math
import re
import time
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from turnguard.sandbox.wire.voices import VOICES, Answer, Label, Voice, render

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from turnguard.sandbox.wire.request import ChatRequest

_TOKEN = re.compile(r" ?\w+|[^\w\s]|\s")
Odds = tuple[tuple[str, float], ...]
"""The words that a label's token could have been, with their probabilities."""
THOUGHT = "The rules of the sandbox do not reason: what they found stands in the verdict."
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
class Completion:
    """One reply, ready to be sent whole (`body`) or as events (`events`).

    The first `thought` of the tokens are reasoning that the server splits off, as with a reasoning parser.
    """

    request: ChatRequest
    tokens: tuple[tuple[str, Odds | None], ...]
    content: str | None
    reasoning: str | None
    thought: int
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
        entries = {"content": [self._entry(token, odds) for token, odds in self.tokens]} if self.logprobs else None
        message = {
            "role": "assistant",
            "content": self.content,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "reasoning": self.reasoning,
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
        end, _ = VOICES[self.request.family].end
        for number, (token, odds) in enumerate(self.tokens or [("", None)], 1):
            last = number >= len(self.tokens)
            yield self._event(
                {"reasoning" if number <= self.thought else "content": "" if token == end else token},
                logprobs={"content": [self._entry(token, odds)]} if self.logprobs and token else None,
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

    def _entry(self, token: str, odds: Odds | None) -> dict[str, Any]:
        return _entry(token, odds, self.request.top_logprobs)


def complete(
    request: ChatRequest,
    answer: Answer | str | None,
    *,
    fingerprint: str,
    finish_reason: str | None = None,
    with_logprobs: bool = True,
    with_categories: bool = True,
    splits_reasoning: bool = False,
    request_id: str | None = None,
) -> Completion:
    """Answer a request with a verdict, or with any text (None: `content: null`), cut to the request's `max_tokens`.

    `splits_reasoning`: as with a reasoning parser, the trace stands beside the content and not in it.
    """
    voice = VOICES[request.family]
    asked = request.categories and with_categories
    text = render(answer, categories=asked, family=request.family) if isinstance(answer, Answer) else answer
    trace = ""
    if request.thinks and text is not None:
        told = answer.reasoning if isinstance(answer, Answer) else None
        trace = f"<think>\n{told or THOUGHT}\n</think>"
    before = [(match[0], None) for match in _TOKEN.finditer(trace)]
    tokens = before + (_tokens(text, answer, voice) if text is not None else [])
    cut = request.max_tokens is not None and len(tokens) > request.max_tokens
    if cut:
        tokens = tokens[: request.max_tokens]
    content, reasoning = text, None
    if splits_reasoning and trace:
        reasoning = (
            "".join(token for token, _ in tokens[: len(before)]).removeprefix("<think>").removesuffix("</think>")
        )
        content = "".join(token for token, _ in tokens[len(before) :]) or None if cut else text
    elif text is not None:
        content = "".join(token for token, _ in tokens) if cut else trace + text
    reason = finish_reason or ("length" if cut else "stop")
    return Completion(
        request=request,
        tokens=tuple(tokens),
        content=content,
        reasoning=reasoning,
        thought=min(len(before), len(tokens)) if splits_reasoning else 0,
        finish_reason=reason,
        stop_reason=voice.end[1] if reason == "stop" else None,
        completion_tokens=len(tokens),
        id=f"chatcmpl-{request_id or uuid.uuid4().hex[:16]}",
        created=int(time.time()),
        model=request.model,
        fingerprint=fingerprint,
        logprobs=request.logprobs and with_logprobs,
    )


def _tokens(content: str, answer: Answer | str | None, voice: Voice) -> list[tuple[str, Odds | None]]:
    """The content cut as Gemma's tokenizer cuts a verdict (5 tokens for a safe one, as recorded), with the odds of its
    labels."""
    odds: dict[int, Odds] = {}
    if isinstance(answer, Answer):
        sides = [(answer.user, answer.p_user), (answer.response, answer.p_response)]
        given = [(label, p) for label, p in sides if label is not None]
        places = [match.start(1) for match in voice.labels.finditer(content)]
        # a family that rates the last message alone writes one label for both
        for place, (label, p) in zip(places, given[-len(places) :], strict=False):
            odds[place] = _odds(label, p, voice.words)
    tokens: list[tuple[str, Odds | None]] = []
    for match in _TOKEN.finditer(content):
        word = match[0].lstrip()
        tokens.append((match[0], odds.get(match.end() - len(word)) if word else None))
    tokens.append((voice.end[0], None))
    return tokens


def _odds(label: Label, p: float | None, words: Sequence[str]) -> Odds:
    """The odds of each word at a label. `p` is P(unsafe), which safe and unsafe share; the third word is certain."""
    if label == "controversial":
        return tuple((word, 0.98 if word == label else 0.01) for word in words)
    p = min(max(p if p is not None else (0.98 if label == "unsafe" else 0.02), _RESIDUE), 1 - _RESIDUE)
    return (("unsafe", p), ("safe", 1 - p))


@lru_cache(maxsize=4096)  # a verdict has few tokens, and the same ones every time; the entries are never changed
def _entry(token: str, odds: Odds | None, wanted: int) -> dict[str, Any]:
    """vLLM's token entry: the sampled token with the `wanted` likeliest ones, itself among them or before them."""
    ranked = _alternatives(token, odds, wanted)
    top = ranked[:wanted]
    own = next(entry for entry in ranked if entry["token"] == token)
    if top and own not in top:
        top = [own, *top]
    return {**own, "top_logprobs": top}


def _alternatives(token: str, odds: Odds | None, wanted: int) -> list[dict[str, Any]]:
    """The likely tokens at this place, best first; probabilities sum to at most one."""
    if odds is None:
        likely = [(token, _CERTAIN)]
    else:
        spaced, written = token[: -len(token.lstrip())], token.strip()
        spelled = str.capitalize if written.istitle() else str
        labels = [(spaced + spelled(word), math.log(p) + _CERTAIN) for word, p in odds]
        likely = sorted(labels, key=lambda pair: -pair[1])
    if wanted > len(likely):
        others = [other for other in _OTHERS if other != token]
        likely += [(other, -16.0 - n) for n, other in enumerate(others[: wanted - len(likely)])]
    return [{"token": name, "logprob": value, "bytes": list(name.encode())} for name, value in likely]
