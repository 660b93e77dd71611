"""One process of an agent with reviews: `python -m tests.langchain.review_worker SETTINGS`, where SETTINGS is JSON.

It runs or resumes a thread of the checkpointer that the settings name, writes each run of the tool and each call of the
model to a log, and prints what came of it as JSON.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.load import load
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.langchain.kit import Scripted, said
from turnguard.langchain import TurnguardMiddleware


@contextmanager
def checkpointer(kind: str, place: str) -> Iterator[Any]:
    if kind == "sqlite":
        from langgraph.checkpoint.sqlite import SqliteSaver

        with SqliteSaver.from_conn_string(place) as in_file:
            yield in_file
    elif kind == "postgresql":
        from langgraph.checkpoint.postgres import PostgresSaver

        with PostgresSaver.from_conn_string(place) as in_database:
            in_database.setup()
            yield in_database
    else:
        saver = InMemorySaver()
        file = Path(place)
        names = ("storage", "writes", "blobs")
        if file.exists():
            for name, kept in pickle.loads(file.read_bytes()).items():  # noqa: S301 - this test wrote it
                getattr(saver, name).update(kept)
        yield saver
        state = {name: dict(getattr(saver, name)) for name in names}
        state["storage"] = {thread: dict(spaces) for thread, spaces in state["storage"].items()}
        file.write_bytes(pickle.dumps(state))


def main(settings: dict[str, Any]) -> None:
    log = Path(settings["log"])

    class Logged(Scripted):
        def _next(self, messages: Any) -> Any:
            with log.open("a") as file:
                file.write("model\n")
            return super()._next(messages)

    @tool
    def search(q: str) -> str:
        """Search."""
        with log.open("a") as file:
            file.write(f"tool {q}\n")
        return str(settings["result"])

    model = Logged(script=[load(one) if isinstance(one, dict) else one for one in settings["script"]])
    guard = settings["config"]
    given = Command(resume=settings["resume"]) if "resume" in settings else said(settings.get("text", "hello"))
    with checkpointer(settings["saver"], settings["place"]) as saver:
        middleware = TurnguardMiddleware(guard)
        agent: Any = create_agent(model, [search], middleware=[middleware], checkpointer=saver)
        done = agent.invoke(given, {"configurable": {"thread_id": "1"}})
        middleware.guard.close()
    paused = done.get("__interrupt__")
    print(  # noqa: T201 - what the test reads
        json.dumps(
            {
                "asked": paused[0].value if paused else None,
                "messages": [[message.type, message.text] for message in done["messages"]],
            },
            default=str,
        )
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
