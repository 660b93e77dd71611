"""One turn around a NeMo engine: its request judged, the engine called, its answer judged and carried out.

By NeMo's public API alone. The drop-in overrides how its engine is reached, and how much of a request is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

from turnguard.checking.stream import Released
from turnguard.core.decision import Decision
from turnguard.guard import Guard
from turnguard.nemo import answers, requests
from turnguard.nemo.reports import report, strictest
from turnguard.nemo.requests import Judge, Judged
from turnguard.nemo.streams import Pumped, Said
from turnguard.nemo.turn import Turn

T = TypeVar("T")
PolicyLike = str | Callable[[list[Any], Any], str | None] | None


class Judging:
    """An engine and the guard around it. `policy` names one of the guard's, or chooses one by messages and options."""

    __slots__ = ("_guard", "_policy", "engine")
    engine: Any
    _guard: Guard
    _policy: PolicyLike

    def __init__(self, engine: Any, guard: Guard, policy: PolicyLike) -> None:
        for name, value in (("engine", engine), ("_guard", guard), ("_policy", policy)):
            object.__setattr__(self, name, value)

    # ------------------------------------------------------------ streams

    async def _streamed(self, asked: dict[str, Any], *, in_frames: bool) -> AsyncIterator[Any]:
        pumps: list[Pumped] = []

        async def started(turn: Turn) -> Pumped:
            pumps.append(Pumped(lambda: self._stream(turn)))
            return pumps[-1]

        said, ended, turn = Said(in_frames=in_frames), False, None
        try:
            turn, pump = await self._called(asked, started)
            for each in pumps:
                if each is not pump:
                    each.cancel()
            if pump is None:
                yield said.framed(self._told(turn))
                return

            async def judge(text: str) -> Decision:
                _, decisions = await self.judged_answer(turn, [said.message(text)])
                if (decision := strictest(decisions)) is None:
                    raise RuntimeError("a text of a stream was not judged")
                return decision

            if not self._judges_output(turn):
                async for chunk in pump:
                    yield chunk
                ended = True
                return
            released = Released(pump, said.text_of, judge, self._guard.stream_settings)
            async with aclosing(released.__aiter__()) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    yield chunk
            if released.withheld and released.decision is not None:
                turn.refusal = await self.refusal(released.decision, turn.judge)
                yield said.framed(self._told(turn))
            ended = not released.withheld and not said.failed
        finally:
            for each in pumps:
                await each.aclose()
            if pumps and turn is not None:
                self._ended(turn, passed=ended)

    # ------------------------------------------------------------ checking

    async def check_async(self, messages: list[Any], rail_types: Any = None, **more: Any) -> Any:
        """The engine's result for these messages, all of them judged first. `rail_types` chooses the engine's rails."""
        turn = await self._judged({"messages": messages}, checking=True)
        result = None
        if turn.refusal is None and self._has_rails(rail_types):
            result = await self._check(turn, rail_types, **more)
        return await self._checked(turn, result, rail_types)

    def _has_rails(self, rail_types: Any) -> bool:
        """Whether the engine has a rail that its `check` would run. With none, LLMRails loses messages there."""
        rails = self.engine.config.rails
        tools = is_iorails(self.engine) and (rails.tool_input.flows or rails.tool_output.flows)
        return bool(rail_types or rails.input.flows or rails.output.flows or tools)

    async def _checked(self, turn: Turn, result: Any, rail_types: Any) -> Any:
        from nemoguardrails.rails.llm.options import RailsResult, RailStatus

        def blocked(message: str, decision: Decision) -> Any:
            rail = f"turnguard check {decision.stage.replace('_', ' ')}"
            return RailsResult(status=RailStatus.BLOCKED, content=message, rail=rail)

        if turn.judged.refusing is not None:
            return blocked(turn.refusal or "", turn.judged.refusing)
        before, after = (
            requests.asked_about(messages, rail_types) for messages in (turn.asked["messages"], turn.judged.messages)
        )
        if result is not None and result.status == RailStatus.BLOCKED:
            return result
        text = requests.text_of(after.get("content"))
        if result is not None and result.content not in (text, str(after.get("content"))):
            # one of the engine's own rails has rewritten it
            new, decisions = await self.judged_answer(turn, [{**after, "content": result.content}])
            for decision in decisions:
                if decision.withheld:
                    return blocked(await self.refusal(decision, turn.judge), decision)
            text = requests.text_of(new[0].get("content") if new else None)
        changed = text != requests.text_of(before.get("content")) or after.get("content") != before.get("content")
        return RailsResult(status=RailStatus.MODIFIED if changed else RailStatus.PASSED, content=text)

    # ------------------------------------------------------------ judging

    async def _judged(self, asked: dict[str, Any], *, checking: bool = False) -> Turn:
        given, options = self._listed(asked), asked.get("options")
        policy = self._guard.chosen(self._policy(given, options) if callable(self._policy) else self._policy)
        listed, metadata = requests.addressed(given)
        if checking:
            listed = requests.ending_in_speech(listed)
        by = Judge(self._guard, policy, metadata)
        judged = await self._judge(by, listed, asked, checking=checking)
        kept, about = await requests.offered(by, options)
        judged.decisions.extend(about)
        if kept is not options:
            asked, judged = {**asked, "options": kept}, replace(judged, changed=True)
        refusal = None if judged.refusing is None else await self.refusal(judged.refusing, by)
        return Turn(asked, judged, self._call(asked, judged.messages), by, refusal)

    async def _judge(self, by: Judge, listed: list[Any], asked: dict[str, Any], *, checking: bool) -> Judged:
        """Judge a request. A host may judge less of it, by what was asked."""
        return await requests.judge(by, listed)

    async def refusal(self, decision: Decision, by: Judge) -> str:
        """What to tell the person."""
        return await self._guard.arefusal(decision, policy=by.policy)

    def _told(self, turn: Turn) -> str:
        """A refusal as a stream shows it."""
        return turn.refusal or ""

    def _listed(self, asked: dict[str, Any]) -> list[Any]:
        """All messages of a request. Raises for what no engine is to be shown."""
        messages, prompt = asked.get("messages"), asked.get("prompt")
        if messages is not None and not isinstance(messages, list):
            raise TypeError(f"messages must be a list of messages, not {type(messages).__name__}")
        if asked.get("state") and not self._guard.checks.trusted_roles:
            from nemoguardrails.exceptions import InvalidStateError

            # a state is events: a client that writes one could put words into anybody's mouth
            raise InvalidStateError("a state may not be sent where clients write the requests: send the messages")
        return [*(messages or ()), *([] if prompt is None else [{"role": "user", "content": prompt}])]

    def _call(self, asked: dict[str, Any], messages: list[Any]) -> dict[str, Any]:
        """What the engine is called with."""
        call = dict(asked)
        if asked.get("prompt") is not None:
            call["prompt"] = messages[-1]["content"]
            messages = messages[:-1]
        if asked.get("messages") is not None:
            if not is_iorails(self.engine):
                messages = requests.for_llmrails(messages, passthrough=bool(self.engine.config.passthrough))
            call["messages"] = messages
        return call

    async def _called(self, asked: dict[str, Any], call: Callable[[Turn], Awaitable[T]]) -> tuple[Turn, T | None]:
        """Judge the request and call the engine, one after the other or, where the settings say so, at once."""
        if not self._is_beside():
            turn = await self._judged(asked)
            return turn, await call(turn) if self._goes_on(turn) else None
        listed, _ = requests.addressed(self._listed(asked))
        unjudged = Turn(asked, Judged(listed), self._call(asked, listed), Judge(self._guard, self._guard.policy))
        work = asyncio.ensure_future(call(unjudged))
        try:
            turn = await self._judged(asked)
            if turn.refusal is None and not turn.judged.changed:
                return turn, await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)  # nobody waits for what was withheld
        self._ended(unjudged, passed=False)
        return turn, await call(turn) if self._goes_on(turn) else None

    def _is_beside(self) -> bool:
        return self._guard.checks.input == "beside"

    def _judges_output(self, turn: Turn) -> bool:
        """Whether a stream is judged. A host may leave that to the engine's configuration."""
        return True

    def _goes_on(self, turn: Turn) -> bool:
        """Whether the engine is called."""
        return turn.refusal is None

    async def _generate(self, turn: Turn) -> Any:
        return await self.engine.generate_async(**turn.call)

    def _stream(self, turn: Turn) -> AsyncIterator[Any]:
        made: AsyncIterator[Any] = self.engine.stream_async(**turn.call)
        return made

    async def _check(self, turn: Turn, rail_types: Any, **more: Any) -> Any:
        return await self.engine.check_async(turn.call["messages"], rail_types=rail_types, **more)

    async def judged_answer(self, turn: Turn, said: list[Any]) -> tuple[list[Any] | None, list[Decision]]:
        """Judge the messages that answer a request. Return them as they may be passed on, and the decisions in order.

        The messages are None if one of them was removed.
        """
        asked = self._answering(turn)
        new = range(len(asked), len(asked) + len(said))  # the others give the request that is answered
        made, decisions = await turn.judge.messages([*asked, *said], new)
        kept = made[len(asked) :] if len(made) == len(asked) + len(said) else None
        return kept, [each for each in decisions if each.where and each.where[0] in new]

    def _answering(self, turn: Turn) -> list[Any]:
        """What an answer answers: the messages of its turn, or all where the settings judge some history with it."""
        asked = turn.judged.messages
        if not self._guard.checks.history:
            asked = asked[requests.turn_start(asked) :]
        return [message for message in asked if requests.role_of(message) not in ("context", "event")]

    async def _answered(self, turn: Turn, answer: Any) -> Any:
        """Judge an answer, both its messages and the records beside them, and return it as it may be shown."""
        decisions, options = turn.judged.decisions, turn.asked.get("options")
        if answer is None and turn.refusal is not None:
            return report(self._refused(turn), decisions, options)
        said = answers.said(answer)
        records = answers.recorded(answer, [turn.judged.messages, said])
        beside = [{"role": "assistant", "content": records}] if records else []
        answer, about = await self._passed(turn, answer, said, beside)
        return report(answer, [*decisions, *about], options)

    def _refused(self, turn: Turn) -> Any:
        state, options = turn.asked.get("state"), turn.asked.get("options")
        as_text = turn.asked.get("messages") is None and not is_iorails(self.engine)
        structured = options is not None or state is not None
        return answers.refused(turn.refusal or "", as_text=as_text, structured=structured, state=state)

    async def _passed(self, turn: Turn, answer: Any, said: list[Any], beside: list[Any]) -> tuple[Any, list[Decision]]:
        """Apply the decisions about an answer. Return the resulting answer and the decisions."""
        state = turn.asked.get("state")
        new, about = await self.judged_answer(turn, [*said, *beside])
        end = len(self._answering(turn)) + len(said)
        refusing = strictest([each for each in about if each.where and each.where[0] < end])
        if refusing is not None and not refusing.allowed:
            made = None
            if new is not None and not refusing.withheld:
                made = answers.replaced(answer, said, new[: len(said)], state)
            if made is None:
                made = answers.withheld(answer, await self.refusal(refusing, turn.judge), state)
            answer = made
            self._ended(turn, passed=False)
        elif not all(each.allowed for each in about):  # what its records alone hold
            answers.forget(answer)
            self._ended(turn, passed=False)
        return answer, about

    def _ended(self, turn: Turn, *, passed: bool) -> None:
        """End the turn. Unless it passed unchanged, remove its texts from what `explain()` shows."""
        if passed:
            return
        try:
            explained = self.engine.explain()
        except (AttributeError, NotImplementedError):  # IORails explains nothing
            return
        answers.forget_calls(explained.llm_calls)
        explained.colang_history = ""


def is_iorails(engine: Any) -> bool:
    """Whether the engine is IORails, which answers in messages alone and writes into nothing that it is given."""
    return bool(getattr(engine, "use_iorails_engine", type(engine).__name__ == "IORails"))
