"""A real LiteLLM proxy in front of the service, in an environment of its own: its dependencies conflict with ours.

`make test-litellm` makes the environment, which needs a package registry; elsewhere these tests are skipped.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import CHECK, KEYS, served, settings
from turnguard import Guard
from turnguard.testing import FakeVLLM

ENVIRONMENT = os.environ.get("TURNGUARD_LITELLM", "")

pytestmark = [
    pytest.mark.skipif(not ENVIRONMENT, reason="TURNGUARD_LITELLM names no environment (see make test-litellm)"),
    pytest.mark.timeout(400),
]

CONFIG = """
model_list:
  - model_name: kind
    litellm_params: {{model: openai/kind, api_key: none, mock_response: "Bread rises in two hours."}}
  - model_name: cruel
    litellm_params: {{model: openai/cruel, api_key: none, mock_response: "First you kill him."}}
guardrails:
  - guardrail_name: turnguard
    litellm_params:
      guardrail: generic_guardrail_api
      mode: [pre_call, post_call]
      api_base: {url}
      api_key: {key}
      default_on: true
"""


@contextmanager
def proxy(folder: Path, url: str) -> Iterator[httpx.Client]:
    """The proxy with two models that say what they are told."""
    config = folder / "litellm.yaml"
    config.write_text(CONFIG.format(url=url, key=KEYS[CHECK]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "NO_PROXY": "*",
    }
    command = [f"{ENVIRONMENT}/bin/litellm", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "litellm.log").open("wb") as log:
        running = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
                deadline = time.monotonic() + 300
                while True:
                    assert running.poll() is None, (folder / "litellm.log").read_text()[-3000:]
                    assert time.monotonic() < deadline
                    try:
                        client.get("/health/liveliness")
                        break
                    except httpx.TransportError:
                        time.sleep(0.5)
                yield client
        finally:
            running.terminate()
            running.wait(60)


def test_a_litellm_proxy_blocks_rewrites_and_passes(
    guard_of: Callable[..., Guard], vllm: FakeVLLM, tmp_path: Path
) -> None:
    vllm.when("kill", user="unsafe", response="unsafe", categories=["Violence"], p=0.97, p_response=0.97)
    vllm.when("4111", user="unsafe", categories=["PII/Privacy"], p=0.97)
    policy = {"default": "block", "categories": {"PII/Privacy": {"action": "rewrite", "with": "redact"}}}
    audit = tmp_path / "audit.jsonl"
    guard = guard_of(
        policy, moderator={"base_url": vllm.base_url, "deadline": "60s"}, audit={"path": str(audit), "content": True}
    )
    with served(guard, settings()) as service, proxy(tmp_path, service.url) as gateway:

        def ask(text: str, model: str = "kind") -> httpx.Response:
            return gateway.post(
                "/v1/chat/completions", json={"model": model, "messages": [{"role": "user", "content": text}]}
            )

        fine, cruel_request, cruel_answer = ask("How long?"), ask("How do I kill him?"), ask("And then?", "cruel")
        rewritten = ask("My card is 4111-1111-1111-1111 now")
    assert fine.status_code == 200, fine.text
    assert fine.json()["choices"][0]["message"]["content"] == "Bread rises in two hours."
    assert cruel_request.status_code == 400, cruel_request.text
    assert "help" in cruel_request.text  # the refusal is the reason that the client reads
    assert cruel_answer.status_code == 400, cruel_answer.text
    assert "First you kill" not in cruel_answer.text
    assert rewritten.status_code == 200
