"""One contestant in a process of its own: `python worker.py NAME BASE_URL`.

Reads lines of "START CALLS" and answers each with a JSON line: CPU milliseconds per turn, wall milliseconds (median),
and turns a second at 64 in flight.

A *check* is one guarded input. A *turn* is input check + the agent's model + output check. Turnguard is imported only
where it is the contestant itself, since this runs in the peers' environments too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

Turn = Callable[[str], Awaitable[object]]

TEXT = "How do I bake bread with rye flour and very little time, number {}?"


async def turnguard_check(url: str) -> Turn:
    guard, _, step = _turnguard(url)

    async def check(text: str) -> None:
        assert (await guard.acheck(step.input(text))).allowed

    return check


async def turnguard_turn(url: str) -> Turn:
    """The model is called with the `openai` client, as openai-guardrails calls it."""
    guard, client, step = _turnguard(url)

    async def turn(text: str) -> None:
        assert (await guard.acheck(step.input(text))).allowed
        answer = await client.chat.completions.create(model="main", messages=[{"role": "user", "content": text}])
        assert (await guard.acheck(step.output(answer.choices[0].message.content + text, prompt=text))).allowed

    return turn


def _turnguard(url: str) -> Any:
    import openai

    from turnguard import Guard, Step

    guard = Guard.from_dict({"moderator": {"base_url": url, "max_in_flight": 256, "deadline": "30s"}})
    return guard, openai.AsyncOpenAI(base_url=url, api_key="x"), Step


async def openai_bare(url: str) -> Turn:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="x")

    async def call(text: str) -> None:
        await client.chat.completions.create(model="main", messages=[{"role": "user", "content": text}], max_tokens=20)

    return call


async def openai_guardrails_check(url: str) -> Turn:
    """The Moderation check: one call, no prompt of its own."""
    from types import SimpleNamespace

    import openai
    from guardrails import instantiate_guardrails, load_config_bundle, run_guardrails

    context = SimpleNamespace(guardrail_llm=openai.AsyncOpenAI(base_url=url, api_key="x"))
    bundle = load_config_bundle({"guardrails": [{"name": "Moderation", "config": {}}]})
    checks = instantiate_guardrails(bundle)

    async def check(text: str) -> None:
        (result,) = await run_guardrails(context, text, "text/plain", checks)
        assert not result.execution_failed
        assert not result.tripwire_triggered

    return check


async def openai_guardrails_turn(url: str) -> Turn:
    from guardrails import GuardrailsAsyncOpenAI

    check = {
        "guardrails": [{"name": "Jailbreak", "config": {"model": "judge", "confidence_threshold": 0.7}}],
        "version": 1,
    }
    client = GuardrailsAsyncOpenAI(config={"version": 1, "input": check, "output": check}, base_url=url, api_key="x")

    async def turn(text: str) -> None:
        await client.chat.completions.create(model="main", messages=[{"role": "user", "content": text}])

    return turn


NEMO = """
models:
  - {{type: main, engine: openai, model: main, parameters: {{base_url: "{url}", api_key: x}}}}
  - type: content_safety
    engine: openai
    model: nemotron_moderator
    parameters: {{base_url: "{url}", api_key: x, chat_template_kwargs: {{request_categories: "/categories"}}}}
passthrough: true
rails:
  input: {{flows: ["content safety check input $model=content_safety"]}}
  output: {{flows: ["content safety check output $model=content_safety"]}}
prompts:
  - task: content_safety_check_input $model=content_safety
    messages: [{{type: user, content: "{{{{ user_input }}}}"}}]
    output_parser: nemotron_content_safety_parse_prompt_safety
    max_tokens: 100
  - task: content_safety_check_output $model=content_safety
    messages: [{{type: user, content: "{{{{ user_input }}}}"}}, {{type: assistant, content: "{{{{ bot_response }}}}"}}]
    output_parser: nemotron_content_safety_parse_response_safety
    max_tokens: 100
"""


async def nemo_llmrails_turn(url: str) -> Turn:
    from nemoguardrails import LLMRails, RailsConfig

    rails = LLMRails(RailsConfig.from_content(yaml_content=NEMO.format(url=url)))

    async def turn(text: str) -> None:
        answer = await rails.generate_async(messages=[{"role": "user", "content": text}])
        assert "safe" in answer["content"], answer

    return turn


async def nemo_iorails_turn(url: str) -> Turn:
    from nemoguardrails import RailsConfig
    from nemoguardrails.guardrails.iorails import IORails

    rails = IORails(RailsConfig.from_content(yaml_content=NEMO.format(url=url)))
    await rails.start()

    async def turn(text: str) -> None:
        answer = await rails.generate_async(messages=[{"role": "user", "content": text}])
        assert "safe" in str(answer), answer

    return turn


async def langchain_moderation_turn(url: str) -> Turn:
    """`OpenAIModerationMiddleware` around an agent without tools."""
    from langchain.agents import create_agent
    from langchain_openai import ChatOpenAI
    from langchain_openai.middleware import OpenAIModerationMiddleware

    model = ChatOpenAI(model="main", base_url=url, api_key="x")
    agent = create_agent(model, [], middleware=[OpenAIModerationMiddleware()])

    async def turn(text: str) -> None:
        await agent.ainvoke({"messages": [("user", text)]})

    return turn


async def litellm_call(url: str) -> Turn:
    """One call through the SDK: what a guardrail in litellm pays before it guards anything."""
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False

    async def call(text: str) -> None:
        messages = [{"role": "user", "content": text}]
        await litellm.acompletion(model="openai/main", messages=messages, api_base=url, api_key="x", max_tokens=20)

    return call


async def main(name: str, url: str) -> None:
    turn = await globals()[name](url)
    for number in range(30):
        await turn(TEXT.format(-number))
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        start, calls = (int(part) for part in line.split())
        print(json.dumps(await _measure(turn, start, calls)), flush=True)


async def _measure(turn: Turn, start: int, calls: int) -> dict[str, float]:
    seconds = []
    cpu = time.process_time()
    for number in range(start, start + calls):
        began = time.perf_counter()
        await turn(TEXT.format(number))
        seconds.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    numbers = iter(range(start + calls, start + 3 * calls))

    async def worker() -> None:
        for number in numbers:
            await turn(TEXT.format(number))

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(64)))
    rate = 2 * calls / (time.perf_counter() - began)
    return {"cpu": cpu / calls * 1000, "median": statistics.median(seconds) * 1000, "rate": rate}


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    os.environ.update(
        NEMO_GUARDRAILS_NO_USAGE_STATS="1", DO_NOT_TRACK="1", LANGSMITH_TRACING="false",
        LITELLM_LOCAL_MODEL_COST_MAP="True", OPENAI_API_KEY="x", OPENAI_BASE_URL=sys.argv[2],
    )  # fmt: skip
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asyncio.run(main(sys.argv[1], sys.argv[2]))
