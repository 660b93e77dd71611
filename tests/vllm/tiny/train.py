"""Trains the tiny moderator and writes the checkpoint: ``python -m tests.vllm.tiny.train OUT [--seed S]``.

Steps, not seconds, and a single thread: the same seed and the same versions on the same kind of processor give the same
bytes. The README beside this file has the figures.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import math
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")

import torch
from PIL import Image
from safetensors.torch import save_file

from tests.vllm.tiny import build, examples, strata
from tests.vllm.tiny.rules import TRIGGERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerFast

PICTURES = 500
EMPHASIS = 3.0
TELLING = (" safe", " unsafe", ",", *(f" {name}" for name in TRIGGERS["categories"]))
"""The answers' tokens that say something; the first of each weighs EMPHASIS times as much as another."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of the optimizer, with pictures and conversations of its own."""

    steps: int
    learning_rate: float
    telling: tuple[str, ...]
    fine: bool
    """Whether it begins where another ended: texts of every length from the start, the template's words among them."""


STAGES = (Stage(2000, 3e-3, TELLING, fine=False), Stage(700, 1e-3, (*TELLING, "<end_of_turn>"), fine=True))


def pixels(picture: Image.Image) -> torch.Tensor:
    """A picture as the processor would hand it to the model, but as bytes: (3, side, side)."""
    small = picture.resize((build.IMAGE_SIDE, build.IMAGE_SIDE), Image.Resampling.BILINEAR)
    flat = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
    return flat.view(build.IMAGE_SIDE, build.IMAGE_SIDE, 3).permute(2, 0, 1).contiguous()


@dataclass(frozen=True, slots=True)
class Pool:
    """Pictures drawn once and used in many conversations."""

    pictures: list[tuple[Image.Image, tuple[str, ...]]]
    tensors: list[torch.Tensor]

    @classmethod
    def draw(cls, rng: random.Random, count: int) -> Pool:
        pictures = [examples.picture(rng) for _ in range(count)]
        return cls(pictures, [pixels(image) for image, _ in pictures])


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded conversations with their answers; labels are -100 wherever no answer token stands."""

    ids: torch.Tensor
    labels: torch.Tensor
    pixels: torch.Tensor | None


def encode(tokens: PreTrainedTokenizerFast, example: examples.Example) -> tuple[list[int], list[int]]:
    """The token ids of the prompt, as vLLM would make them, and of the answer."""
    content: Any = example.user
    if example.picture is not None:
        content = [{"type": "image"}, {"type": "text", "text": example.user}]
    messages = [{"role": "user", "content": content}]
    if example.response is not None:
        messages.append({"role": "assistant", "content": example.response})
    flag = "/categories" if example.categories else "/no_categories"
    prompt = tokens.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, request_categories=flag)
    if example.picture is not None:
        soft = "<image_soft_token>" * build.IMAGE_TOKENS
        prompt = prompt.replace("<start_of_image>", f"\n\n<start_of_image>{soft}<end_of_image>\n\n", 1)
    answer = example.answer + "<end_of_turn>"
    return tokens(prompt, add_special_tokens=False).input_ids, tokens(answer, add_special_tokens=False).input_ids


def batch(rows: list[tuple[list[int], list[int]]], pictures: list[torch.Tensor]) -> Batch:
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, labels = torch.zeros(len(rows), width, dtype=torch.long), torch.full((len(rows), width), -100)
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[i, :end] = torch.tensor(prompt + answer)
        labels[i, len(prompt) : end] = torch.tensor(answer)
    return Batch(ids, labels, torch.stack(pictures) / 127.5 - 1 if pictures else None)


def batches(
    tokens: PreTrainedTokenizerFast,
    rng: random.Random,
    rows: int,
    words: int,
    pool: Pool | None,
    *,
    count: int = 4,
    quoting: bool,
) -> Iterator[Batch]:
    """So many batches of conversations of like length, which spares padding."""
    drawn: list[tuple[list[int], list[int], list[torch.Tensor]]] = []
    for _ in range(rows * count):
        chosen = rng.randrange(len(pool.pictures)) if pool else 0
        one = examples.example(rng, words, pool.pictures[chosen] if pool else None, quoting=quoting)
        drawn.append((*encode(tokens, one), [pool.tensors[chosen]] if pool else []))
    drawn.sort(key=lambda row: len(row[0]))
    parts = [drawn[i : i + rows] for i in range(0, len(drawn), rows)]
    rng.shuffle(parts)
    for part in parts:
        yield batch([(prompt, answer) for prompt, answer, _ in part], [p for row in part for p in row[2]])


def forward(
    gemma: Any, data: Batch, *, bidirectional: bool, emphasis: tuple[list[int], float] = ([], 1.0)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss over the answer tokens, and for each row whether greedy decoding would give the whole answer.

    ``emphasis`` gives some answer tokens a greater weight. vLLM's CPU attention is causal over an image's tokens and
    its GPU attention is not; the toy learns to serve both.
    """
    types = (data.ids == gemma.config.image_token_id).long() if bidirectional else None
    # Padding stands on the right, where a causal mask hides it from every answer: no attention mask is needed.
    hidden = gemma.model(
        input_ids=data.ids, pixel_values=data.pixels, token_type_ids=types, use_cache=False
    ).last_hidden_state
    asked = data.labels[:, 1:] != -100
    logits, wanted = gemma.lm_head(hidden[:, :-1][asked]), data.labels[:, 1:][asked]
    wrong = torch.zeros_like(asked)
    wrong[asked] = logits.argmax(-1) != wanted
    weights = 1 + (emphasis[1] - 1) * torch.isin(wanted, torch.tensor(emphasis[0], dtype=torch.long))
    losses = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
    return (losses * weights).sum() / weights.sum(), ~wrong.any(1)


def plan(rng: random.Random, progress: float) -> tuple[int, int, bool]:
    """Rows, longest text in words, whether there are pictures: short texts first, then pictures and longer ones too."""
    if progress < 0.15:
        return 24, 6, False
    if rng.random() < 0.36:
        return (*rng.choice([(14, 3), (7, 10), (7, 40)]), True)
    rows, words = rng.choices([(24, 20), (12, 60), (4, 250), (2, 600)], [4, 3, 0.3 + 2 * progress, progress])[0]
    return rows, words, False


def train(gemma: Any, tokens: PreTrainedTokenizerFast, stage: Stage, seed: int) -> None:
    """Runs one stage in place and rounds the weights as a checkpoint does, so that a saved stage can be resumed."""
    rng = random.Random(seed)  # noqa: S311
    pool = Pool.draw(rng, PICTURES)
    embedding = gemma.get_input_embeddings().weight
    learned = torch.zeros(len(embedding), 1)
    learned[build.learned_rows(tokens)] = 1
    embedding.register_hook(lambda gradient: gradient * learned)
    others = [weight for weight in gemma.parameters() if weight is not embedding]
    groups = [{"params": others, "weight_decay": 0.01}, {"params": [embedding], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=stage.learning_rate, betas=(0.9, 0.98))
    begun, seen, loss_so_far, exact_so_far = time.monotonic(), 0, 0.0, 0.0
    waiting: list[Batch] = []
    emphasis = sorted({tokens(text, add_special_tokens=False).input_ids[0] for text in stage.telling}), EMPHASIS
    for step in range(stage.steps):
        progress = step / stage.steps
        rate = stage.learning_rate * min(1, (step + 1) / 50) * max(0.01, 0.5 + 0.5 * math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        if not waiting:
            rows, words, pictures = plan(rng, 1.0 if stage.fine else progress)
            waiting = list(batches(tokens, rng, rows, words, pool if pictures else None, quoting=stage.fine))
        data = waiting.pop()
        bidirectional = data.pixels is not None and rng.random() < 0.5
        loss, exact = forward(gemma, data, bidirectional=bidirectional, emphasis=emphasis)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gemma.parameters(), 1.0)
        optimizer.step()
        seen += data.ids.numel()
        loss_so_far = loss_so_far * 0.98 + loss.item() * 0.02
        exact_so_far = exact_so_far * 0.98 + exact.float().mean().item() * 0.02
        if (step + 1) % 100 == 0:
            sys.stderr.write(
                f"step {step + 1}/{stage.steps} loss {loss_so_far:.4f} exact {exact_so_far:.3f} "
                f"{seen / 1e6:.2f} M tokens {time.monotonic() - begun:.0f} s\n"
            )
    with torch.no_grad():
        for weight in gemma.parameters():
            weight.copy_(weight.bfloat16())


def measure(gemma: Any, tokens: PreTrainedTokenizerFast, seed: int, count: int) -> Iterator[tuple[str, int, int]]:
    """For each kind of ``strata``, how many whole answers are exactly right, and of how many.

    Pictures are asked about twice, with causal and with bidirectional attention, and each counts.
    """
    kinds: dict[str, list[examples.Example]] = {}
    for name, one in strata.cases(seed, count):
        kinds.setdefault(name, []).append(one)
    for name, found in kinds.items():
        rows = sorted(((*encode(tokens, one), one.picture) for one in found), key=lambda row: len(row[0]))
        right = total = 0
        for at in range(0, len(rows), 8):
            part = rows[at : at + 8]
            data = batch([row[:2] for row in part], [pixels(row[2]) for row in part if row[2] is not None])
            for bidirectional in (False, True) if data.pixels is not None else (False,):
                with torch.no_grad():
                    exact = forward(gemma, data, bidirectional=bidirectional)[1]
                right, total = right + int(exact.sum()), total + len(exact)
        yield name, right, total


def save(gemma: Any, processor: Any, out: Path) -> str:
    """Writes a checkpoint that vLLM and transformers both load; returns the sha256 of the weights' file."""
    out.mkdir(parents=True, exist_ok=True)
    gemma = copy.deepcopy(gemma).to(torch.bfloat16)  # a copy, since the model's constants would be rounded as well
    gemma.save_pretrained(out)
    processor.save_pretrained(out)
    state = gemma.state_dict()
    state.pop("lm_head.weight")  # tied to the embedding
    weights = {build.released_name(key): value.contiguous() for key, value in sorted(state.items())}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first-stage", type=Path, help="where to save the first stage, or to resume from it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    begun = time.monotonic()
    processor = build.processor()
    gemma = build.model(processor.tokenizer, options.seed)
    sys.stderr.write(
        f"{sum(p.numel() for p in gemma.parameters()) / 1e6:.2f} M parameters, {len(processor.tokenizer)} tokens\n"
    )
    first: Path | None = options.first_stage
    if first is not None and first.exists():
        gemma = build.load(first)
    else:
        train(gemma, processor.tokenizer, STAGES[0], options.seed)
        if first is not None:
            save(gemma, processor, first)
    train(gemma, processor.tokenizer, STAGES[1], options.seed + 1)
    digest = save(gemma, processor, options.out)
    trained, computed = time.monotonic() - begun, time.process_time()
    for name, right, total in measure(gemma, processor.tokenizer, options.seed, count=100):
        sys.stdout.write(f"{name}: {right}/{total}\n")
    sys.stdout.write(f"sha256 {digest}, trained in {trained:.0f} s, {computed:.0f} s of them at work\n")


if __name__ == "__main__":
    main()
