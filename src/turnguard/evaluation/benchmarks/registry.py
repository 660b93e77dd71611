"""The list of benchmarks, and where each one's folder is."""

from __future__ import annotations

from pathlib import Path

from turnguard.core.errors import ConfigError
from turnguard.evaluation.benchmarks import pictures, text
from turnguard.evaluation.benchmarks.base import Benchmark, Source

_RESEARCH = "for research only"
_TOKEN = "accept its terms on its page, then sign in with `hf auth login`"

_ALL = [
    Benchmark(
        "rtvlm",
        "RTVLM",
        "CC BY 4.0 (its dataset card)",
        "huggingface.co/datasets/MMInstruction/RedTeamingVLM",
        "the release's files and a fields.json",
        pictures.mapped("RTVLM", None),
        "as fields.json maps it",
    ),
    Benchmark(
        "vlguard",
        "VLGuard (test)",
        f"{_RESEARCH} (its gate)",
        "huggingface.co/datasets/ys-zong/VLGuard",
        "test.json and test.zip, unpacked",
        pictures.vlguard,
        "unsafe: an unsafe picture, or a safe one with its unsafe instruction",
        gated=_TOKEN,
        size="1,558",
    ),
    Benchmark(
        "mm-safetybench",
        "MM-SafetyBench",
        f"CC BY-NC 4.0, {_RESEARCH}",
        "github.com/isXinLiu/MM-SafetyBench",
        "processed_questions/*.json and imgs/<scenario>/{SD,SD_TYPO,TYPO}/*.jpg",
        pictures.mm_safetybench,
        "all taken as unsafe",
        size="5,040",
    ),
    Benchmark(
        "xstest",
        "XSTest",
        "CC BY 4.0",
        "github.com/paul-rottger/exaggerated-safety",
        "xstest_prompts.csv; for responses also *response_harmfulness* of allenai/xstest-response",
        text.xstest,
        "the release's own labels",
        Source("Paul/XSTest", "train"),
        text.xstest_rows,
        size="450",
    ),
    Benchmark(
        "figstep",
        "FigStep",
        "MIT",
        "github.com/ThuCCSLab/FigStep",
        "safebench.csv with images/SafeBench/*.png, or SafeBench-Tiny.csv with images/SafeBench-Tiny/*.png",
        pictures.figstep,
        "all unsafe",
        size="500 (Tiny: 50)",
    ),
    Benchmark(
        "aegis2",
        "Aegis 2 (test)",
        "CC BY 4.0",
        "huggingface.co/datasets/nvidia/Aegis-AI-Content-Safety-Dataset-2.0",
        "test.json",
        text.aegis2,
        "prompt_label and response_label; redacted prompts are left out",
        Source("nvidia/Aegis-AI-Content-Safety-Dataset-2.0", "test"),
        text.aegis2_rows,
        size="about 1,960",
    ),
    Benchmark(
        "wildguard",
        "WildGuardTest",
        "ODC-BY and Ai2's responsible use guidelines",
        "huggingface.co/datasets/allenai/wildguardmix",
        "test/*.parquet of the configuration wildguardtest",
        text.wildguard,
        "prompt_harm_label and response_harm_label",
        Source("allenai/wildguardmix", "test", ("wildguardtest",)),
        text.wildguard_rows,
        gated=_TOKEN,
        size="1,725",
    ),
    Benchmark(
        "polyguard",
        "PolyGuardPrompts",
        "CC BY 4.0 (its dataset card, as others quote it)",
        "huggingface.co/datasets/ToxicityPrompts/PolyGuardPrompts",
        "the test split's Parquet files",
        text.polyguard,
        "prompt_harm_label and response_harm_label",
        Source("ToxicityPrompts/PolyGuardPrompts", "test"),
        text.polyguard_rows,
        size="29,300",
    ),
    Benchmark(
        "rtp-lx",
        "RTP-LX",
        "MIT with a notice; unpack its archive with the password that its page names",
        "github.com/microsoft/RTP-LX",
        "the JSON per locale, or the Parquet files of ToxicityPrompts/RTP-LX",
        text.rtplx,
        f"unsafe: mean toxicity of the prompt above {text.RTPLX_TOXIC_ABOVE:g} (the card does not say where it cuts)",
        Source("ToxicityPrompts/RTP-LX", "test"),
        text.rtplx_rows,
        size="30,300",
    ),
    Benchmark(
        "multijail",
        "MultiJail",
        "MIT",
        "github.com/DAMO-NLP-SG/multilingual-safety-for-LLMs",
        "MultiJail.csv",
        text.multijail,
        "all unsafe",
        Source("DAMO-NLP-SG/MultiJail", "train"),
        text.multijail_rows,
        size="3,150",
    ),
    Benchmark(
        "xsafety",
        "XSafety",
        f"Apache-2.0 file; its README says {_RESEARCH}",
        "github.com/Jarviswang94/Multilingual_safety_benchmark",
        "<language>/<scenario>.csv",
        text.xsafety,
        "all taken as unsafe; the commonsense files are left out",
        size="28,000 with commonsense",
    ),
    Benchmark(
        "aya",
        "Aya Red-teaming",
        "Apache-2.0",
        "huggingface.co/datasets/CohereLabs/aya_redteaming",
        "aya_<language>.jsonl",
        text.aya,
        "all unsafe",
        size="7,419",
    ),
    Benchmark(
        "mmmu",
        "MMMU (test)",
        "Apache-2.0 (its repository)",
        "huggingface.co/datasets/MMMU/MMMU",
        "<subject>/test-*.parquet",
        pictures.mmmu,
        "assumed safe",
        size="10,500",
        sensitive=False,
    ),
    Benchmark(
        "docvqa",
        "DocVQA (test)",
        "see its page",
        "docvqa.org",
        "the release's files and a fields.json",
        pictures.mapped("DocVQA", "safe"),
        "assumed safe",
        size="5,188",
        sensitive=False,
    ),
    Benchmark(
        "ai2d",
        "AI2D (test)",
        "see its page",
        "prior.allenai.org/projects/diagram-understanding",
        "the release's files and a fields.json",
        pictures.mapped("AI2D", "safe"),
        "assumed safe",
        size="3,088",
        sensitive=False,
    ),
]
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}


def find(name: str) -> Benchmark:
    """Find a benchmark by name. Raises `ConfigError` with the nearest one."""
    from difflib import get_close_matches

    found = BENCHMARKS.get(name.lower())
    if found is None:
        near = get_close_matches(name.lower(), BENCHMARKS, n=1)
        meant = f", did you mean {near[0]!r}?" if near else ";"
        raise ConfigError(f"{name!r} is neither a benchmark nor a file here{meant} Benchmarks: {', '.join(BENCHMARKS)}")
    return found


def folder_of(benchmark: Benchmark, data: Path) -> Path:
    """`DATA/<name>` where it exists, else DATA itself."""
    own = data / benchmark.name
    return own if own.is_dir() else data
