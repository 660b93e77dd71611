"""Turnguard for LangChain and LangGraph. Each name is imported when it is first used: only the middleware needs
`langchain`.
"""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnguard.langchain.callback import TurnguardCallbackHandler
    from turnguard.langchain.deep import guard_deep_agent
    from turnguard.langchain.middleware import TurnguardMiddleware
    from turnguard.langchain.model import guard_model
    from turnguard.langchain.node import guard_node
    from turnguard.langchain.tool import guard_tool

__all__ = [
    "TurnguardCallbackHandler",
    "TurnguardMiddleware",
    "guard_deep_agent",
    "guard_model",
    "guard_node",
    "guard_tool",
]

_WHERE = {
    "TurnguardCallbackHandler": ("callback", "langchain-core"),
    "TurnguardMiddleware": ("middleware", "langchain"),
    "guard_deep_agent": ("deep", "deepagents"),
    "guard_model": ("model", "langchain-core"),
    "guard_node": ("node", "langgraph"),
    "guard_tool": ("tool", "langchain-core"),
}
_OLDEST = (1, 4)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, package = _WHERE[name]
    if package in ("langchain", "deepagents"):
        _check_version()
    try:
        importlib.import_module(f"{__name__}.metadata")  # from now on checks know the run that they happen in
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0].replace("_", "-") in (
            "langchain",
            "langchain-core",
            "langgraph",
            "deepagents",
        ):
            from turnguard.core.errors import ConfigError

            extra = "deepagents" if package == "deepagents" else "langchain"
            raise ConfigError(
                f"{name} needs {package}, which is not installed: pip install 'turnguard[{extra}]'"
            ) from error
        raise


def _check_version() -> None:
    """Earlier versions know no way from the model back to itself: an answer whose calls were all blocked, and so all
    answered, ends there in a `KeyError`.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("langchain")
    except PackageNotFoundError:
        return  # the import says so
    numbers = re.findall(r"\d+", found)
    if (int(numbers[0]), int(numbers[1])) < _OLDEST:
        from turnguard.core.errors import ConfigError

        oldest = ".".join(map(str, _OLDEST))
        raise ConfigError(f"TurnguardMiddleware needs langchain {oldest} or newer, and {found} is installed")


def __dir__() -> list[str]:
    return __all__
