"""Nemotron 3.5 Content Safety: asked and read as Nemotron 3, with reasoning and with categories of one's own.

`chat_template_kwargs` also take `enable_thinking`; `custom_taxonomy`, a list of categories in place of the built-in one
(NVIDIA's custom-policy cookbook, its "Mode B"); and `custom_policy`, a text in place of introduction and categories
("Mode A"). There is no list of what is allowed: the cookbook appends it to the taxonomy. The trace comes inline as
`<think>…</think>`, or in `reasoning` and `reasoning_content` from servers that split it off; it is kept and never read
as a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from turnguard.core.exchange import Exchange, OwnCategories, OwnCategory
from turnguard.core.neutralise import neutralise
from turnguard.core.taxonomy import CATEGORIES, canonical, folded
from turnguard.core.verdict import Verdict
from turnguard.moderators.families import nemotron3
from turnguard.moderators.families.asking import Asking
from turnguard.moderators.families.reading import Body, Reply, labelled, said

VERSION = "1"
VERDICT_TOKENS = 128
OWN_TOKENS = 256


def requests(exchange: Exchange, asking: Asking) -> list[Body]:
    """The body of `POST /v1/chat/completions` for this exchange."""
    tokens = OWN_TOKENS if exchange.own is not None else VERDICT_TOKENS
    body = nemotron3.body(exchange, asking, tokens + asking.thinking)
    body["chat_template_kwargs"]["enable_thinking"] = asking.reasoning
    if exchange.own is not None:
        body["chat_template_kwargs"] |= told(exchange.own)
    return [body]


def verdict(replies: Sequence[Reply], exchange: Exchange, _asking: Asking) -> Verdict:
    """Read a reply. Raises `Unparseable` for whatever is not exactly a verdict; never guesses safe."""
    own = {} if exchange.own is None else {folded(one.name): one.name for one in exchange.own.categories}

    def known(name: str) -> str | None:
        return own.get(folded(name)) or canonical(name)

    answer = said(replies[0])
    labels, names = nemotron3.lines(answer.text)
    return labelled(answer, labels, names, exchange, known, nemotron3.LABEL)


def told(own: OwnCategories) -> dict[str, str]:
    """The template argument that tells the model what to judge by."""
    return {"custom_taxonomy": taxonomy(own)} if own.text is None else {"custom_policy": neutralise(own.text)}


def taxonomy(own: OwnCategories) -> str:
    """The built-in categories and the policy's own as one list, then what the policy allows."""
    allowed = [f"- {_line(example)}" for one in own.categories for example in one.allowed]
    lines = [f"- {name}" for name in CATEGORIES] + [f"- {_defined(one)}" for one in own.categories]
    if allowed:
        lines += ["", "Allow-list (explicitly permitted even if adjacent to a category above):", *allowed]
    return "\n".join(lines)


def _defined(one: OwnCategory) -> str:
    said = "; ".join(_line(text) for text in (one.definition, *one.disallowed))
    return f"{_line(one.name)} (custom; {said})"


def _line(text: str) -> str:
    """On one line, and nothing in it can close the list or the prompt."""
    return neutralise(" ".join(text.split()))
