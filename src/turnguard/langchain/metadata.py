"""What a run of LangChain says of itself, for records: thread, user, run, and the tags that the settings name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config

from turnguard.runtime import surroundings


def of_run(tags: Collection[str]) -> Mapping[str, Any]:
    """Of the run that this is called in; nothing outside of one."""
    config = var_child_runnable_config.get()
    if config is None:
        return {}
    said = {**(config.get("metadata") or {}), **(config.get("configurable") or {})}
    graph = getattr(said.get("__pregel_runtime"), "execution_info", None)  # what langgraph.runtime.get_runtime() reads
    found: dict[str, Any] = {
        "thread": said.get("thread_id"),
        "user": said.get("user_id"),
        "tenant": said.get("tenant_id"),
        "request": getattr(graph, "run_id", None) or config.get("run_id"),
    }
    found |= {name: said[name] for name in tags if isinstance(said.get(name), (str, int, float))}
    listed = [tag for tag in config.get("tags") or () if tag in tags]
    return {**found, "tags": ", ".join(listed)} if listed else found


if of_run not in surroundings.sources:
    surroundings.sources.append(of_run)
