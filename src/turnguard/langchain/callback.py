"""A callback handler that observes, flags or stops by exception. It needs langchain-core alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from turnguard.core.decision import Decision
from turnguard.core.errors import Blocked
from turnguard.core.step import Step, ToolCall
from turnguard.guard import Guard, GuardLike
from turnguard.langchain.judge import Judging
from turnguard.langchain.messages import asked, call_of, fingerprint
from turnguard.langchain.results import blocks_of, is_result, receive
from turnguard.langchain.rulings import Surface
from turnguard.runtime import sync
from turnguard.runtime.caches import Cache
from turnguard.transcripts import blocks
from turnguard.transcripts.conversation import Request

log = logging.getLogger("turnguard.langchain")

_RUNS = 10_000


class TurnguardCallbackHandler(BaseCallbackHandler):
    """Judges what LangChain shows to callbacks: prompts, answers, tool arguments, tool results, retrieved documents.

    Pass it as `config={"callbacks": [handler]}`; unlike middleware, callbacks reach sub-agents that are called in
    tools. What must not go on raises `Blocked` (`stop=True`); with `stop=False` it only observes. Every decision goes
    to `on_decision`, and what is not allowed to the `turnguard.langchain` log, without content.

    Its limits, which are those of callbacks: it cannot rewrite anything, so a rewrite or a review raises too; it
    cannot hold back tokens, so a streamed answer is judged when all of it has been shown; a tool result is judged
    after the tool ran; and raising ends the run with the input still in a checkpointed thread. Use
    `TurnguardMiddleware` or `guard_model` for the rest.

    One synchronous handler serves `invoke` and `ainvoke`: an asynchronous one is not heard on synchronous paths, and
    LangChain then swallows what it raises (langchain#8051).
    """

    raise_error = True

    def __init__(
        self, guard: GuardLike, *, stop: bool = True, on_decision: Callable[[Decision], None] | None = None
    ) -> None:
        self.guard = Guard.of(guard)
        self._judging = Judging(self.guard)
        self._stop = stop
        self._on_decision = on_decision
        self._requests: Cache[UUID, Request] = Cache(_RUNS)
        self._tools: Cache[UUID, str] = Cache(_RUNS)
        self._proposed: Cache[bytes, bool] = Cache(_RUNS)  # calls of a judged answer that have not begun yet
        self.raise_error = stop  # an observer's own trouble must not end anybody's run

    # ------------------------------------------------------------ what goes in

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Judge each message of the prompt that was not judged yet."""
        for batch in messages:
            self._requests.put(run_id, asked(batch, self.guard.checks.history))
            for entry in list(self._judging.unknown(batch)):
                self._rule(entry.message, entry.request)

    def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **kwargs: Any) -> None:
        """Judge the prompt of a model that is not a chat model."""
        for prompt in prompts:
            self._requests.put(run_id, asked([HumanMessage(prompt)]))
            self._rule(HumanMessage(prompt), Request())

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Judge the arguments before the tool runs."""
        name = kwargs.get("name") or (serialized or {}).get("name") or "tool"
        self._tools.put(run_id, name)
        arguments = inputs if isinstance(inputs, dict) and inputs else input_str
        call = ToolCall(name, arguments, None)
        if self._proposed.take(_key(call)):
            return  # it was judged with the answer that proposed it, against the person's request
        if not self._judging.known_call(call, Request()):
            decision = sync.run(self._judging.rule_call(call, Request()))
            if decision.action == "allow" and not decision.failed:
                self._judging.accept_call(call, Request())
            self._settle(decision)

    # ------------------------------------------------------------ what comes out

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Judge the whole answer, its calls included."""
        request = self._requests.get(run_id) or Request()
        self._requests.take(run_id)
        for generations in response.generations:
            for generation in generations:
                message = getattr(generation, "message", None)
                if isinstance(message, BaseMessage):
                    self._rule(message, request)
                    for call in message.tool_calls if isinstance(message, AIMessage) else ():
                        self._proposed.put(_key(call_of(call)), True)
                elif generation.text.strip():
                    self._settle(self.guard.check(Step.output(generation.text, prompt=request.text)))

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Judge what the tool gave back, after it ran."""
        name = self._tools.get(run_id) or kwargs.get("name") or "tool"
        self._tools.take(run_id)
        if not is_result(output):
            output = ToolMessage(blocks_of(output), tool_call_id="", name=name)
        _, rulings = sync.run(receive(self._judging, output, Request(), name, Surface()))
        for ruling in rulings:
            for decision in ruling.decisions:
                self._settle(decision)

    def on_retriever_end(self, documents: Sequence[Any], **kwargs: Any) -> None:
        """Judge retrieved documents, each on its own, with what is known about them."""
        parts = tuple(block.part for document in documents for block in blocks.read(None, artifact=_document(document)))
        if parts:
            self._settle(self.guard.check(Step("retrieval", parts)))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the run."""
        self._requests.take(run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the run."""
        self._tools.take(run_id)

    # ------------------------------------------------------------ deciding

    def _rule(self, message: BaseMessage, request: Request) -> None:
        ruling = sync.run(self._judging.rule(message, request))
        for decision in ruling.decisions:
            self._settle(decision)

    def _settle(self, decision: Decision) -> None:
        if self._on_decision is not None:
            self._on_decision(decision)
        if decision.action == "allow":
            return
        log.warning("%s", decision.summary())
        if self._stop and not decision.allowed:
            raise Blocked(decision)


def _key(call: ToolCall) -> bytes:
    return fingerprint(call.name, call.arguments)


def _document(document: Any) -> Any:
    text, metadata = getattr(document, "page_content", None), getattr(document, "metadata", None)
    return document if text is None else [text, metadata] if metadata else text
