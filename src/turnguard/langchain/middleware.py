"""Agent middleware for langchain 1.x: every step of the turn is judged before anyone acts on it or sees it.

Where the hooks stand: `before_agent` judges what the caller brings; `wrap_model_call` judges what the model says and
proposes, before it enters the state; `wrap_tool_call` judges results before they do. Reviews happen in
`before_model`, `after_model` and `after_agent`: nodes of their own, in which nothing else runs, because LangGraph
runs a node again on resume.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import cache, partial
from typing import Any, Literal

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse, hook_config
from langgraph.config import get_config

from turnguard.core.errors import ConfigError
from turnguard.core.review import can_review
from turnguard.guard import Guard, GuardLike
from turnguard.langchain.agent_run import AgentRun, Policies
from turnguard.langchain.drive import Steps, adrive, drive
from turnguard.langchain.hooks import RaisingHooks, ReviewHooks, State, Update
from turnguard.langchain.judge import Judging
from turnguard.langchain.model_call import ModelCall
from turnguard.langchain.muting import muted
from turnguard.langchain.private_names import require_reviews, require_streams
from turnguard.langchain.review import Reviews
from turnguard.langchain.tool_call import AgentTool


def _trace_policy() -> Any:
    """Keep payloads out of the hooks' own spans, where this LangGraph knows how."""
    try:
        from langgraph.types import TracePolicy, omit_payload
    except ImportError:
        return None
    return TracePolicy(process_inputs=omit_payload, process_outputs=omit_payload)


class TurnguardMiddleware(AgentMiddleware[Any, Any, Any]):
    """Judges a person's input, the model's output, proposed tool calls and tool results, in sync, async and streams.

    `guard`: a `Guard`, or the path of a `turnguard.yaml`. `name` tells instances apart. `exit_behavior`: what a
    blocked input or output does; "end" answers with the refusal and ends the turn, "error" also raises `Blocked` once
    the turn has ended, so that the thread stays clean and usable. `retries`: how often the model may try again after a
    blocked output, told which rule it broke.

    A blocked call or result, or error of a tool, is answered with a notice that names the rule, and the agent goes on;
    an error that passes is raised. A review needs a checkpointer and becomes a block without one. Content that waits
    for a reviewer is held in this process: at resume elsewhere it counts as rejected.

    LangGraph itself echoes the caller's own input before any hook runs (the first `values` chunk, the first
    checkpoint): run with `durability="exit"` to keep a blocked input out of the checkpoints.

    `tool_streams`: what a tool shows while it runs. "hold": models and agents inside it are heard where they are
    guarded themselves, and its custom events once they are judged; "pass" leaves that to you.

    `policy`: the name of one of the guard's policies, or a function of the run's context and configuration that gives
    one (None: the guard's own policy). It is asked in every hook, so it must give the same for one run.
    """

    trace_policy = _trace_policy()
    guard: Guard

    def __new__(cls, guard: Any = None, *_: Any, exit_behavior: Any = None, **__: Any) -> TurnguardMiddleware:
        """Choose the class with the nodes that this guard needs: LangChain adds one for each hook that a class has.
        A subclass that takes other arguments has them all.
        """
        own = cls.__init__ is TurnguardMiddleware.__init__
        settled = Guard.of(guard) if own else None
        raises = settled is None or exit_behavior == "error"
        asks = settled is None or any(map(can_review, (settled.policy, *settled.policies.values())))
        if settled is not None and asks:
            require_reviews()
        kind: Any = cls  # of a class with properties, mypy doubts the hash
        made: TurnguardMiddleware = object.__new__(_with_hooks(kind, raises, asks))
        if settled is not None:
            made.guard = settled
        return made

    def __init__(
        self,
        guard: GuardLike,
        *,
        name: str = "TurnguardMiddleware",
        check_input: bool = True,
        check_output: bool = True,
        check_tool_calls: bool = True,
        check_tool_results: bool = True,
        exit_behavior: Literal["end", "error"] = "end",
        retries: int = 0,
        tool_streams: Literal["hold", "pass"] = "hold",
        policy: Policies = None,
    ) -> None:
        if str(exit_behavior) not in ("end", "error"):
            raise ConfigError(f"exit_behavior must be 'end' or 'error', not {exit_behavior!r}")
        if type(retries) is not int or retries < 0:
            raise ConfigError(f"retries must be a whole number from 0 on, not {retries!r}")
        if str(tool_streams) not in ("hold", "pass"):
            raise ConfigError(f"tool_streams must be 'hold' or 'pass', not {tool_streams!r}")
        if tool_streams == "hold":
            require_streams()
        super().__init__()
        self.tools = []
        self.guard = getattr(self, "guard", None) or Guard.of(guard)
        if isinstance(policy, str):
            self.guard.chosen(policy)  # an unknown name is an error now
        elif policy is not None and not callable(policy):
            raise ConfigError(f"policy must be a name or a function, not {type(policy).__name__}")
        self._name = name
        judging = Judging(self.guard, check_input, check_output, check_tool_calls, check_tool_results, name)
        self._run = AgentRun(
            judging,
            Reviews(judging),
            raises=exit_behavior == "error",
            retries=retries,
            hold=tool_streams == "hold",
            policy=policy,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be copied or pickled: what waits for a person is known to one instance."""
        raise TypeError("a TurnguardMiddleware cannot be copied or pickled: copy its guard, and make one from that")

    @property
    def name(self) -> str:
        """Tells instances apart in one agent."""
        return self._name

    @property
    def judging(self) -> Judging:
        """Judges messages under the guard's own policy."""
        return self._run.judging

    @property
    def reviews(self) -> Reviews:
        """The reviews that wait for a person's decision."""
        return self._run.reviews

    def run(self, runtime: Any, config: Any = None) -> AgentRun:
        """Return what judges this run, under the policy that the run selects."""
        if not callable(self._run.policy):
            return self._run.under(None, None)
        context = getattr(runtime, "context", None)
        return self._run.under(context, config if config is not None else getattr(runtime, "config", None) or _config())

    def unasked(self, request: Any) -> bool:
        """Whether no person has approved this call at our question yet. As `when` of a tool in LangChain's
        `HumanInTheLoopMiddleware` it lets each call be asked about once, wherever that middleware stands.
        """
        return not AgentTool(self.run(request.runtime), request).approved()

    # ------------------------------------------------------------ what the caller brings

    @hook_config(can_jump_to=["end"])
    def before_agent(self, state: State, runtime: Any) -> Update:
        """Judge the conversation that the caller brings."""
        return drive(self._before(state, runtime))

    @hook_config(can_jump_to=["end"])
    async def abefore_agent(self, state: State, runtime: Any) -> Update:
        """Judge the conversation that the caller brings."""
        return await adrive(self._before(state, runtime))

    def _before(self, state: State, runtime: Any) -> Steps[Update]:
        run, messages = self.run(runtime), state["messages"]
        refused = run.refused_before(messages)
        if refused is not None:
            refusal = yield run.refusal(refused)
            run.blocks(refused, refusal)
            return {"jump_to": "end", "messages": [refusal]}
        unknown = run.brought(messages)
        if not unknown:
            return None
        update: Update = yield run.admit(unknown, messages, runtime)
        return update

    # ------------------------------------------------------------ what the model says and proposes

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[Any], ModelResponse[Any]]) -> Any:
        """Judge what the model says before it enters the state."""
        return drive(self._model_call(request, handler))

    # The two asynchronous wrappers are no `async def`: LangChain puts LangSmith's `traceable` around them, which takes
    # each coroutine function to a thread and back twice and into a task of its own, whether anything is traced or not
    # (langsmith 0.15, run_helpers.py).

    def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[Any], Awaitable[ModelResponse[Any]]]
    ) -> Coroutine[Any, Any, Any]:
        """Judge what the model says before it enters the state."""
        return adrive(self._model_call(request, handler))

    def _model_call(self, request: ModelRequest[Any], handler: Callable[[Any], Any]) -> Steps[Any]:
        call = ModelCall(self.run(request.runtime), request)
        if call.work:
            yield call.open()
        try:
            while True:
                try:
                    with muted():
                        response = yield partial(handler, call.next_request())
                except Exception as error:
                    if not call.catches(error):
                        raise
                    response = error
                done = call.settled(response)
                if done is None:
                    done = yield call.close(response)
                if done is not None:
                    return done
        finally:
            call.end()

    # ------------------------------------------------------------ what tools are asked and give back

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Judge a call that was not judged with its message, and the tool's result before it enters the state."""
        return drive(self._tool_call(request, handler))

    def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Coroutine[Any, Any, Any]:
        """Judge a call that was not judged with its message, and the tool's result before it enters the state."""
        return adrive(self._tool_call(request, handler))

    def _tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Steps[Any]:
        call = AgentTool(self.run(request.runtime), request)
        if not call.admitted():
            notice = yield call.judge()
            if notice is not None:
                return notice
        try:
            with call.inside() as inside:
                result = yield partial(handler, inside)
        except Exception as error:
            if call.run is None:
                raise
            notice = yield call.run.error(error)
            return notice
        if call.run is not None and not call.run.passed(result):
            result = yield call.run.result(result)
        return result


@cache
def _with_hooks(cls: Any, raises: bool, asks: bool) -> Any:
    hooks = [RaisingHooks] * raises + [ReviewHooks] * asks
    return type(cls.__name__, (*hooks, cls), {"__doc__": cls.__doc__, "__module__": cls.__module__}) if hooks else cls


def _config() -> Any:
    try:
        return get_config()
    except RuntimeError:  # outside of a run
        return {}
