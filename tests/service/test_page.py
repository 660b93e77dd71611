"""The clients on the page of the service, run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.conftest import CHECK, KEYS, served, settings
from turnguard import Guard
from turnguard.config.document import from_dict
from turnguard.config.yaml import read_yaml
from turnguard.testing import FakeVLLM

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "service.md").read_text(encoding="utf-8")


def _block(title: str) -> str:
    found = re.search(rf'```\w+ title="{re.escape(title)}"\n(.*?)```', PAGE, re.DOTALL)
    assert found is not None, title
    return found[1]


@pytest.mark.parametrize(
    ("title", "program", "told"),
    [("check.sh", "sh", '"action":"review"'), ("check.mjs", "node", "Bread rises in two hours.")],
)
def test_a_client_on_the_page_runs(
    guard_of: Callable[..., Guard], vllm: FakeVLLM, tmp_path: Path, title: str, program: str, told: str
) -> None:
    if shutil.which(program) is None or (program == "sh" and shutil.which("curl") is None):
        pytest.skip(f"{program} is not installed")
    vllm.when("lock", user="unsafe", categories=["Needs Caution"], p=0.9)
    with served(guard_of({"categories": {"Needs Caution": "review"}}), settings()) as service:
        file = tmp_path / title
        file.write_text(_block(title).replace("http://127.0.0.1:8080", service.url), encoding="utf-8")
        environment = {"PATH": os.environ["PATH"], "TURNGUARD_KEY": KEYS[CHECK], "NO_PROXY": "*"}
        command = [program, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert told in done.stdout


def test_the_keys_on_the_page_are_valid() -> None:
    found = re.search(r"```yaml\n(service:.*?)```", PAGE, re.DOTALL)
    assert found is not None
    data, _ = read_yaml(found[1], "the page")
    (service,) = data.values()
    for key in service["keys"]:
        key.pop("policy", None)
    config = from_dict({"moderator": {"base_url": "http://127.0.0.1:1/v1"}, **data}, {})
    assert [each.role for each in config.service.keys] == ["check", "review", "read"]


def test_every_answer_of_the_service_stands_on_the_page(guard_of: Callable[..., Guard]) -> None:
    with served(guard_of()) as service, service.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    shown = PAGE.replace("{id}", "{identity}")
    for path in paths:
        assert path in shown or path.rpartition("/")[2] in ("reject", "ready"), path
