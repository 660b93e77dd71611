"""What NeMo wraps around `LLMRails`: its own `Guardrails`, LangChain's `RunnableRails` and `GuardrailsMiddleware`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nemoguardrails import Guardrails, RailsConfig
from nemoguardrails.rails.llm.options import RailStatus

from tests.nemo.lab import BAD, BLUE, QUIET, RED, REFUSAL, Lab, Main, assistant, leaks, user
from turnguard.testing import FakeVLLM

pytest.importorskip("langchain_core", reason="the langchain extra is not installed")
pytestmark = [QUIET, pytest.mark.filterwarnings("ignore:Accessing the 'model_fields' attribute:DeprecationWarning")]


@pytest.fixture
def moderator() -> Iterator[FakeVLLM]:
    """Unsafe by word."""
    with FakeVLLM() as fake:
        fake.when(BAD, user="unsafe", response="unsafe", categories=["Violence"])
        fake.when("4111-1111", user="unsafe", response="unsafe", categories=["PII/Privacy"])
        yield fake


def yaml(moderator: FakeVLLM) -> str:
    """The drop-in, with its settings inline."""
    policy = {
        "categories": {"PII/Privacy": {"action": "rewrite", "with": "redact"}},
        "messages": {"Violence": {"en": REFUSAL}},
    }
    rails = {
        "input": {"flows": ["turnguard check input"]},
        "output": {"flows": ["turnguard check output"], "streaming": {"enabled": True}},
        "tool_output": {"flows": ["turnguard check tool call"]},
        "tool_input": {"flows": ["turnguard check tool result"]},
    }
    settings = {"moderator": {"base_url": moderator.base_url}, "policy": policy}
    return json.dumps(
        {
            "models": [],
            "passthrough": True,
            "import_paths": ["turnguard/rails"],
            "custom_data": {"turnguard": settings},
            "rails": rails,
        }
    )


async def test_nemos_guardrails_class(moderator: FakeVLLM) -> None:
    main = Main(f"one two three {BAD}")
    rails = Guardrails(RailsConfig.from_content(yaml_content=yaml(moderator)), llm=main)
    assert await rails.generate_async(messages=[user(BAD)]) == assistant(REFUSAL)
    assert main.prompts == []
    assert await rails.generate_async(messages=[user("hi")]) == assistant(REFUSAL)
    chunks = [chunk async for chunk in rails.stream_async(messages=[user("hi")])]
    assert not leaks(chunks)
    assert (await rails.check_async([user(BAD)])).status == RailStatus.BLOCKED


# ---------------------------------------------------------------- RunnableRails around a runnable


class Wrapped:
    """`RunnableRails` around a runnable that keeps what it was invoked with."""

    def __init__(self, reply: Any, **settings: Any) -> None:
        from langchain_core.runnables import RunnableLambda
        from nemoguardrails.integrations.langchain.runnable_rails import RunnableRails

        self.lab = Lab(**settings)
        self.seen: list[str] = []

        def run(given: Any) -> Any:
            self.seen.append(repr(given))
            return reply

        self.rails = RunnableRails(self.lab.rails.config, llm=None, runnable=RunnableLambda(run))
        self.rails.rails = self.lab.rails
        self.rails._init_passthrough_fn()


def said(form: str, text: str) -> Any:
    """What a runnable may give back."""
    from langchain_core.messages import AIMessage

    return {"text": text, "mapping": {"output": text}, "message": AIMessage(text)}[form]


FORMS = pytest.mark.parametrize("form", ["text", "mapping", "message"])


@FORMS
async def test_what_a_runnable_says_is_withheld_whatever_its_form(form: str) -> None:
    wrapped = Wrapped(said(form, f"a {BAD}"))
    answer = await wrapped.rails.ainvoke("hi")
    assert not leaks(answer)
    assert REFUSAL in repr(answer)
    wrapped = Wrapped(said(form, f"one two three {BAD}"))
    assert not leaks([chunk async for chunk in wrapped.rails.astream("hi")])


@FORMS
async def test_what_a_runnable_says_is_rewritten_whatever_its_form(form: str) -> None:
    answer = await Wrapped(said(form, "your card\n4111-1111")).rails.ainvoke("hi")
    assert "4111-1111" not in repr(answer)
    assert "your card" in repr(answer)
    assert "fine" in repr(await Wrapped(said(form, "fine")).rails.ainvoke("hi"))


async def test_what_a_runnable_gives_beside_its_text_is_judged() -> None:
    from langchain_core.messages import AIMessage

    answer = await Wrapped({"output": "fine", "more": f"a {BAD}"}).rails.ainvoke("hi")
    assert not leaks(answer)
    answer = await Wrapped({"output": "fine", "more": "my\n4111-1111"}).rails.ainvoke("hi")
    assert "4111-1111" not in repr(answer)
    call = {"name": "shell", "args": {"cmd": BAD}, "id": "c1", "type": "tool_call"}
    answer = await Wrapped(AIMessage("", tool_calls=[call])).rails.ainvoke("hi")
    assert not leaks(answer)
    call["args"] = {"cmd": "ls"}
    answer = await Wrapped(AIMessage("", tool_calls=[call])).rails.ainvoke("hi")
    assert answer.tool_calls[0]["args"] == {"cmd": "ls"}


@pytest.mark.parametrize(
    "given", ["my card\n4111-1111", {"input": "my card\n4111-1111", "other": "x"}], ids=["text", "mapping"]
)
async def test_a_runnable_is_invoked_with_the_rewrite(given: Any) -> None:
    wrapped = Wrapped("fine")
    assert "fine" in repr(await wrapped.rails.ainvoke(given))
    assert "my card" in wrapped.seen[0]
    assert "4111-1111" not in wrapped.seen[0]


@pytest.mark.parametrize(
    "given",
    # without the key that holds the person's text, NeMo takes the mapping's own form for it
    [{"question": "my card\n4111-1111"}, {"input": "hi", "question": "my card\n4111-1111"}],
    ids=["no text", "beside the text"],
)
async def test_a_rewrite_that_cannot_be_carried_into_the_runnables_input_is_a_block(given: Any) -> None:
    wrapped = Wrapped("fine")
    answer = await wrapped.rails.ainvoke(given)
    assert wrapped.seen == []
    assert "fine" not in repr(answer)
    assert "4111-1111" not in repr(answer)


@pytest.mark.parametrize(
    "given", [{"input": "hi", "question": BAD}, {"input": "hi", "pictures": [RED]}, BAD, {"input": BAD}], ids=repr
)
async def test_everything_that_a_runnable_would_be_invoked_with_is_judged(given: Any) -> None:
    wrapped = Wrapped("fine")
    answer = await wrapped.rails.ainvoke(given)
    assert REFUSAL in repr(answer)
    assert wrapped.seen == []


# ---------------------------------------------------------------- GuardrailsMiddleware


class Agent:
    """A LangChain agent behind NeMo's own middleware."""

    def __init__(self, folder: Path, moderator: FakeVLLM, *replies: Any, shot: str = "a desktop") -> None:
        from langchain.agents import create_agent
        from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
        from langchain_core.messages import AIMessage
        from langchain_core.tools import tool
        from nemoguardrails.integrations.langchain.middleware import GuardrailsMiddleware

        (folder / "config.yml").write_text(yaml(moderator))
        self.ran: list[str] = []
        self.seen: list[str] = []

        @tool
        def shell(cmd: str) -> str:
            """Run a command."""
            self.ran.append(cmd)
            return shot

        seen = self.seen

        class Model(GenericFakeChatModel):
            def bind_tools(self, tools: Any, **_more: Any) -> Any:
                return self

            def _generate(self, messages: Any, *args: Any, **more: Any) -> Any:
                seen.append(repr(messages))
                return super()._generate(messages, *args, **more)

        model = Model(messages=iter([AIMessage(each) if isinstance(each, str) else each for each in replies]))
        self.agent = create_agent(model, [shell], middleware=[GuardrailsMiddleware(config_path=str(folder))])

    async def say(self, *messages: Any) -> list[Any]:
        """The messages at the end."""
        found: list[Any] = (await self.agent.ainvoke({"messages": list(messages)}))["messages"]
        return found


def calls(cmd: str) -> Any:
    """A message that calls the tool."""
    from langchain_core.messages import AIMessage

    return AIMessage("", tool_calls=[{"name": "shell", "args": {"cmd": cmd}, "id": "c1", "type": "tool_call"}])


async def test_nemos_middleware_lets_no_unsafe_step_go_on(tmp_path: Path, moderator: FakeVLLM) -> None:
    """It keeps what it blocks in the agent's state, which is its own doing: our middleware does not."""
    pytest.importorskip("langchain.agents")
    from langchain_core.messages import HumanMessage, ToolMessage

    agent = Agent(tmp_path, moderator, "fine")
    assert (await agent.say(HumanMessage(BAD)))[-1].content.startswith("I cannot process")
    assert agent.seen == []
    agent = Agent(tmp_path, moderator, f"a {BAD}")
    assert (await agent.say(HumanMessage("hi")))[-1].content.startswith("I cannot provide")
    agent = Agent(tmp_path, moderator, calls(BAD), "done")
    assert (await agent.say(HumanMessage("hi")))[-1].content.startswith("I cannot provide")
    assert agent.ran == []
    agent = Agent(tmp_path, moderator, calls("ls"), "done", shot=BAD)
    assert (await agent.say(HumanMessage("hi")))[-1].content.startswith("I cannot process")
    assert agent.ran == ["ls"]
    assert len(agent.seen) == 1
    agent = Agent(tmp_path, moderator, calls("ls"), f"done {BAD}")
    assert (await agent.say(HumanMessage("hi")))[-1].content.startswith("I cannot provide")
    past = [HumanMessage("go"), calls("ls"), ToolMessage("ok", tool_call_id="c1")]
    agent = Agent(tmp_path, moderator, "fine")
    assert (await agent.say(*past, HumanMessage(BAD)))[-1].content.startswith("I cannot process")
    assert agent.seen == []


async def test_nemos_middleware_lets_safe_steps_through_whole(tmp_path: Path, moderator: FakeVLLM) -> None:
    pytest.importorskip("langchain.agents")
    from langchain_core.messages import HumanMessage

    agent = Agent(tmp_path, moderator, calls("ls"), "done")
    messages = await agent.say(HumanMessage("list my files"))
    assert [message.content for message in messages] == ["list my files", "", "a desktop", "done"]
    agent = Agent(tmp_path, moderator, "nice")
    picture = {"type": "image_url", "image_url": {"url": BLUE}}
    messages = await agent.say(HumanMessage([{"type": "text", "text": "look"}, picture]))
    assert messages[-1].content == "nice"
    assert BLUE[30:] in agent.seen[0]
    agent = Agent(tmp_path, moderator, "nice")
    await agent.say(HumanMessage("my card\n4111-1111"))
    assert "my card" in agent.seen[0]
    assert "4111-1111" not in agent.seen[0]
