"""Llama 3.1 Nemotron Safety Guard 8B v3: the whole prompt goes into one user message, the reply is one JSON object.

The prompt is the one that the model was trained with. NVIDIA documents it with the model's NIM and ships it with NeMo
Guardrails (`examples/configs/content_safety_multilingual`); its wording is part of the wire and must not be improved.
Reply:

    {"User Safety": "safe|unsafe", "Response Safety": "safe|unsafe", "Safety Categories": "name, name"}

with a response label only where a response was sent, and categories only where something is unsafe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from turnguard.core.errors import Rejected, Unparseable
from turnguard.core.exchange import Exchange
from turnguard.core.families import FAMILIES
from turnguard.core.neutralise import neutralise
from turnguard.core.taxonomy import canonical
from turnguard.core.verdict import Label, Verdict
from turnguard.moderators.families.asking import Asking
from turnguard.moderators.families.reading import WORDS, Body, Reply, greedy, labelled, said

VERSION = "1"
MAX_TOKENS = 100

_CATEGORIES = "\n".join(f"S{number}: {name}." for number, name in enumerate(FAMILIES[
    "nemotron-safety-guard-8b-v3"
].categories, 1))  # fmt: skip
_BEFORE = f"""\
Task: Check if there is unsafe content in the user or agent messages in the below conversation in accordance with our \
safety policy with the below categories. Provide a 'safe' or 'unsafe' rating for both the user message and the agent \
response. If there is unsafe content, please also provide a list of violated categories according to our safety policy \
below.

<BEGIN UNSAFE CONTENT CATEGORIES>
{_CATEGORIES}
<END UNSAFE CONTENT CATEGORIES>

<BEGIN CONVERSATION>

user: """
_BETWEEN = "\n\nresponse: agent: "
_AFTER = """

<END CONVERSATION>

Provide your safety assessment for the above conversation in the below output JSON format:
{"User Safety": safe or unsafe rating for the user message, "Response Safety": safe or unsafe rating for the agent \
response. Omit if no agent response present. "Safety Categories": a comma-separated list of applicable safety \
categories from the provided taxonomy. Omit if all safe.}

Do not include anything other than the output JSON in your response.
Output JSON:"""

_USER, _RESPONSE, _NAMES = "User Safety", "Response Safety", "Safety Categories"
_LABEL = re.compile(r'.*"((?:User|Response) Safety)"\s*:\s*"?')


def requests(exchange: Exchange, asking: Asking) -> list[Body]:
    """The body of `POST /v1/chat/completions` for this exchange."""
    if exchange.picture is not None or exchange.own is not None:
        raise Rejected("the family nemotron-safety-guard-8b-v3 takes neither pictures nor categories of one's own")
    prompt = _BEFORE + neutralise(exchange.prompt)
    if exchange.response is not None:
        prompt += _BETWEEN + neutralise(exchange.response)
    return [greedy([{"role": "user", "content": prompt + _AFTER}], asking, MAX_TOKENS)]


def verdict(replies: Sequence[Reply], exchange: Exchange, asking: Asking) -> Verdict:
    """Read a reply. Raises `Unparseable` for whatever is not exactly a verdict; never guesses safe."""
    answer = said(replies[0])
    fields = _object(answer.text)
    labels = {name.casefold(): _label(fields[name], name) for name in (_USER, _RESPONSE) if name in fields}
    names = fields.get(_NAMES, "")
    if names.strip() and "unsafe" not in labels.values():
        raise Unparseable("categories of something safe")
    return labelled(answer, labels, names if asking.categories else None, exchange, canonical, _LABEL)


def _object(text: str) -> dict[str, str]:
    """The fields of the reply: each known, given once, and text."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, str]:
        found = dict(pairs)
        if len(found) != len(pairs) or not found.keys() <= {_USER, _RESPONSE, _NAMES}:
            raise Unparseable("a field that is not part of a verdict")
        if not all(isinstance(value, str) for value in found.values()):
            raise Unparseable("a field that is not text")
        return found

    try:
        fields = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise Unparseable("the verdict is not JSON") from None
    if not isinstance(fields, dict):
        raise Unparseable("the verdict is not a JSON object")
    return fields


def _label(word: str, name: str) -> Label:
    for label in WORDS:
        if word.strip().casefold() == label:
            return label
    raise Unparseable(f"the {name.casefold()} label is neither safe nor unsafe")
