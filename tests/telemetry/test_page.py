"""What the page on operating says of traces and metrics is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from tests.telemetry.test_deploy import happen
from turnguard.testing import FakeVLLM

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operate.md").read_text(encoding="utf-8")
SCRAPED = """
import re, urllib.request
text = urllib.request.urlopen("http://127.0.0.1:{port}/metrics").read().decode()
assert re.search(r'turnguard_decisions_total\\{{[^}}]*turnguard_action="block"', text), text
guard.close()
"""


def test_the_set_up_of_the_page_exports_what_it_says(tmp_path: Path) -> None:
    (code,) = re.findall(r'```python title="traced.py"\n(.*?)```', PAGE, re.DOTALL)
    with FakeVLLM() as server:
        server.when("pipe bomb", categories=["Guns and Illegal Weapons"])
        (tmp_path / "turnguard.yaml").write_text(f"moderator: {{base_url: '{server.base_url}'}}\n")
        port = _free()
        script = code.replace("9464", f'{port}, addr="127.0.0.1"') + SCRAPED.format(port=port)
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100
        )
    assert done.returncode == 0, done.stderr[-2000:]


async def test_the_page_lists_every_metric_and_its_labels(exported: CollectorRegistry) -> None:
    await happen()
    rows = dict(re.findall(r"^\| (`(?:turnguard|gen_ai)_[^|]+) \|([^|]*)\|", PAGE, re.MULTILINE))
    listed = {name: labels for names, labels in rows.items() for name in re.findall(r"`(\w+)`", names)}
    for metric in exported.collect():
        if not metric.name.startswith(("turnguard", "gen_ai")):
            continue
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        assert name in listed, f"{name} is not in the table"
        told = {label.strip() for label in listed[name].split(",")} - {""}
        exporting = {label for sample in metric.samples for label in sample.labels} - {"le"}
        exporting = {label for label in exporting if not label.startswith("otel_")}
        short = {re.sub(r"^turnguard_", "", label) for label in exporting}
        assert told <= short, f"{name} has no label {told - short}"
        assert not {label for label in exporting if label.startswith("turnguard_")} - {
            f"turnguard_{one}" for one in told
        }


def _free() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
