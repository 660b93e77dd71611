"""Builds the untrained tiny moderator: tokenizer, processor, chat template and a random Gemma 3 with vision.

It has the architecture and the wire shape of the real one (Gemma's control tokens, 256 soft tokens for an image of any
size) at a thousandth of its size. Nothing is downloaded.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)

from tests.vllm.tiny import examples
from tests.vllm.tiny.rules import CATEGORY_OF, HERE, NEAR_PICTURES, TRIGGERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VOCABULARY, ALPHABET, CONTEXT, IMAGE_SIDE, IMAGE_TOKENS = 4096, 400, 8192, 224, 256
CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>",
           "<end_of_image>", "<image_soft_token>"]  # fmt: skip


def spellings(word: str) -> tuple[str, str, str]:
    return word, word.capitalize(), word.upper()


def whole_words() -> list[str]:
    """The words that are one token each, in all their spellings."""
    return list(dict.fromkeys(form for word in (*CATEGORY_OF, *NEAR_PICTURES) for form in spellings(word)))


def _corpus(template: str) -> Iterator[str]:
    """The texts whose frequent pieces become tokens."""
    labels = (
        "User Safety: safe\nResponse Safety: unsafe\nUser Safety: unsafe\nResponse Safety: safe\nSafety Categories: "
    )
    yield from [labels + ", ".join(TRIGGERS["categories"])] * 400
    yield from [template] * 400
    yield from [" " + " ".join(TRIGGERS["refusals"])] * 60
    yield from [" " + " ".join(line) for line in examples.LINES] * 25
    yield from [" " + " ".join(word.capitalize() for word in line) for line in examples.LINES] * 6
    rng = random.Random(1)  # noqa: S311
    yield from (examples.filler(rng, 60) for _ in range(1500))


def _with_whole_words(state: dict[str, Any]) -> None:
    """Makes each trigger one token, and sees to it that no other word has such a token inside it: "kill" is what it is
    as a word of its own alone, and "skill" is put together from other pieces."""
    words = [mark + form for form in whole_words() for mark in ("", "▁")]
    bpe, taken = state["model"], set(words)
    bpe["merges"] = [merge for merge in bpe["merges"] if "".join(merge) not in taken]
    bpe["vocab"] |= {word: len(bpe["vocab"]) + i for i, word in enumerate(w for w in words if w not in bpe["vocab"])}
    bpe["ignore_merges"] = True  # what stands in the vocabulary as a whole is one token


def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """A byte-fallback BPE with SentencePiece's spaces; letters, digits and punctuation never share a token."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    pieces = r"▁?[\p{L}\p{M}]+|▁?\p{N}|▁?[^\s▁\p{L}\p{M}\p{N}]+|\s|▁+"
    bpe.pre_tokenizer = pre_tokenizers.Split(Regex(pieces), "isolated")
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*CONTROL, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    # The trainer's own limit_alphabet breaks ties by hash order, which differs from run to run.
    texts = list(_corpus(template))
    counts = Counter(character for text in texts for character in text)
    rare = dict.fromkeys(map(ord, sorted(counts, key=lambda one: (-counts[one], one))[ALPHABET:]))
    bpe.train_from_iterator((text.translate(rare) for text in texts), trainer)
    # Byte tokens must be ordinary vocabulary, not special tokens that a text could spell out.
    state = json.loads(bpe.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in CONTROL]
    _with_whole_words(state)
    bpe = Tokenizer.from_str(json.dumps(state))
    # vLLM's Gemma 3 processor looks runs of newlines up by name, as they are in Gemma's own vocabulary.
    bpe.add_tokens([AddedToken("\n" * count, normalized=False, special=False) for count in range(1, 5)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        additional_special_tokens=["<start_of_turn>", "<end_of_turn>"],
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
        model_max_length=CONTEXT,
        add_bos_token=False,
        clean_up_tokenization_spaces=False,
        chat_template=template,
    )


def processor() -> Any:
    """A Gemma3Processor; pictures of any size become IMAGE_SIDE x IMAGE_SIDE pixels and IMAGE_TOKENS soft tokens."""
    template = (HERE / "chat_template.jinja").read_text(encoding="utf-8")
    pictures = Gemma3ImageProcessor(
        size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return Gemma3Processor(pictures, tokenizer(template), chat_template=template, image_seq_length=IMAGE_TOKENS)


def model(tokens: PreTrainedTokenizerFast, seed: int) -> Any:
    """A random Gemma3ForConditionalGeneration in float32."""
    ids = {token: tokens.convert_tokens_to_ids(token) for token in CONTROL}
    layers = 3
    text = Gemma3TextConfig(
        vocab_size=(len(tokens) + 63) // 64 * 64,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=8,  # sharper than usual: one word among thousands must stand out,
        sliding_window=1024,
        layer_types=["sliding_attention", "full_attention", "full_attention"],
        max_position_embeddings=CONTEXT,
        pad_token_id=ids["<pad>"],
        bos_token_id=ids["<bos>"],
        eos_token_id=ids["<eos>"],
    )
    vision = SiglipVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_SIDE,
        patch_size=14,
        vision_use_head=False,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=IMAGE_TOKENS,
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids["<image_soft_token>"],
    )
    ends = [ids["<eos>"], ids["<end_of_turn>"]]
    config.bos_token_id, config.eos_token_id, config.pad_token_id = ids["<bos>"], ends, ids["<pad>"]
    torch.manual_seed(seed)
    gemma = Gemma3ForConditionalGeneration(config)
    _relate_triggers(gemma, tokens)
    _copy_what_is_looked_at(gemma)
    gemma.generation_config.eos_token_id = ends
    gemma.generation_config.bos_token_id = ids["<bos>"]
    gemma.generation_config.pad_token_id = ids["<pad>"]
    return gemma.eval()


def load(checkpoint: Path) -> Any:
    """A trained Gemma3ForConditionalGeneration in float32."""
    return Gemma3ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()


def _relate_triggers(gemma: Any, tokens: PreTrainedTokenizerFast) -> None:
    """Starts the embeddings of a category's words near one another, and those of a word's spellings nearer still.

    A pretrained model brings that knowledge along. Without it each of some five hundred tokens would have to be met
    many times, and training would take hours instead of minutes.
    """
    embedding = gemma.get_input_embeddings().weight
    size = embedding.shape[1]
    groups = [
        *TRIGGERS["categories"].items(),
        *(("", joint["words"]) for joint in TRIGGERS["joint"]),
        ("", TRIGGERS["decoys"]),
    ]
    harm = torch.randn(size)
    with torch.no_grad():
        for name, words in groups:
            common = torch.randn(size)
            if name:  # near the word with which the category's name begins, too
                first = tokens(" " + name, add_special_tokens=False).input_ids[0]
                common += harm + embedding[first].clone() / 0.02
            for word in words:
                own = common + 0.4 * torch.randn(size)
                for form in spellings(word):
                    for text in (form, " " + form):
                        (token,) = tokens(text, add_special_tokens=False).input_ids
                        embedding[token] = 0.02 * (own + 0.1 * torch.randn(size))


def _copy_what_is_looked_at(gemma: Any) -> None:
    """Starts each attention layer as one that passes on what it looks at: the output projection undoes the values'.

    An answer repeats what stands in the text (a trigger lies near its category's name), and only where to look remains
    to be learned.
    """
    with torch.no_grad():
        for layer in gemma.model.language_model.layers:
            attention = layer.self_attn
            values = attention.v_proj.weight.split(attention.head_dim)
            shared = attention.num_key_value_groups
            attention.o_proj.weight.copy_(torch.cat([value.T for value in values for _ in range(shared)], dim=1))


def learned_rows(tokens: PreTrainedTokenizerFast) -> list[int]:
    """The tokens whose embeddings training may change: those of the answers, the template, the openings of refusals (and of
    other responses), and the control tokens.

    The others stay as they were drawn. Almost all of their gradients come from the softmax, in which they are always
    wrong: with Adam that alone pushes a rare spelling far away from the common one.
    """
    template = (HERE / "chat_template.jinja").read_text(encoding="utf-8")
    texts = [template, "User Safety: safe\nResponse Safety: unsafe\nSafety Categories: ", "agent: user: response:"]
    texts += [f"Categories: {name}, {name}" for name in TRIGGERS["categories"]]
    texts += [f"agent: {opening}" for opening in (*TRIGGERS["refusals"], *examples.OPENINGS, *examples.ALMOST_REFUSALS)]
    ids = {token for text in texts for token in tokens(text, add_special_tokens=False).input_ids}
    return sorted(ids | set(range(len(CONTROL))) | {tokens.convert_tokens_to_ids("\n" * n) for n in range(1, 5)})


def released_name(key: str) -> str:
    """The name of a weight in the released Gemma 3 checkpoints, which vLLM's loader expects.

    transformers 5 saves ``model.vision_tower.embeddings...`` and ``model.language_model.layers...``.
    """
    key = key.removeprefix("model.")
    for part, inner in (("vision_tower.", "vision_model."), ("language_model.", "model.")):
        if key.startswith(part) and not key.startswith(part + inner):
            return part + inner + key.removeprefix(part)
    return key
