"""Check that the longest text fits the server, and that its end is read."""

from __future__ import annotations

import math

from turnguard.config.settings import ModeratorSettings
from turnguard.core.exchange import Exchange
from turnguard.doctor.asking import Question
from turnguard.doctor.canaries import UNSAFE, Seen
from turnguard.doctor.canaries.answering import remedy
from turnguard.doctor.findings import Told, failed, note, ok, skipped
from turnguard.text.windows import IMAGE_TOKENS, REPLY_TOKENS, TEMPLATE_TOKENS, estimate, room

_SENTENCE = "The train to the city leaves at nine, and the museum near the station opens an hour later. "
_LEAST = 200
"""Tokens. Below this nearly every text is cut."""


def longest(seen: Seen) -> dict[str, Question]:
    """A text of nearly as many tokens as a request takes, harmless but for its last sentence."""
    tokens = tokens_of(seen.config.moderator, limit_of(seen.card))
    times = max(1, int((tokens - estimate(UNSAFE) - 4) / estimate(_SENTENCE)))
    return {"long": Question(Exchange(_SENTENCE * times + UNSAFE))}


def tokens_of(settings: ModeratorSettings, max_model_len: int | None) -> int:
    """Content of the longest request, in tokens: what the guard itself reckons."""
    return room(settings.max_input_tokens, max_model_len)


def limit_of(card: object) -> int | None:
    """The `max_model_len` of a model card."""
    limit = card.get("max_model_len") if isinstance(card, dict) else None
    return limit if isinstance(limit, int) and not isinstance(limit, bool) else None


def context(seen: Seen) -> Told:
    """Compare the model card's limit with what the server really takes."""
    wanted = seen.config.moderator.max_input_tokens
    limit = limit_of(seen.card)
    tokens = tokens_of(seen.config.moderator, limit)
    heard = seen.get("long")
    needed = math.ceil(wanted * 1.25) + TEMPLATE_TOKENS + IMAGE_TOKENS + REPLY_TOKENS
    length = max(4096, 1024 * math.ceil(needed / 1024))
    enlarge = f"Start vLLM with --max-model-len {length}, or lower moderator.max_input_tokens."
    left = f"The server's context of {limit} tokens leaves {tokens} for content"
    if heard.verdict is None and heard.status not in (None, 200):
        return failed(f"A text of {tokens} tokens is refused: {heard.cause}.", enlarge)
    if heard.verdict is None:
        return failed(f"A text of {tokens} tokens brought no verdict: {heard.cause}.", remedy(heard))
    if tokens < _LEAST:
        return failed(f"{left}: nearly every text is cut into windows.", enlarge)
    if seen.get("unsafe").label == "unsafe" and heard.label == "safe":
        return failed(
            f"An unsafe sentence at the end of a text of {tokens} tokens is not seen.",
            "Let no proxy or server truncate prompts (truncate_prompt_tokens); else lower moderator.max_input_tokens.",
        )
    if heard.label == "safe":
        return skipped("Not told: the unsafe sentence is called safe alone, too.")
    if limit is None:
        return note(f"The server does not tell its max_model_len; a text of {tokens} tokens is judged whole.")
    if tokens < wanted:
        return note(f"{left}, not the configured {wanted}: more windows.", enlarge)
    return ok(f"A text of {tokens} tokens is judged to its end; the server takes {limit} in all.")
