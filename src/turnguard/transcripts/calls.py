"""Tool calls and tool results in every dialect, as tables: which blocks they are, and where their pieces stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ID_KEYS = ("call_id", "tool_call_id", "tool_use_id", "toolUseId", "toolCallId", "id")
"""Where the identifier that joins a call to its result stands, the most specific first."""
NAME_KEYS = ("name", "toolName", "tool_name")


@dataclass(frozen=True, slots=True)
class CallForm:
    """How one kind of block writes a call.

    `arguments`: the fields that may hold what the tool gets, the first that is there counts. `tool`: the tool's name
    where the block has no field for it. `outputs`: fields that hold what the tool gave back, where one block holds
    both. `ran`: the provider runs the tool itself.
    """

    arguments: tuple[str, ...]
    tool: str = ""
    outputs: tuple[str, ...] = ()
    ran: bool = False


_INPUT = CallForm(("input",))
_ARGS = CallForm(("args",))
_ARGUMENTS = CallForm(("arguments",))

CALLS: Mapping[str, CallForm] = {
    # Anthropic
    "tool_use": _INPUT,
    "server_tool_use": CallForm(("input",), ran=True),
    "mcp_tool_use": CallForm(("input",), ran=True),
    # OpenAI Responses
    "function_call": _ARGUMENTS,
    "custom_tool_call": _INPUT,
    "mcp_call": CallForm(("arguments",), outputs=("output", "error"), ran=True),
    "mcp_approval_request": _ARGUMENTS,
    "computer_call": CallForm(("action", "actions"), tool="computer"),
    "web_search_call": CallForm(("action",), tool="web_search", outputs=("results",), ran=True),
    "file_search_call": CallForm(("queries",), tool="file_search", outputs=("results",), ran=True),
    "code_interpreter_call": CallForm(("code",), tool="code_interpreter", outputs=("outputs",), ran=True),
    "local_shell_call": CallForm(("action",), tool="local_shell"),
    "shell_call": CallForm(("action",), tool="shell"),
    "apply_patch_call": CallForm(("operation",), tool="apply_patch"),
    "tool_search_call": CallForm(("arguments",), tool="tool_search", ran=True),
    # LangChain
    "tool_call": _ARGS,
    "tool_call_chunk": _ARGS,
    "invalid_tool_call": _ARGS,
    "server_tool_call": CallForm(("args",), ran=True),
    "server_tool_call_chunk": CallForm(("args",), ran=True),
    # Vercel's AI SDK
    "tool-call": CallForm(("input", "args")),
    "dynamic-tool": CallForm(("input", "rawInput"), outputs=("output", "errorText")),
}
"""Blocks whose `type` says that they are a call."""
_VERCEL = CallForm(("input", "rawInput"), outputs=("output", "errorText"))
_VERCEL_PREFIX = "tool-"

WRAPPED: Mapping[str, CallForm] = {
    "toolUse": _INPUT,  # Bedrock
    "functionCall": _ARGS,  # Gemini
    "function_call": CallForm(("args", "arguments")),
    "executableCode": CallForm(("code",), tool="code_execution", ran=True),
    "executable_code": CallForm(("code",), tool="code_execution", ran=True),
    "function": _ARGUMENTS,  # OpenAI chat, Mistral, Cohere
    "custom": _INPUT,
    "tool_call": _ARGUMENTS,  # Haystack
}
"""Fields that wrap a call."""

RESULTS = frozenset(
    {
        "toolResult",  # Bedrock
        "functionResponse",  # Gemini
        "function_response",
        "codeExecutionResult",
        "code_execution_result",
        "tool_call_result",  # Haystack
    }
)
"""Fields that wrap a result."""
_RESULT_ENDINGS = ("_result", "_output", "-result")


def call_form(block: Mapping[str, Any], kind: str | None) -> CallForm | None:
    """The form of the call that a block with this type is; None where it is none."""
    if kind is None:
        return None
    form = CALLS.get(kind)
    if form is None and kind.startswith(_VERCEL_PREFIX) and ("input" in block or "toolCallId" in block):
        return CallForm(_VERCEL.arguments, kind.removeprefix(_VERCEL_PREFIX), _VERCEL.outputs)
    if form is not None and not (form.tool or any(key in block for key in (*form.arguments, *NAME_KEYS))):
        return None
    return form


def is_result(kind: str | None) -> bool:
    """Whether a block of this type holds what a tool gave back."""
    return kind is not None and kind.endswith(_RESULT_ENDINGS)


def arguments_key(form: CallForm, holder: Mapping[str, Any]) -> str:
    """The field of `holder` that holds the arguments; the form's own first field where none is there."""
    keys = (*form.arguments, "arguments", "args", "input")
    return next((key for key in keys if holder.get(key) is not None), form.arguments[0])


def identity(holder: Mapping[str, Any]) -> str | None:
    """The identifier that joins a call to its result."""
    return next((held for key in ID_KEYS if isinstance(held := holder.get(key), str) and held), None)


def tool_name(holder: Mapping[str, Any], form: CallForm | None = None) -> str | None:
    """The name of the tool that a call is for."""
    found = next((held for key in NAME_KEYS if isinstance(held := holder.get(key), str)), None)
    return found if found is not None or form is None else form.tool or None
