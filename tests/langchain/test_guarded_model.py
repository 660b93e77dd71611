"""A guarded model is a model of the user's own class: everything but its answers is as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRequest, wrap_model_call
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler, get_usage_metadata_callback
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField
from langchain_core.tracers.context import register_configure_hook
from pydantic import BaseModel, ConfigDict, PrivateAttr

from tests.langchain.kit import UNSAFE, Scripted, Witness, both, guard, said
from turnguard import Blocked
from turnguard.core.errors import ConfigError
from turnguard.langchain import TurnguardMiddleware, guard_model

USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}


def counted(text: str) -> AIMessage:
    """An answer that says what it cost."""
    return AIMessage(text, usage_metadata=USAGE, response_metadata={"model_name": "small"})


class Reported(Scripted):
    """Reports more than a message, as providers do."""

    model_config = ConfigDict(extra="forbid")
    temperature: float = 0.0
    _served: int = PrivateAttr(default=0)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self._served += 1
        message = self._next(messages)
        info = {"finish_reason": "stop", "logprobs": [str(message.content)]}
        output = {"token_usage": {"total_tokens": 7}, "model_name": "small", "echo": str(message.content)}
        return ChatResult(generations=[ChatGeneration(message=message, generation_info=info)], llm_output=output)

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return self._generate(messages, stop, run_manager, **kwargs)

    @property
    def served(self) -> int:
        """How often it was called."""
        return self._served


def test_the_result_is_of_the_models_own_class_and_describes_itself_as_before() -> None:
    model = Reported(script=["Fine."])
    guarded = guard_model(model, guard())
    assert isinstance(guarded, Reported)
    assert type(guarded).__name__ == "Reported"
    assert guarded.get_name() == model.get_name()
    assert type(guarded).lc_id() == type(model).lc_id()
    assert guarded._serialized == model._serialized
    assert guarded._get_invocation_params() == model._get_invocation_params()
    assert guarded.model_dump() == model.model_dump()


def test_state_is_shared_and_copies_stay_guarded() -> None:
    model = Reported(script=[f"{UNSAFE} words"])
    guarded = guard_model(model, guard())
    assert UNSAFE not in str(guarded.invoke("hi").content)
    assert model.served == guarded.served == 1
    guarded.temperature = 0.5
    assert model.temperature == 0.5
    for other in (copy.copy(guarded), copy.deepcopy(guarded), guarded.model_copy(update={"temperature": 0.7})):
        assert isinstance(other, Reported)
        assert UNSAFE not in str(other.invoke("hi").content)
    assert model.temperature == 0.5


def test_a_field_that_the_model_writes_while_it_answers_keeps_its_value() -> None:
    guarded = guard_model(FakeListChatModel(responses=["one", "two", "three"]), guard())
    assert [guarded.invoke("hi").content for _ in range(3)] == ["one", "two", "three"]


def test_finish_reason_and_usage_are_reported_and_nothing_of_a_withheld_answer_is() -> None:
    for text in ("Fine.", f"{UNSAFE} words"):
        plain, ours = Witness(), Witness()
        unguarded = Reported(script=[text]).invoke("hi", {"callbacks": [plain]})
        guarded = guard_model(Reported(script=[text]), guard()).invoke("hi", {"callbacks": [ours]})
        assert [name for name, _ in plain.seen] == [name for name, _ in ours.seen]
        if text == "Fine.":
            assert guarded.response_metadata == unguarded.response_metadata
        else:
            assert UNSAFE not in repr(ours.seen)
            assert UNSAFE not in repr(guarded)
            assert guarded.response_metadata["token_usage"] == {"total_tokens": 7}


def test_all_of_several_answers_are_judged() -> None:
    class Several(Scripted):
        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
            texts = ["Fine.", f"{UNSAFE} words", "Good."]
            return ChatResult(generations=[ChatGeneration(message=AIMessage(text)) for text in texts])

    result = guard_model(Several(script=[]), guard()).generate([[said()["messages"][0]]])
    first, second, third = (generation.text for generation in result.generations[0])
    assert (first, third) == ("Fine.", "Good.")
    assert UNSAFE not in second


async def test_tokens_are_counted_once_and_one_run_is_heard() -> None:
    def agent() -> Any:
        return create_agent(Scripted(script=[counted("Fine.")]), middleware=[TurnguardMiddleware(guard())])

    for asynchronous in (False, True):
        witness = Witness()
        with get_usage_metadata_callback() as usage:
            config = {"callbacks": [witness]}
            await agent().ainvoke(said(), config) if asynchronous else agent().invoke(said(), config)
        assert usage.usage_metadata["small"]["total_tokens"] == 7
        assert sum(name == "on_chat_model_start" for name, _ in witness.seen) == 1
    own = UsageMetadataCallbackHandler()
    guard_model(Scripted(script=[counted("Fine.")]), guard()).invoke("hi", {"callbacks": [own]})
    assert own.usage_metadata["small"]["total_tokens"] == 7


def test_a_handler_of_a_configure_hook_hears_judged_words_alone() -> None:
    from contextvars import ContextVar

    listening: ContextVar[BaseCallbackHandler | None] = ContextVar("listening", default=None)
    register_configure_hook(listening, inheritable=True)
    witness = Witness()
    token = listening.set(witness)
    try:
        agent = create_agent(Scripted(script=[f"{UNSAFE} words"]), middleware=[TurnguardMiddleware(guard())])
        agent.invoke(said())
        list(agent.stream(said(), stream_mode="messages"))
    finally:
        listening.reset(token)
    assert witness.seen
    assert UNSAFE not in repr(witness.seen)


def test_callbacks_of_the_model_itself_hear_judged_words_once() -> None:
    witness = Witness()
    guarded = guard_model(Scripted(script=[f"{UNSAFE} words"], callbacks=[witness]), guard())
    guarded.invoke("hi")
    list(guarded.stream("hi"))
    assert sum(name == "on_chat_model_start" for name, _ in witness.seen) == 2
    assert UNSAFE not in repr(witness.seen)


@pytest.mark.parametrize("field", ["content", "note"])
def test_what_changes_in_a_message_that_is_known_is_judged(field: str) -> None:
    model = Scripted(script=["Fine.", "Fine.", "Fine."])
    guarded = guard_model(model, guard())
    question = HumanMessage("Hello", id="1")
    assert guarded.invoke([question]).content == "Fine."
    assert guarded.invoke([question]).content == "Fine."
    setattr(question, field, UNSAFE)
    assert guarded.invoke([question]).content != "Fine."
    assert len(model.prompts) == 2


def test_a_remembered_answer_is_judged_and_stays_the_models_own() -> None:
    cache = InMemoryCache()
    model = Reported(script=[f"{UNSAFE} words", "Fine."], cache=cache)
    assert UNSAFE in str(model.invoke("hi").content)
    guarded = guard_model(model, guard())
    assert UNSAFE not in str(guarded.invoke("hi").content)
    assert model.served == 1
    assert UNSAFE in str(model.invoke("hi").content), "what was remembered is what the model said"


def test_the_pace_of_calls_is_kept_once() -> None:
    class Counted(InMemoryRateLimiter):
        taken = 0

        def acquire(self, *, blocking: bool = True) -> bool:
            Counted.taken += 1
            return True

    guarded = guard_model(Scripted(script=["Fine."], rate_limiter=Counted(requests_per_second=1)), guard())
    guarded.invoke("hi")
    assert Counted.taken == 1
    list(guarded.stream("hi"))
    assert Counted.taken == 2


def test_a_model_with_configurable_fields_takes_them_from_the_configuration() -> None:
    field = ConfigurableField(id="script")
    made: list[Any] = [
        guard_model(Scripted(script=["Fine."]).configurable_fields(script=field), guard()),
        guard_model(Scripted(script=["Fine."]), guard()).configurable_fields(script=field),
    ]
    for model in made:
        assert model.invoke("hi").content == "Fine."
        assert model.invoke("hi", {"configurable": {"script": ["Other."]}}).content == "Other."
        configured = model.with_config(configurable={"script": [f"{UNSAFE} words"]})
        for answer in both(lambda one=configured: one.invoke("hi"), lambda one=configured: one.ainvoke("hi")):
            assert UNSAFE not in answer.content
        assert UNSAFE not in repr(list(configured.stream("hi")))


def test_alternatives_are_guarded() -> None:
    safe, unsafe = Scripted(script=["Fine."]), Scripted(script=[f"{UNSAFE} words"])
    which = ConfigurableField(id="which")
    for model in (
        guard_model(safe.configurable_alternatives(which, other=unsafe), guard()),
        guard_model(safe.configurable_alternatives(which, other=lambda: unsafe), guard()),
        guard_model(safe, guard()).configurable_alternatives(which, other=unsafe),
    ):
        answer: Any = model.with_config(configurable={"which": "other"}).invoke("hi")
        assert answer.content
        assert UNSAFE not in answer.content


def test_fallbacks_are_guarded_and_stream() -> None:
    model = Scripted(script=[ValueError("down")]).with_fallbacks([Scripted(script=[f"Good. {UNSAFE} words"])])
    guarded: Any = guard_model(model, guard())
    assert type(guarded) is type(model)
    assert UNSAFE not in guarded.invoke("hi").content
    assert UNSAFE not in repr(list(guarded.stream("hi")))


def test_a_class_that_overrides_invoke_is_judged_by_what_it_gives() -> None:
    class Own(Scripted):
        def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> AIMessage:  # noqa: A002
            return AIMessage(f"{UNSAFE} words")

        async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> AIMessage:  # noqa: A002
            return AIMessage(f"{UNSAFE} words")

        def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Iterator[AIMessageChunk]:  # noqa: A002
            yield AIMessageChunk(content=f"{UNSAFE} words")

    guarded = guard_model(Own(script=["Fine."]), guard())
    for answer in both(lambda: guarded.invoke("hi"), lambda: guarded.ainvoke("hi")):
        assert UNSAFE not in answer.content
    assert UNSAFE not in repr(list(guarded.stream("hi")))


def test_a_class_that_cannot_be_guarded_is_refused_when_it_is_given() -> None:
    class Closed(Scripted):
        def __init_subclass__(cls, **kwargs: Any) -> None:
            raise TypeError("no subclasses")

    class Other(Scripted):
        def generate(self, *args: Any, **kwargs: Any) -> Any:
            return super().generate(*args, **kwargs)

    with pytest.raises(ConfigError, match=r"Closed cannot be guarded.*no subclasses"):
        guard_model(Closed(script=[]), guard())
    with pytest.raises(ConfigError, match="Other cannot be guarded: it overrides generate"):
        guard_model(Other(script=[]), guard())
    with pytest.raises(ConfigError, match="not str"):
        guard_model("gpt-5", guard())  # type: ignore[call-overload]
    made = type(guard_model(Scripted(script=[]), guard()))(script=["Fine."])
    with pytest.raises(ConfigError, match="guard it by itself"):
        made.invoke("hi")


class Reply(BaseModel):
    """A reply in a form."""

    text: str


class Forming(Scripted):
    """Answers in a form by a call, as most providers do."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=[])


@pytest.mark.parametrize("include_raw", [False, True])
def test_a_refusal_under_structured_output_raises_blocked(include_raw: bool) -> None:
    def structured(text: str) -> Any:
        call = {"name": "Reply", "args": {"text": text}, "id": "1"}
        model = guard_model(Forming(script=[AIMessage("", tool_calls=[call])]), guard())
        return model.with_structured_output(Reply, include_raw=include_raw)

    fine = structured("Fine.").invoke("hi")
    assert (fine["parsed"] if include_raw else fine) == Reply(text="Fine.")
    for given, question in ((UNSAFE, "hi"), ("Fine.", UNSAFE)):
        chain = structured(given)
        if include_raw:
            for answer in both(lambda one=chain: one.invoke(question), lambda one=chain: one.ainvoke(question)):  # noqa: B023
                assert isinstance(answer["parsing_error"], Blocked)
                assert answer["parsed"] is None
                assert UNSAFE not in str(answer["raw"].content)
        else:
            with pytest.raises(Blocked):
                chain.invoke(question)
            with pytest.raises(Blocked):
                list(chain.stream(question))


# ---------------------------------------------------------------- another model in the place of the agent's


def selection(model: BaseChatModel) -> Any:
    """Dynamic selection of a model."""

    @wrap_model_call
    def choose(request: ModelRequest[Any], handler: Callable[[Any], Any]) -> Any:
        return handler(request.override(model=model))

    return choose


def fallback(model: BaseChatModel) -> Any:
    """A fallback from a model that is down."""
    return ModelFallbackMiddleware(model)


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("kind", [selection, fallback])
def test_another_model_streams_and_is_judged_wherever_we_stand(kind: Callable[[Any], Any], place: str) -> None:
    def shown(text: str) -> list[str]:
        down = Scripted(script=[ValueError("down")])
        ours, other = TurnguardMiddleware(guard(stream={"window": 20})), kind(Scripted(script=[text]))
        agent = create_agent(down, middleware=[ours, other] if place == "first" else [other, ours])
        chunks: list[Any] = [chunk for chunk, _ in agent.stream(said(), stream_mode="messages")]
        return [chunk.content for chunk in chunks if chunk.content]

    words = "one two three four five six seven eight nine ten eleven twelve"
    assert len(shown(words)) > 3
    assert "".join(shown(words)) == words
    assert UNSAFE not in "".join(shown(f"{words} {UNSAFE} words"))
