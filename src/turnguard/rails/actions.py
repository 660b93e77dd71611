"""Read by NeMo Guardrails from `import_paths: [turnguard/rails]`: the actions that the flows beside this file
execute.
"""

from turnguard.nemo.actions import (
    check_input,
    check_output,
    check_retrieval,
    check_tool_call,
    check_tool_result,
    find_chunks,
    refuse,
    take_results,
)

__all__ = [
    "check_input",
    "check_output",
    "check_retrieval",
    "check_tool_call",
    "check_tool_result",
    "find_chunks",
    "refuse",
    "take_results",
]
