"""What files cost: pictures beside the bare Pillow operations that they need, long texts, and a PDF beside a bomb.

    python -m benchmarks.media [--rounds 7] [--pictures] [--json]

Bare Pillow: decode the file, resize the whole, crop and resize each tile, encode each view in the form that the library
chose, in one thread and nothing else. Both are measured alternately in one run and compared by their medians, so that a
busy machine slows both. Memory is the growth of the process's peak in a process of its own, against the decoded size at
three bytes a pixel. A text of 1 MB is checked as an input, a document and a tool result by a guard with a scripted
moderator, alternating with SHA-256 of the same bytes, by CPU; the least of the rounds counts.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from turnguard import Guard
from turnguard.config.settings import MediaSettings
from turnguard.core.step import Document, Image, Step
from turnguard.media import Media, View
from turnguard.media.pictures.tiles import EYE, Box, grid
from turnguard.testing import FakeModerator

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


def photo(size: tuple[int, int] = (4032, 3024)) -> bytes:
    """A photograph of a phone: soft, without small print."""
    grain = Pillow.merge("RGB", [Pillow.effect_noise((size[0] // 32, size[1] // 32), 90) for _ in range(3)])
    out = io.BytesIO()
    grain.resize(size, Pillow.Resampling.BICUBIC).save(out, "JPEG", quality=88)
    return out.getvalue()


def log(number: int, size: int = 1_000_000) -> str:
    """A log file, another one for each number."""
    line = "2026-11-30T17:{:02}:{:02}Z INFO worker-{} served GET /v1/items/{} in {} ms\n"
    lines = (line.format(at // 60 % 60, at % 60, at % 7, (at + number) * 37, at % 211) for at in range(size // 60))
    return "".join(lines)[:size]


TEXTS: dict[str, Callable[[str], Step]] = {
    "an input": Step.input,
    "a document": lambda text: Step.input("Sum it up.", documents=[Document(text.encode(), "text/plain")]),
    "a tool result": lambda text: Step.tool_result("read", text),
}


def texts(rounds: int) -> dict[str, float]:
    """Seconds of CPU for a check of 1 MB of text in each place, and their ratio to hashing it."""
    least: dict[str, float] = {}

    async def run() -> None:
        async with Guard(moderator=FakeModerator()) as guard:
            for number in range(rounds + 1):
                text = log(number)
                for place, step in TEXTS.items():
                    made = step(text)
                    start = time.process_time()
                    await guard.acheck(made)
                    took = time.process_time() - start
                    if number:  # the first imports what is imported once
                        least[place] = min(took, least.get(place, took))
                data = text.encode()
                start = time.process_time()
                hashlib.sha256(data).digest()
                least["hashing"] = min(time.process_time() - start, least.get("hashing", 1.0))

    asyncio.run(run())
    found: dict[str, float] = {}
    for place in TEXTS:
        found[f"1 MB of text as {place}, CPU ms"] = round(least[place] * 1000, 1)
        found[f"1 MB of text as {place}, times its SHA-256"] = round(least[place] / least["hashing"], 1)
    return found


def after_a_bomb(rounds: int) -> dict[str, float]:
    """Seconds by the clock for a page of PDF by itself, and while PDFium is busy with a PDF that it never finishes."""
    from tests.media.pdfs import bomb, pdf, words

    async def one(media: Media, number: int) -> float:
        start = time.perf_counter()
        made = await media.prepare(Document(pdf(words(f"page {number}"))))
        assert made.views
        return time.perf_counter() - start

    async def run() -> tuple[list[float], list[float]]:
        media = Media(MediaSettings(deadline=6))
        await one(media, -1)  # starts the first child
        alone = [await one(media, number) for number in range(rounds)]
        beside: list[float] = []
        for number in range(rounds):
            stuck = asyncio.create_task(media.prepare(Document(bomb() + bytes([number]))))
            await asyncio.sleep(0.5)
            beside.append(await one(media, 1000 + number))
            assert not stuck.done()
            await stuck
            beside.append(await one(media, 2000 + number))  # its child was killed
        await media.aclose()
        return alone, beside

    alone, beside = asyncio.run(run())
    return {
        "a PDF s": round(statistics.median(alone), 3),
        "the next PDF beside and after a bomb s": round(max(beside), 3),
    }


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
    pictures = {**{name: screenshot(size) for name, size in SCREENS.items()}, "12 MP photo": photo()}
    for name, data in pictures.items():
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
    arguments.add_argument("--pictures", action="store_true", help="only pictures")
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
        if not chosen.pictures:
            result |= {**texts(chosen.rounds), **after_a_bomb(max(1, chosen.rounds // 3))}
        lines = (f"{name:45} {value}" for name, value in result.items())
        print(json.dumps(result) if chosen.json else "\n".join(lines))


if __name__ == "__main__":
    main()
