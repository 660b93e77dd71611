"""Logs, spans and metrics that cannot leak: stages, actions, known categories, failures, counts and seconds; never
content, a cause that a server wrote, or a credential.

OpenTelemetry is used through `opentelemetry-api` alone, and only when the application has set up an SDK: until then
nothing of it is imported here and nothing is recorded. Set the SDK up before the first check that is to be seen: one
that is set up later is found within a quarter of a second.

Spans: `turnguard.check <stage>` around a check, which Langfuse and Phoenix show as a guardrail, and `chat <model>`
(GenAI conventions, client) around each request to a moderator.

Metrics: `turnguard.check.duration`, `turnguard.decisions` (by policy digest), `turnguard.rules` (by rule path),
`turnguard.shadow`, `turnguard.second_looks`, `turnguard.verdicts`, `turnguard.failures`, `turnguard.memory.hits`,
`turnguard.memory.shared`, `turnguard.reviews`, `turnguard.records.lost`, `turnguard.queue.in_flight`,
`turnguard.queue.waiting`, and `gen_ai.client.operation.duration`.
"""

from turnguard.telemetry.instruments import listening, lost, reset, reviewed, watch
from turnguard.telemetry.logs import log_decision
from turnguard.telemetry.spans import check, request, shared_memory

__all__ = ["check", "listening", "log_decision", "lost", "request", "reset", "reviewed", "shared_memory", "watch"]
