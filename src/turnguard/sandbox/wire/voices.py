"""How the server of each family reads a conversation, and the words in which it gives a verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from turnguard.core.families import DEFAULT, FAMILIES

Label = Literal["safe", "unsafe", "controversial"]
Turn = tuple[str, str]
"""Role and text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What stands in the reply. `p_user` and `p_response` are P(unsafe); None means near certainty of the label.

    `categories` are the taxonomy's names or the family's own. `reasoning` is what the model thinks before, where the
    request asks for that. "controversial" is a label of Qwen3Guard alone.
    """

    user: Label | None
    response: Label | None = None
    categories: tuple[str, ...] = ()
    p_user: float | None = None
    p_response: float | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class Voice:
    """One family's server. `words` are the labels as it writes them; `labels` matches each label in a reply, and its
    group is the word. `end` is the token that ends a turn, with its id. `template_tokens` is what its template adds.
    """

    write: Callable[[Answer, bool], str]
    sides: Callable[[Sequence[Turn]], tuple[str, str | None]]
    labels: re.Pattern[str]
    end: tuple[str, int]
    template_tokens: int
    words: tuple[str, ...] = ("safe", "unsafe")


def _conversation(turns: Sequence[Turn]) -> tuple[str, str | None]:
    """The last assistant turn is the response, all other text the prompt."""
    last = max((n for n, (role, _) in enumerate(turns) if role == "assistant"), default=None)
    prompt = "\n".join(text for n, (_, text) in enumerate(turns) if n != last)
    return prompt, None if last is None else turns[last][1]


def _in_one(turns: Sequence[Turn]) -> tuple[str, str | None]:
    """Both stand between the delimiters of the one user turn. Anything else is a prompt as it is."""
    whole = "\n".join(text for _, text in turns)
    found = re.search(r"<BEGIN CONVERSATION>\s*user: (.*?)\s*<END CONVERSATION>", whole, re.DOTALL)
    if found is None:
        return whole, None
    prompt, answered, response = found[1].partition("\n\nresponse: agent: ")
    return prompt, response if answered else None


def _lines(answer: Answer, categories: bool) -> str:
    lines = []
    if answer.user is not None:
        lines.append(f"User Safety: {answer.user}")
    if answer.response is not None:
        lines.append(f"Response Safety: {answer.response}")
    if categories and answer.categories and "unsafe" in {answer.user, answer.response}:
        lines.append("Safety Categories: " + ", ".join(answer.categories))
    return "\n".join(lines)


def _json(answer: Answer, _categories: bool) -> str:
    fields: dict[str, str] = {}
    if answer.user is not None:
        fields["User Safety"] = answer.user
    if answer.response is not None:
        fields["Response Safety"] = answer.response
    if answer.categories and "unsafe" in fields.values():
        fields["Safety Categories"] = ", ".join(answer.categories)
    return json.dumps(fields, ensure_ascii=False)


def _native(family: str, names: Sequence[str], otherwise: str) -> list[str]:
    """Each category by the first native name that means it. Those that the family has no name for become one."""
    table = FAMILIES[family].categories
    by_meaning = {meaning: name for name, meaning in reversed(list(table.items()))}
    return list(dict.fromkeys(name if name in table else by_meaning.get(name, otherwise) for name in names))


def _codes(answer: Answer, _categories: bool) -> str:
    label = _last(answer)
    if label != "unsafe" or not answer.categories:
        return f"\n\n{label}"
    codes = [name.partition(":")[0] for name in _native("llama-guard-4", answer.categories, "S2: Non-Violent Crimes")]
    return f"\n\nunsafe\n{','.join(codes)}"


def _three_lines(answer: Answer, _categories: bool) -> str:
    label = _last(answer)
    names = [] if label == "safe" else _native("qwen3guard", answer.categories, "Unethical Acts")
    lines = [f"Safety: {label.capitalize()}", f"Categories: {', '.join(names) or 'None'}"]
    if answer.response is not None:
        lines.append(f"Refusal: {'Yes' if answer.response == 'safe' and answer.user == 'unsafe' else 'No'}")
    return "\n".join(lines)


def _last(answer: Answer) -> Label:
    """The label of the last message, which is the only one that these families rate."""
    return answer.response or answer.user or "safe"


_LABELS = re.compile(r"^\w+ Safety: (\w+)", re.MULTILINE)
_GEMMA = ("<end_of_turn>", 106)
_NEMOTRON = Voice(_lines, _conversation, _LABELS, _GEMMA, 464)  # 464: inferred from recorded usage
# the ids of the tokens that end a turn: Gemma 3's was seen on a real vLLM, the others are the published ones
VOICES: Mapping[str, Voice] = {
    "nemotron-3": _NEMOTRON,
    "nemotron-3.5": _NEMOTRON,
    "nemotron-safety-guard-8b-v3": Voice(
        _json, _in_one, re.compile(r'\w+ Safety": "(\w+)'), ("<|eot_id|>", 128009), 10
    ),
    "llama-guard-4": Voice(_codes, _conversation, re.compile(r"\A\s*(\w+)"), ("<|eot|>", 200008), 300),
    "qwen3guard": Voice(
        _three_lines, _conversation, re.compile(r"\ASafety: (\w+)"), ("<|im_end|>", 151645), 400,
        ("safe", "unsafe", "controversial"),
    ),
}  # fmt: skip


def render(answer: Answer, *, categories: bool, family: str = DEFAULT) -> str:
    """The verdict in the family's grammar. Without `categories` the Nemotrons name none."""
    voice = VOICES[family]
    if not {answer.user, answer.response} - {None} <= set(voice.words):
        raise ValueError(f"the family {family!r} has no such label; it has: {', '.join(voice.words)}")
    return voice.write(answer, categories)
