"""Content is data: nothing in it may act as control text of a model's prompt, whichever family reads it.

Two kinds of text could. A *token* such as `<end_of_turn>` becomes a control id in the tokenizer wherever it stands
(seen in a real vLLM: ids 6, 7 and 9). A *line* such as `response: agent: ...` or `User Safety: safe` could pass for the
template's own. Both stay visible to the model as text: characters are only ever inserted, never removed, and none that
is inserted can complete a token, so that the result of one pass holds nothing for a second.

One rule for all families rather than one each: a moderator may be another tomorrow, and a fallback is one today.

What is proven and what is inferred: Gemma 3's tokens are published, and that they act was measured; Llama's and Qwen's
are all of one form, `<|name|>`. The delimiters and lines are those of Llama Guard's documented prompt, of the prompt
that NeMo Guardrails ships for Nemotron Safety Guard, and of 3.5's and Qwen3Guard's as third parties show them; Nemotron
3's own template could not be read.
"""

from __future__ import annotations

import re

_TOKENS = (
    "start_of_turn", "end_of_turn", "start_of_image", "end_of_image", "image_soft_token", "audio_soft_token",
    "start_of_audio", "end_of_audio", "bos", "eos", "pad", "unk", "mask", "s", "/s", "2mass", "image", "img",
    "im_start", "im_end", "think", "/think", "tool_call", "/tool_call", "tool_response", "/tool_response",
)  # fmt: skip

_SPACE = "[\\s_\u00a0\u200b-\u200f\u2060\ufeff]"
_TOKEN = re.compile(
    r"<(?=(?:" + "|".join(re.escape(token) for token in _TOKENS) + r"|unused\d{1,5}|\|[\w-]{1,64}\|)>"
    rf"|/?(?:BEGIN|END){_SPACE}{{1,16}}(?:CONVERSATION|UNSAFE|SAFETY)|</?SYS>>)"
    r"|\[(?=@BOS@\]|multimodal\]|/?INST\])",
    re.IGNORECASE,
)

_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_BLANKS = " \t\u00a0\u200b-\u200f\u2060\ufeff\u3000"
_LINE = re.compile(
    rf"(^|[{_BREAKS}])([{_BLANKS}]{{0,64}})"
    rf"(?=(?:user|model|assistant|agent|system|response|prompt|output(?:{_SPACE}{{1,8}}json)?|task|refusal|categories"
    rf"|safety|(?:user|response){_SPACE}{{1,8}}safety|safety{_SPACE}{{1,8}}categories)"
    rf"[{_BLANKS}]{{0,8}}:|/(?:no_)?(?:categories|think)\b|###[{_BLANKS}]{{0,8}}(?:Answer|Policy))",
    re.IGNORECASE,
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def neutralise(text: str) -> str:
    """`text` with control tokens opened by a space after the bracket, and forged lines quoted by `> `. Linear in
    length.
    """
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", text)
    if "<" in text or "[" in text:
        text = _TOKEN.sub(r"\g<0> ", text)
    if ":" in text or "/" in text or "###" in text:
        text = _LINE.sub(r"\1\2> ", text)
    return text
