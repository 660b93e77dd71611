"""A record of LangChain's run says whose it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

from turnguard import Guard, Policy
from turnguard.config.settings import RecordsSettings
from turnguard.langchain import TurnguardMiddleware
from turnguard.records import schema
from turnguard.records.store import Store
from turnguard.testing import FakeModerator


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream"])
async def test_thread_user_run_and_named_tags_are_in_the_record(tmp_path: Path, way: str) -> None:
    settings = RecordsSettings.model_validate({"url": f"sqlite:///{tmp_path / 'a.db'}", "tags": ["plan", "beta"]})
    guard = Guard(Policy.from_dict({}), FakeModerator(), records=settings)
    model = GenericFakeChatModel(messages=iter([AIMessage("fine")]))
    agent = create_agent(model, [], middleware=[TurnguardMiddleware(guard)], checkpointer=InMemorySaver())
    config: Any = {
        "configurable": {"thread_id": "thread-1", "user_id": "ann"},
        "metadata": {"plan": "free", "secret": "planted"},
        "tags": ["beta", "planted"],
        "run_id": UUID(int=7),
    }
    given: Any = {"messages": [("user", "hello")]}
    if way == "invoke":
        agent.invoke(given, config)
    elif way == "ainvoke":
        await agent.ainvoke(given, config)
    else:
        list(agent.stream(given, config))
    guard.close()
    store = Store.open(settings)
    with store.begin() as connection:
        rows = connection.execute(sa.select(schema.records)).all()
    store.close()
    assert {row.stage for row in rows} == {"input", "output"}
    for row in rows:
        assert (row.thread, row.user) == ("thread-1", "ann")
        assert row.request == str(UUID(int=7))
        assert row.metadata == '{"plan": "free", "tags": "beta"}'
