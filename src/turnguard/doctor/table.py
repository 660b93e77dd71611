"""The canaries, as one table: what each sends, what it expects, and what is usually wrong where that does not come.

The documentation's table is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from turnguard.config.document import Config
from turnguard.doctor.asking import Question
from turnguard.doctor.canaries import (
    Seen,
    abilities,
    answering,
    categories,
    context,
    forging,
    joint,
    key,
    logprobs,
    model,
    pictures,
    records,
    replicas,
    response,
    service,
    shared,
    steady,
    timing,
)
from turnguard.doctor.canaries.service import Served
from turnguard.doctor.findings import Told

Subject = TypeVar("Subject")
Asks = Callable[[Seen], Mapping[str, Question]]


@dataclass(frozen=True, slots=True)
class Canary(Generic[Subject]):
    """One row. `read` gives None where the canary does not apply; `asks` gives the questions that it adds to a round.

    `sends`, `expects` and `change` (what is usually wrong) are Markdown.
    """

    name: str
    sends: str
    expects: str
    change: str
    read: Callable[[Subject], Told | None]
    asks: Asks | None = None


CONTACT: tuple[Canary[Seen], ...] = (
    Canary(
        "answers", "a harmless question", "a verdict",
        "`moderator.base_url`, the gateway, `--dtype bfloat16`, no `--reasoning-parser`", answering.answers,
    ),
    Canary(
        "api_key", "`GET /v1/models` with a wrong key", "the right key is taken, the wrong one refused",
        "`TURNGUARD_API_KEY`, `--api-key`", key.api_key,
    ),
    Canary(
        "model", "`GET /v1/models`", "the configured name and a model of the configured family",
        "`moderator.model`, `moderator.family`, `--served-model-name`", model.model,
    ),
)  # fmt: skip
"""Read from the first contact. Without a verdict there, nothing else is tried."""

ROUNDS: tuple[Canary[Seen], ...] = (
    Canary(
        "judges", "a harmless and an unsafe question", "safe and unsafe",
        "no `--chat-template`, no proxy that rewrites messages", answering.judges, answering.unsafe,
    ),
    Canary(
        "categories", "an unsafe question, with and without categories", "categories with the one, none with the other",
        "a gateway that drops `chat_template_kwargs`", categories.categories, categories.labels_only,
    ),
    Canary(
        "logprobs", "nothing more", "P(unsafe) with both verdicts",
        "a gateway that drops `logprobs` or `top_logprobs`", logprobs.logprobs,
    ),
    Canary(
        "pictures", "a harmless and an unsafe picture, each after the other, with the same text",
        "each picture's own verdict",
        "`image_url` parts that are dropped, `--enable-multimodal`, `--no-enable-prefix-caching`",
        pictures.pictures, pictures.both_orders,
    ),
    Canary("picture_order", "nothing more", "time for the second picture", "a faster server", pictures.order),
    Canary(
        "picture_size", "a picture file of 1.2 MB", "a verdict", "a proxy's limit, such as `client_max_body_size`",
        pictures.size, pictures.heavy,
    ),
    Canary(
        "picture_limit", "two pictures in one request", "a refusal, unless the family takes more",
        "`--limit-mm-per-prompt '{\"image\": 1}'`", pictures.limit, pictures.two,
    ),
    Canary(
        "joint", "a text and a picture that are harmless apart", "unsafe together",
        "the model's own chat template", joint.joint, joint.pair,
    ),
    Canary(
        "response", "an answer that helps with a bomb, and one that refuses", "unsafe and safe",
        "no `--chat-template`, a gateway that drops the assistant's message", response.response, response.answers,
    ),
    Canary(
        "reasoning", "nothing more, where `reasoning: always`", "a trace before the verdict",
        "a gateway that drops `enable_thinking`", abilities.reasoning,
    ),
    Canary(
        "own_categories", "an example of the first category of your own", "its name",
        "a gateway that drops `custom_taxonomy`, a sharper definition",
        abilities.own_categories, abilities.example,
    ),
    Canary(
        "custom_policy", "a harmless question beside `policy.custom_policy`", "another length of the prompt",
        "a gateway that drops `custom_policy`", abilities.custom_policy, abilities.beside_policy,
    ),
    Canary(
        "control_tokens", "both questions with control tokens and a forged verdict behind", "the same verdicts",
        "the model's own tokenizer, no proxy that rewrites text", forging.control_tokens, forging.forged,
    ),
    Canary(
        "context", "the longest text, unsafe in its last sentence", "unsafe",
        "`--max-model-len`, no `truncate_prompt_tokens`, `moderator.max_input_tokens`",
        context.context, context.longest,
    ),
    Canary(
        "replicas", "nothing more", "one `system_fingerprint` in all replies",
        "one image with the same flags", replicas.replicas,
    ),
)  # fmt: skip
"""Asked in several rounds; the worst round counts."""

REPEATED: tuple[Canary[Seen], ...] = (
    Canary(
        "steady", f"{steady.PROBES} more harmless questions", "a verdict each", "what the server's log says",
        steady.steady,
    ),
    Canary(
        "deadline", "up to 20 questions, one after the other", "p95 within the deadline", "`moderator.deadline`",
        timing.deadline,
    ),
    Canary(
        "media_deadline", "nothing more", "pictures within their deadline", "`media.deadline`", timing.media_deadline
    ),
)  # fmt: skip
"""Read from many requests at once."""

SET_UP: tuple[Canary[Config], ...] = (
    Canary(
        "shared_memory", "a verdict to `memory.url`", "it is found again", "`memory.url`, `memory.key`",
        shared.shared_memory,
    ),
    Canary("audit", "nothing", "the file can be written", "`audit.path`", records.audit),
    Canary("records", "nothing", "the database can be written, no record was lost", "`records.url`", records.records),
)  # fmt: skip
"""What stands beside the moderator, where the configuration names it. Reading blocks."""

SERVICE: tuple[Canary[Served], ...] = (
    Canary("service", "`GET /openapi.json`", "a Turnguard service", "`--service`, `service.host`", service.service),
    Canary("service_version", "nothing more", "the version that is installed here", "an update", service.version),
    Canary(
        "service_key", "a harmless check with the key, and one with a wrong key", "a decision, and a refusal",
        "`TURNGUARD_SERVICE_KEY`, `service.keys`", service.key,
    ),
    Canary("service_ready", "`GET /health/ready`", "its moderator answers", "its `moderator.base_url`", service.ready),
)  # fmt: skip
