"""`make demo-service`: a person finds why the third decision was blocked."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
from scripts.demo_service import TRAFFIC, running, send


def test_the_demo_serves_its_traffic_and_explains_the_third_decision(tmp_path: Path) -> None:
    with (
        running(tmp_path, port=0) as (address, console),
        httpx.Client(base_url=address, trust_env=False, timeout=60, follow_redirects=True) as client,
    ):
        actions = [send(client, row) for row in TRAFFIC]
        assert actions[2] == "block"
        assert set(actions) == {"allow", "flag", "rewrite", "review", "block"}
        assert client.get(console).status_code == 200
        deadline = time.monotonic() + 20
        while (
            found := re.search(r'/console/decisions/\w+"', client.get("/console/decisions?action=block").text)
        ) is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        page = client.get(found[0].rstrip('"')).text
        assert "Violence" in page
        assert "turnguard.yaml:5" in page
        assert "default: block" in page
        assert client.get("/console/reviews").text.count("/console/reviews/") >= 2
