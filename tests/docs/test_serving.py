"""The serving recipes: scripts are run with a stand-in for the program that they start, YAML is loaded and checked."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from turnguard.config.files import load
from turnguard.core.families import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
SERVING = ROOT / "config_examples" / "serving"
SCRIPTS = sorted(SERVING.rglob("*.sh"))
FAMILY_SCRIPTS = sorted((SERVING / "families").glob("*.sh"))
VLLM = ("one_gpu.sh", "small_gpu.sh", "data_parallel.sh")
ONE_PICTURE = {"image": 1}


def documents(path: Path) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(path.read_text(encoding="utf-8")))


def started(script: Path, folder: Path, **environment: str) -> list[str]:
    """What the script would start: every program it knows is a stand-in that prints its arguments, one a line."""
    for name in ("vllm", "docker", "python3"):
        program = folder / name
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    ran = subprocess.run(
        ["bash", str(script), "--extra"], check=True, capture_output=True, text=True, timeout=20,
        env={"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), **environment},
    )  # fmt: skip
    return ran.stdout.splitlines()


def option(arguments: list[str], name: str) -> str:
    """The value of `--name VALUE` or `--name=VALUE`."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == name:
            return following
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    raise AssertionError(f"{name} is missing in {arguments}")


def holds_for_vllm(arguments: list[str]) -> None:
    """What every vLLM recipe must say, and must not."""
    assert "nvidia/Nemotron-3-Content-Safety" in arguments
    assert option(arguments, "--served-model-name") == "nemotron_moderator"
    assert json.loads(option(arguments, "--limit-mm-per-prompt")) == ONE_PICTURE
    assert int(option(arguments, "--max-model-len")) >= 2000 * 1.25 + 850, "the default max_input_tokens must fit"
    for wrong in ("--chat-template", "--language-model-only", "--reasoning-parser", "--api-key", "--trust-remote-code"):
        assert not any(argument.split("=")[0] == wrong for argument in arguments), wrong


@pytest.mark.parametrize("name", VLLM)
def test_a_script_starts_vllm_with_what_matters(name: str, tmp_path: Path) -> None:
    arguments = started(SERVING / name, tmp_path, VLLM_API_KEY="planted")
    assert arguments[0].endswith("/vllm")
    assert arguments[1] == "serve"
    assert arguments[-1] == "--extra", "what is added on the command line is passed on"
    holds_for_vllm(arguments)
    assert option(arguments, "--host") == "127.0.0.1"
    assert "planted" not in arguments, "a key on the command line stands in the process list"


def test_the_small_one_is_quantised(tmp_path: Path) -> None:
    assert option(started(SERVING / "small_gpu.sh", tmp_path, VLLM_API_KEY="x"), "--quantization") == "fp8"


def test_data_parallel_copies_and_never_splits(tmp_path: Path) -> None:
    arguments = started(SERVING / "data_parallel.sh", tmp_path, VLLM_API_KEY="x", GPUS="4")
    assert option(arguments, "--data-parallel-size") == "4"
    assert "--tensor-parallel-size" not in arguments


def test_sglang_sees_pictures(tmp_path: Path) -> None:
    arguments = started(SERVING / "sglang.sh", tmp_path, MODERATOR_KEY="x")
    assert "--enable-multimodal" in arguments
    assert json.loads(option(arguments, "--limit-mm-data-per-request")) == ONE_PICTURE


def test_the_nim_serves_the_configured_name(tmp_path: Path) -> None:
    arguments = started(SERVING / "nim" / "run.sh", tmp_path, NGC_API_KEY="planted")
    assert "NIM_SERVED_MODEL_NAME=nemotron_moderator" in arguments
    assert load(SERVING / "nim" / "turnguard.yaml").moderator.model == "nemotron_moderator"
    assert not any("planted" in argument for argument in arguments)


@pytest.mark.parametrize("script", FAMILY_SCRIPTS, ids=lambda path: path.stem)
def test_a_recipe_serves_the_family_that_it_names(script: Path, tmp_path: Path) -> None:
    arguments = started(script, tmp_path, VLLM_API_KEY="planted")
    named = re.search(r"family: ([\w.-]+\w)", script.read_text(encoding="utf-8"))
    assert named is not None
    can = FAMILIES[named[1]]
    assert can.hub in arguments
    assert ("--limit-mm-per-prompt" in arguments) is can.images
    assert option(arguments, "--served-model-name")
    assert int(option(arguments, "--max-model-len")) >= 2000 * 1.25 + 850
    assert not {"--chat-template", "--reasoning-parser", "--api-key", "planted"} & set(arguments)
    assert arguments[-1] == "--extra"


def test_every_family_has_a_recipe() -> None:
    recipes = "".join(script.read_text(encoding="utf-8") for script in (*FAMILY_SCRIPTS, SERVING / "one_gpu.sh"))
    assert all(can.hub.removesuffix("-4B") in recipes for can in FAMILIES.values())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_refuses_to_start_without_its_key(script: Path, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        started(script, tmp_path)
    assert "set " in error.value.stderr


@pytest.mark.parametrize("path", sorted(SERVING.rglob("turnguard.yaml")), ids=lambda path: path.parent.name)
def test_a_configuration_loads(path: Path) -> None:
    config = load(path)
    assert config.moderator.base_urls
    assert all(url.endswith("/v1") for url in config.moderator.base_urls)


def test_one_attempt_leaves_time_for_the_other_replica() -> None:
    settings = load(SERVING / "replicas" / "turnguard.yaml").moderator
    assert settings.attempt_timeout is not None
    assert settings.attempt_timeout * len(settings.base_urls) < settings.deadline


def test_nginx_takes_pictures_and_hides_what_no_key_guards() -> None:
    text = re.sub(r"#.*", "", (SERVING / "replicas" / "nginx.conf").read_text(encoding="utf-8"))
    assert text.count("{") == text.count("}")
    size = re.search(r"client_max_body_size (\d+)m;", text)
    assert size is not None
    assert int(size[1]) >= 4
    idle = re.search(r"keepalive_timeout (\d+)s;", text)
    assert idle is not None
    assert int(idle[1]) < 5, "vLLM's uvicorn closes idle connections after 5 s"
    assert re.search(r"location / \{ return 404; \}", text)
    assert "proxy_set_header Authorization" in text


def test_compose() -> None:
    (compose,) = documents(SERVING / "compose.yaml")
    services = compose["services"]
    assert set(compose) <= {"services", "volumes"}
    moderator = services["moderator"]
    holds_for_vllm(moderator["command"])
    assert re.search(r":v\d+\.\d+\.\d+$", moderator["image"]), "a fixed version"
    assert all(port.startswith("127.0.0.1:") for port in moderator["ports"])
    grace, drain = moderator["stop_grace_period"], option(moderator["command"], "--shutdown-timeout")
    assert int(grace.rstrip("s")) > int(drain)
    assert {volume.partition(":")[0] for volume in moderator["volumes"]} == set(compose["volumes"])
    assert services["doctor"]["environment"]["TURNGUARD_BASE_URL"] == "http://moderator:8000/v1"
    assert services["doctor"]["depends_on"]["moderator"]["condition"] == "service_healthy"
    assert "healthcheck" in moderator


def test_kubernetes() -> None:
    found = {document["kind"]: document for document in documents(SERVING / "kubernetes" / "moderator.yaml")}
    pod = found["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    holds_for_vllm(container["args"])
    labels = pod["metadata"]["labels"]
    for selector in (
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    (port,) = container["ports"]
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": port["name"]}
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600, "loading takes minutes"
    drain = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["spec"]["terminationGracePeriodSeconds"] > drain + int(option(container["args"], "--shutdown-timeout"))
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert claim == found["PersistentVolumeClaim"]["metadata"]["name"]


def test_autoscaling_watches_the_queue_and_never_scales_to_zero() -> None:
    (scaled,) = documents(SERVING / "kubernetes" / "autoscaling.yaml")
    assert scaled["spec"]["minReplicaCount"] >= 1
    queries = " ".join(trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"])
    from turnguard.sandbox.wire.endpoints import Counters, ServerInfo, metrics

    served = metrics(ServerInfo(), Counters())
    for series in ("vllm:num_requests_waiting", "vllm:num_requests_running"):
        assert series in queries
        assert series in served, "the fake's metrics are those of a real server"
    target = next(
        document["metadata"]["name"]
        for document in documents(SERVING / "kubernetes" / "moderator.yaml")
        if document["kind"] == "Deployment"
    )
    assert scaled["spec"]["scaleTargetRef"]["name"] == target


def test_the_readme_lists_every_recipe() -> None:
    text = (SERVING / "README.md").read_text(encoding="utf-8")
    for entry in SERVING.iterdir():
        if entry.name != "README.md":
            assert f"({entry.name}{'/' if entry.is_dir() else ''})" in text, entry.name


def test_every_canary_of_the_readme_exists() -> None:
    text = (SERVING / "README.md").read_text(encoding="utf-8") + "".join(
        path.read_text(encoding="utf-8") for path in SERVING.rglob("*.sh")
    )
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/turnguard/doctor").rglob("*.py"))
    named = set(re.findall(r"\(`([a-z_]+)`[,)]", text)) | set(re.findall(r"\(doctor: ([a-z_]+)\)", text))
    assert len(named) > 6
    for canary in named:
        assert f'"{canary}"' in sources, canary


def test_every_flag_has_its_reason() -> None:
    """Beside it, or in the recipe for one GPU, to which a file then points."""

    def flags(path: Path) -> dict[str, bool]:
        """Each flag of a recipe, and whether a reason stands on its line."""
        found = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            if told := re.match(r"\s+(?:- )?(--[a-z][a-z-]+)(?=[ =]|$)([^#]*)(#?)", line):
                found[told[1]] = bool(told[3])
        return found

    reasons = {flag for flag, told in flags(SERVING / "one_gpu.sh").items() if told}
    for path in [*SCRIPTS, SERVING / "compose.yaml", SERVING / "kubernetes" / "moderator.yaml"]:
        without = {flag for flag, told in flags(path).items() if not told}
        points = "one_gpu.sh" in path.read_text(encoding="utf-8")
        assert without - (reasons if points else set()) == set(), path.name


@pytest.mark.vllm
def test_every_flag_is_known_to_vllm(tmp_path: Path) -> None:
    named = os.environ.get("TURNGUARD_VLLM_PYTHON")
    if not named:
        pytest.skip("TURNGUARD_VLLM_PYTHON is not set: `python scripts/vllm_env.py` prints its value")
    told = subprocess.run(
        [str(Path(named).parent / "vllm"), "serve", "--help=all"],
        capture_output=True, text=True, timeout=110, check=True,
    ).stdout  # fmt: skip
    compose = documents(SERVING / "compose.yaml")[0]["services"]["moderator"]["command"]
    used = set(compose)
    for name in VLLM:
        used |= set(started(SERVING / name, tmp_path, VLLM_API_KEY="x"))
    flags = {argument.partition("=")[0] for argument in used if argument.startswith("--")} - {"--extra"}
    assert sorted(flag for flag in flags if not re.search(rf"{flag}\b", told)) == []
