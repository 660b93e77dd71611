"""A checkpoint in this process, by way of `transformers`: chat-completions bodies in, chat-completions replies out.

The prompt is the checkpoint's own chat template over the messages that a server would get, tokenised as vLLM does it
(no special tokens but the template's own); decoding is greedy. Torch and transformers are imported here alone.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from turnguard.core.errors import ConfigError, ModeratorError, Rejected

_FILES = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model")
"""What is fetched of a hub repository: never pickled weights, never code."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Ask(NamedTuple):
    """One request: the body that a server would get, and the picture that it shows."""

    body: Mapping[str, Any]
    picture: bytes | None


Reply = Mapping[str, Any]


def locate(checkpoint: str) -> Path:
    """The directory of a checkpoint: itself, or what the hub has under `owner/name`, fetched if it is not there yet.

    Raises `ConfigError`. Nothing is fetched for anything but an id of that form.
    """
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        return path.resolve()
    if not _HUB_ID.fullmatch(checkpoint):
        raise ConfigError(f"moderator.checkpoint: there is no directory {checkpoint!r}, and it is no owner/name either")
    hub = _imported("huggingface_hub")
    try:
        return Path(hub.snapshot_download(checkpoint, allow_patterns=list(_FILES)))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"moderator.checkpoint: {checkpoint!r} is no directory, and the hub did not give it "
            f"({type(error).__name__}); is the id right, its licence accepted and a token set?"
        ) from None


class Checkpoint:
    """A loaded model. `device` as torch names it; None takes a GPU where there is one, else the CPU.

    The weights keep the checkpoint's own precision. Not thread-safe: one thread asks. Raises `ConfigError`.
    """

    def __init__(self, directory: Path, device: str | None = None) -> None:
        self._torch = torch = _imported("torch")
        transformers = _imported("transformers")
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._processor = transformers.AutoProcessor.from_pretrained(directory, local_files_only=True)
            model = transformers.AutoModelForImageTextToText.from_pretrained(
                directory, local_files_only=True, use_safetensors=True, dtype="auto"
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ConfigError(
                f"moderator.checkpoint: {str(directory)!r} does not load ({type(error).__name__}: {error})"
            ) from None
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.padding_side = "left"  # the answers of a batch then begin at the same place
        ends = model.generation_config.eos_token_id
        self._ends = set(ends if isinstance(ends, list) else [ends]) | {self._tokenizer.eos_token_id}
        # nothing of the checkpoint's own sampling may remain: greedy, as the request asks for
        model.generation_config = transformers.GenerationConfig(
            eos_token_id=sorted(end for end in self._ends if end is not None),
            pad_token_id=self._tokenizer.pad_token_id,
            bos_token_id=self._tokenizer.bos_token_id,
        )
        self._model = model.to(self.device).eval()
        self._transformers = transformers
        self.max_model_len = int(model.config.get_text_config().max_position_embeddings)
        self.identity = _identity(directory)

    def reply(self, asks: Sequence[Ask], wanted: Callable[[int], bool]) -> list[Reply | ModeratorError]:
        """A reply to each, in order. All with a picture, or none.

        `wanted(n)` is asked before every token: a sequence that nobody wants ends there. A forward pass that has begun
        is never broken off. What does not fit together, into memory or the context, is worked on in halves.
        """
        try:
            return [*self._together(asks, wanted)]
        except (self._torch.OutOfMemoryError, Rejected) as error:
            if len(asks) == 1:
                return [error if isinstance(error, Rejected) else Rejected("too large for the memory of the device")]
        half = len(asks) // 2
        return [*self.reply(asks[:half], wanted), *self.reply(asks[half:], lambda n: wanted(half + n))]

    def _together(self, asks: Sequence[Ask], wanted: Callable[[int], bool]) -> list[Reply]:
        torch = self._torch
        inputs = self._inputs(asks)
        width = inputs["input_ids"].shape[1]
        limits = [int(ask.body["max_tokens"]) for ask in asks]
        if width + max(limits) > self.max_model_len:
            raise Rejected("longer than the model's context", too_long=True)
        seen = _Seen(torch, max(int(ask.body.get("top_logprobs") or 1) for ask in asks))

        def ended(ids: Any, _scores: Any, **_more: Any) -> Any:
            made = ids.shape[1] - width
            flags = [made >= limit or not wanted(n) for n, limit in enumerate(limits)]
            return torch.tensor(flags, device=ids.device)

        with torch.inference_mode():
            ids = self._model.generate(
                **inputs,
                max_new_tokens=max(limits),
                logits_processor=self._transformers.LogitsProcessorList([seen]),
                stopping_criteria=self._transformers.StoppingCriteriaList([ended]),
            )
        rows = ids[:, width:].tolist()
        return [self._reply(ask, rows[n], seen.row(n)) for n, ask in enumerate(asks)]

    def _inputs(self, asks: Sequence[Ask]) -> Any:
        from PIL import Image

        texts = [
            self._processor.apply_chat_template(
                _for_template(ask.body["messages"]),
                tokenize=False,
                add_generation_prompt=True,
                **ask.body.get("chat_template_kwargs", {}),
            )
            for ask in asks
        ]
        pictures = [[Image.open(io.BytesIO(ask.picture)).convert("RGB")] for ask in asks if ask.picture is not None]
        return self._processor(
            text=texts, images=pictures or None, padding=True, add_special_tokens=False, return_tensors="pt"
        ).to(self.device, dtype=self._model.dtype)

    def _reply(self, ask: Ask, ids: Sequence[int], seen: Sequence[_Alternatives]) -> Reply:
        limit = int(ask.body["max_tokens"])
        end = next((n for n, token in enumerate(ids[:limit]) if token in self._ends), None)
        made = ids[:limit] if end is None else ids[: end + 1]
        reason = "stop" if end is not None else "length" if len(ids) >= limit else "abort"
        text = self._tokenizer.decode(made if end is None else made[:-1], skip_special_tokens=True)
        entries = [self._entry(token, ranked) for token, ranked in zip(made, seen, strict=False)]
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "logprobs": {"content": entries},
            "finish_reason": reason,
        }
        return {"object": "chat.completion", "model": ask.body["model"], "choices": [choice]}

    def _entry(self, token: int, ranked: _Alternatives) -> dict[str, Any]:
        top = [self._token(other, logprob) for other, logprob in ranked]
        own = next((logprob for other, logprob in ranked if other == token), 0.0)
        return {**self._token(token, own), "top_logprobs": top}

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._tokenizer.decode([token], skip_special_tokens=False)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


_Alternatives = Sequence[tuple[int, float]]
"""The likeliest tokens at one place with their log probabilities, best first."""


class _Seen:
    """Notes the likeliest tokens and changes no logits: a batch's whole logits would take gigabytes."""

    def __init__(self, torch: Any, top: int) -> None:
        self._torch = torch
        self._top = top
        self._steps: list[tuple[Any, Any]] = []

    def __call__(self, _ids: Any, scores: Any) -> Any:
        best = self._torch.log_softmax(scores.float(), dim=-1).topk(self._top, dim=-1)
        self._steps.append((best.indices, best.values))
        return scores

    def row(self, number: int) -> list[_Alternatives]:
        """What was seen of one sequence, step by step."""
        return [[*zip(ids[number].tolist(), values[number].tolist(), strict=True)] for ids, values in self._steps]


def _for_template(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as vLLM shows them to a chat template: content as a list of parts, a picture as a bare `image`."""
    shown = []
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        parts = [{"type": "image"} if part["type"] == "image_url" else dict(part) for part in parts]
        shown.append({"role": message["role"], "content": parts})
    return shown


def _identity(directory: Path) -> str:
    """Names the files by size and date, not by their gigabytes of content: a copy counts as another model."""
    digest = hashlib.sha256(str(directory).encode())
    for file in sorted(directory.iterdir()):
        if file.is_file():
            found = file.stat()
            digest.update(f"{file.name}/{found.st_size}/{found.st_mtime_ns};".encode())
    return digest.hexdigest()[:16]


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"moderator.checkpoint: judging in this process needs {name}, which is not installed; "
            "pip install 'turnguard[local]', or name a server with base_url"
        ) from None
