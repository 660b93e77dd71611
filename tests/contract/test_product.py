"""The whole product over a real vLLM: every stage, pictures, tiles, windows, streams, transcripts, and both frameworks.

What the tiny moderator calls unsafe is a toy's choice; that it decides what each surface does is not.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.contract.wire import CATEGORY, REFUSAL, SAFE, UNSAFE, UNSAFE_ANSWER, Server
from tests.nemo.conftest import guards_closed  # noqa: F401 - NeMo's apps cannot be closed; it is used by being here
from turnguard import Decision, Guard, Step, Text

pytestmark = pytest.mark.vllm
ROOT = Path(__file__).parents[2]
CALM = "The train to the city leaves at nine, and the museum near the station opens an hour later. "
NO = "NO WAY"


def settings(server: Server, **moderator: Any) -> dict[str, Any]:
    return {
        "moderator": {"base_url": server.base_url, "deadline": "60s", **moderator},
        "media": {"deadline": "60s"},
        "stream": {"max_delay": "5s"},
        "policy": {
            "categories": {"Malware": "flag", "PII/Privacy": {"action": "rewrite", "with": "redact"}},
            "messages": {"default": {"en": NO}, CATEGORY: {"en": NO}, "Violence": {"en": NO}},
        },
    }


@pytest.fixture
async def guard(vllm: Server) -> AsyncIterator[Guard]:
    async with Guard.from_dict(settings(vllm)) as guard:
        yield guard


def picture(*patches: tuple[int, int, int, int], size: tuple[int, int] = (640, 400)) -> bytes:
    """Green with white lines, and red where a patch (left, upper, right, lower) is."""
    image = Image.new("RGB", size, (20, 160, 60))
    for at in range(0, size[1], 40):
        image.paste((255, 255, 255), (0, at, size[0], at + 2))
    for box in patches:
        image.paste((220, 20, 30), box)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


CALL, BAD_CALL = {"query": "weather in Berlin"}, {"query": "how to build a bomb"}
STEPS: dict[str, tuple[Step, Step]] = {
    "input": (Step.input(SAFE), Step.input(UNSAFE)),
    "retrieval": (Step.retrieval([CALM], prompt=SAFE), Step.retrieval([CALM, UNSAFE], prompt=SAFE)),
    "tool_call": (
        Step.tool_call("search", CALL, prompt="What is the weather like?"),
        Step.tool_call("search", BAD_CALL, prompt="What is the weather like?"),
    ),
    "tool_result": (Step.tool_result("search", CALM, prompt=SAFE), Step.tool_result("search", UNSAFE, prompt=SAFE)),
    "output": (Step.output(CALM, prompt="When does it open?"), Step.output(UNSAFE_ANSWER, prompt=SAFE)),
}


class TestGuard:
    @pytest.mark.parametrize("stage", STEPS)
    async def test_every_stage(self, guard: Guard, stage: str) -> None:
        safe, unsafe = STEPS[stage]
        passed, blocked = await guard.acheck(safe), await guard.acheck(unsafe)
        assert (passed.action, passed.failed, passed.message) == ("allow", False, None)
        assert (blocked.action, blocked.failed, blocked.content) == ("block", False, ())
        assert CATEGORY in blocked.verdict.categories
        assert blocked.message == NO
        assert blocked.coverage.complete

    async def test_a_refusal_of_an_unsafe_request_is_a_safe_output(self, guard: Guard) -> None:
        decision = await guard.acheck(Step.output(REFUSAL, prompt=UNSAFE))
        assert (decision.action, decision.escalates) == ("allow", True)

    async def test_the_policy_decides(self, guard: Guard) -> None:
        assert (await guard.acheck(Step.input("Write some ransomware in Python"))).action == "flag"

    async def test_a_rewrite_is_judged_again(self, guard: Guard) -> None:
        decision = await guard.acheck(Step.input(f"{CALM}\n\nMy passport number is 123456789.\n\n{CALM}"))
        assert decision.action == "rewrite"
        (part,) = decision.content
        assert isinstance(part, Text)
        assert part.text.startswith(CALM.strip())
        assert "passport" not in part.text

    async def test_what_was_judged_is_remembered(self, guard: Guard) -> None:
        first, second = [await guard.acheck(Step.input(SAFE)) for _ in range(2)]
        assert (first.remembered, second.remembered) == (False, True)

    async def test_p_unsafe_reaches_the_policy(self, vllm: Server) -> None:
        rule = {"action": "block", "above": 0.999999, "otherwise": "flag"}
        data = settings(vllm)
        data["policy"]["categories"][CATEGORY] = rule
        async with Guard.from_dict(data) as guard:
            decision = await guard.acheck(Step.input(UNSAFE))
        assert decision.action == "flag"
        assert decision.verdict.p_unsafe is not None
        assert 0.5 < decision.verdict.p_unsafe < 0.999999

    async def test_from_synchronous_code(self, vllm: Server) -> None:
        import asyncio

        def judge() -> Decision:
            guard = Guard.from_dict(settings(vllm))
            decision = guard.check(Step.input(UNSAFE))
            guard.close()
            return decision

        assert (await asyncio.to_thread(judge)).action == "block"


class TestPictures:
    async def test_one_of_several(self, guard: Guard) -> None:
        red = picture((0, 0, 640, 400))
        passed = await guard.acheck(Step.input("What is this?", images=[picture(), picture((1, 1, 2, 2))]))
        blocked = await guard.acheck(Step.tool_result("look", "Two pictures.", images=[picture(), red], prompt=SAFE))
        assert (passed.action, blocked.action) == ("allow", "block")
        assert "Violence" in blocked.verdict.categories

    async def test_small_print_in_a_large_screenshot(self, guard: Guard) -> None:
        """Too little of the whole to count, and much of a tile."""
        size = (2600, 1700)
        small = picture((1900, 1200, 2280, 1520), size=size)
        passed = await guard.acheck(Step.input("What is this?", images=[picture(size=size)]))
        blocked = await guard.acheck(Step.input("What is this?", images=[small]))
        assert (passed.action, blocked.action) == ("allow", "block")
        assert sum("tile" in entry.detail for entry in blocked.coverage.judged) > 2
        assert not blocked.failed

    async def test_beside_an_answer(self, guard: Guard) -> None:
        step = Step.output(CALM, prompt="What is this?", prompt_images=[picture()])
        assert (await guard.acheck(step)).action == "allow"


class TestLength:
    @pytest.mark.parametrize("place", [0, 12, 24])
    async def test_windows(self, vllm: Server, place: int) -> None:
        text = CALM * place + UNSAFE + " " + CALM * (24 - place)
        async with Guard.from_dict(settings(vllm, max_input_tokens=200)) as guard:
            passed, blocked = await guard.acheck(Step.input(CALM * 24)), await guard.acheck(Step.input(text))
        assert (passed.action, blocked.action) == ("allow", "block")
        assert len(passed.coverage.judged) > 2
        assert not blocked.failed


class TestStreams:
    async def streamed(self, guard: Guard, text: str) -> tuple[str, Decision]:
        async def words() -> AsyncIterator[str]:
            for word in text.split(" "):
                yield word + " "

        stream = guard.astream(words(), prompt="What do you know?")
        said = "".join([chunk async for chunk in stream])
        assert stream.decision is not None
        return said, stream.decision

    async def test_a_safe_one_comes_whole(self, guard: Guard) -> None:
        said, decision = await self.streamed(guard, CALM * 6)
        assert said.strip() == (CALM * 6).strip()
        assert decision.action == "allow"

    async def test_an_unsafe_one_ends_in_the_refusal(self, guard: Guard) -> None:
        said, decision = await self.streamed(guard, CALM * 4 + UNSAFE_ANSWER + " " + CALM * 4)
        assert decision.action == "block"
        assert "bomb" not in said
        assert said.endswith(NO)


async def test_a_transcript(guard: Guard) -> None:
    messages = [
        {"role": "system", "content": UNSAFE},
        {"role": "user", "content": SAFE},
        {"role": "assistant", "content": CALM},
        {"role": "user", "content": UNSAFE},
        {"role": "assistant", "content": REFUSAL},
    ]
    for _ in range(2):
        decisions = await guard.acheck_messages(messages)
        assert [decision.action for decision in decisions] == ["allow", "allow", "block", "allow"]
        assert [decision.where for decision in decisions] == [(n, 0) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(("text", "code"), [(SAFE, 0), (UNSAFE, 1)])
def test_the_command_line(vllm: Server, tmp_path: Path, text: str, code: int) -> None:
    file = tmp_path / "turnguard.yaml"
    file.write_text(f"moderator: {{base_url: '{vllm.base_url}', deadline: 60s}}\npolicy: {{}}\n", encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        "from turnguard.cli import main; import sys; sys.exit(main())",
        "check",
        "--config",
        str(file),
        text,
    ]
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == code


@pytest.mark.filterwarnings("ignore:Use 'nim_[a-z_]+' instead:DeprecationWarning")
async def test_nemo_s_shortest_configuration(vllm: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nemoguardrails")
    from nemoguardrails import LLMRails, RailsConfig

    from tests.nemo.lab import Main, assistant, user

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    shutil.copy(ROOT / "config_examples" / "nemo" / "minimal" / "config.yml", tmp_path)
    text = f"moderator: {{base_url: '{vllm.base_url}', deadline: 60s}}\npolicy: {{messages: {{{CATEGORY}: {{en: {NO}}}}}}}\n"
    (tmp_path / "turnguard.yaml").write_text(text, encoding="utf-8")
    main = Main(CALM.strip(), UNSAFE_ANSWER)
    rails = LLMRails(RailsConfig.from_path(str(tmp_path)), llm=main)

    assert await rails.generate_async(messages=[user("When does it open?")]) == assistant(CALM.strip())
    assert await rails.generate_async(messages=[user(SAFE)]) == assistant(NO)
    asked = len(main.prompts)
    assert await rails.generate_async(messages=[user(UNSAFE)]) == assistant(NO)
    assert len(main.prompts) == asked


async def test_langchain_s_agent(guard: Guard) -> None:
    pytest.importorskip("langchain")
    from langchain.agents import create_agent
    from langchain_core.messages import HumanMessage
    from langchain_core.tools import tool

    from tests.langchain.kit import Scripted, calls
    from turnguard.langchain import TurnguardMiddleware

    ran: list[str] = []

    @tool
    def search(q: str) -> str:
        """Search."""
        ran.append(q)
        return UNSAFE if "secret" in q else CALM

    script = [calls("museum"), calls("build a bomb", first=1), calls("secret page", first=2), CALM]
    model = Scripted(script=script)
    agent = create_agent(model, [search], middleware=[TurnguardMiddleware(guard)])
    found = await agent.ainvoke({"messages": [HumanMessage("When does the museum open?")]})

    assert ran == ["museum", "secret page"]
    assert found["messages"][-1].content == CALM
    seen = repr(model.prompts)
    assert UNSAFE not in seen
    blocked = await agent.ainvoke({"messages": [HumanMessage(UNSAFE)]})
    assert blocked["messages"][-1].content == NO
    assert UNSAFE not in repr(blocked)
