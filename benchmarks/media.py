"""What preparing a screenshot costs: against the bare Pillow operations that it needs, and in memory.

    python benchmarks/media.py [--rounds 7] [--json]

Bare Pillow: decode the PNG, resize the whole, crop and resize each tile, encode each view in the form that the library
chose, in one thread and nothing else. Both are measured alternately in one run and compared by their medians, so that a
busy machine slows both. Memory is the growth of the process's peak in a process of its own, against the decoded size at
three bytes a pixel.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from turnguard.config.settings import MediaSettings
from turnguard.core.step import Image
from turnguard.media import Media, View
from turnguard.media.pictures.tiles import EYE, Box, grid

SCREENS = {"4K": (3840, 2160), "1080p": (1920, 1080)}


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, and of this process's CPU over all threads: a busy machine distorts the second far less."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Cost:
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


def median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.cpu for cost in costs))


def screenshot(size: tuple[int, int], alpha: bool = False) -> bytes:
    """A screen with windows, small print and a photograph on it, as PNG."""
    picture = Pillow.new("RGB", size, (244, 245, 247))
    draw = ImageDraw.Draw(picture)
    print_ = ImageFont.load_default(13)
    for left in range(30, size[0] - 400, 620):
        draw.rectangle((left, 40, left + 560, size[1] - 60), fill=(255, 255, 255), outline=(200, 200, 205))
        for upper in range(60, size[1] - 90, 20):
            words = "the quick brown fox jumps over the lazy dog and reads its mail again "
            draw.text((left + 12, upper), words[upper % 17 :], font=print_, fill=(35, 35, 40))
    photo = Pillow.merge("RGB", [Pillow.effect_noise((500, 350), 40) for _ in range(3)])
    picture.paste(photo, (size[0] - 560, size[1] - 420))
    out = io.BytesIO()
    (picture.convert("RGBA") if alpha else picture).save(out, "PNG")
    return out.getvalue()


def bare(data: bytes, forms: dict[str, str]) -> Cost:
    """The operations themselves."""
    start = Cost.now()
    with Pillow.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB") if opened.mode != "RGB" else opened
        picture.load()
        boxes = grid(*picture.size)
        regions = [Box(0, 0, *picture.size), *boxes]
        for at, box in enumerate(regions):
            name = f"tile {at} of {len(boxes)}" if at else ""
            if name not in forms:
                continue
            part = picture.crop(box) if at else picture
            size = (min(EYE, part.width), min(EYE, part.height))
            view = part.resize(size, Pillow.Resampling.LANCZOS, reducing_gap=2.0)
            options = {"compress_level": 3} if forms[name] == "PNG" else {"quality": 92, "subsampling": 0}
            view.save(io.BytesIO(), forms[name], **options)
    return Cost.now() - start


def prepared(data: bytes) -> tuple[Cost, tuple[View, ...]]:
    """`Media.prepare` with an empty memory, and the views."""

    async def run() -> tuple[Cost, tuple[View, ...]]:
        media = Media(MediaSettings())
        start = Cost.now()
        result = await media.prepare(Image(data))
        took = Cost.now() - start
        await media.aclose()
        return took, result.views

    return asyncio.run(run())


def remembered(data: bytes) -> float:
    """Seconds for the same bytes a second time."""

    async def run() -> float:
        media = Media(MediaSettings())
        await media.prepare(Image(data))
        start = time.perf_counter()
        await media.prepare(Image(bytes(bytearray(data))))
        took = time.perf_counter() - start
        await media.aclose()
        return took

    return asyncio.run(run())


def high_water() -> int:
    """Peak memory of this process in bytes. Not `ru_maxrss` on Linux: a child inherits its parent's there."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak(size: tuple[int, int], alpha: bool) -> float:
    """In this process: growth of the peak, as a multiple of the decoded size."""
    data = screenshot((300, 200))
    prepared(data)  # what is imported once
    command = [sys.executable, __file__, "--draw", f"{size[0]}x{size[1]}", *(["--alpha"] if alpha else [])]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    before = high_water()
    prepared(data)
    return (high_water() - before) / (size[0] * size[1] * (4 if alpha else 3))


def measure(rounds: int) -> dict[str, float | int]:
    """Everything that is printed."""
    result: dict[str, float | int] = {}
    for name, size in SCREENS.items():
        data = screenshot(size)
        _, views = prepared(data)
        forms = {view.detail: view.picture.media_type.partition("/")[2].upper() for view in views}
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(bare(data, forms))
            ours.append(prepared(data)[0])
        result[f"{name} views"] = len(views)
        result[f"{name} kilobytes sent"] = round(sum(len(view.picture.data) for view in views) / 1000)
        us, them = median(ours), median(theirs)
        result[f"{name} bare Pillow ms"] = round(them.wall * 1000, 1)
        result[f"{name} prepare ms"] = round(us.wall * 1000, 1)
        result[f"{name} ratio by the clock"] = round(us.wall / them.wall, 3)
        result[f"{name} ratio of CPU time"] = round(us.cpu / them.cpu, 3)
        result[f"{name} again ms"] = round(remembered(data) * 1000, 2)
    result["1080p to 4K"] = round(float(result["1080p prepare ms"]) / float(result["4K prepare ms"]), 3)
    for label, alpha in (("4K peak memory, times its decoded size", False), ("the same with transparency", True)):
        command = [sys.executable, __file__, "--peak", *(["--alpha"] if alpha else [])]
        result[label] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--json", action="store_true")
    for inner in ("--peak", "--alpha"):
        arguments.add_argument(inner, action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("--draw", help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.draw:
        width, height = map(int, chosen.draw.split("x"))
        sys.stdout.buffer.write(screenshot((width, height), chosen.alpha))
    elif chosen.peak:
        print(round(peak(SCREENS["4K"], chosen.alpha), 3))
    else:
        result = measure(chosen.rounds)
        lines = (f"{name:45} {value}" for name, value in result.items())
        print(json.dumps(result) if chosen.json else "\n".join(lines))


if __name__ == "__main__":
    main()
