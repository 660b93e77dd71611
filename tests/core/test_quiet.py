"""With every logger at DEBUG, no library that reads content for us writes any of it down."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

SECRET = "SECRETWORD"
PROGRAM = """
import asyncio, logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
from pathlib import Path
from turnguard import Document, Guard, Step
from turnguard.testing import FakeModerator

async def main():
    async with Guard(moderator=FakeModerator()) as guard:
        for path in sys.argv[1:]:
            data = Path(path).read_bytes()
            made = Step.input("x", documents=[Document(data)]) if path.endswith("pdf") else Step.input("x", [data])
            decision = await guard.acheck(made)
            print("CHECKED", decision.action)

asyncio.run(main())
from PIL import Image
logging.getLogger("PIL").setLevel(logging.DEBUG)
Image.open(sys.argv[1]).load()
print("OWN USE")
"""


def pictures(folder: Path) -> list[Path]:
    image = Pillow.new("RGB", (64, 64), "navy")
    exif = Pillow.Exif()
    exif[0x010E] = f"{SECRET} in EXIF"
    said = PngInfo()
    said.add_text("Comment", f"{SECRET} in a PNG")
    paths = [folder / name for name in ("a.jpg", "a.png", "a.tiff", "a.webp")]
    image.save(paths[0], exif=exif)
    image.save(paths[1], pnginfo=said, exif=exif)
    image.save(paths[2], description=f"{SECRET} in a TIFF")
    image.save(paths[3], exif=exif)
    return paths


def test_no_library_logs_what_it_reads_for_us(tmp_path: Path) -> None:
    paths = pictures(tmp_path)
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *map(str, paths)], capture_output=True, text=True, check=True)
    checked, _, own = ran.stdout.rpartition("CHECKED")
    assert ran.stdout.count("CHECKED") == len(paths)
    assert SECRET not in checked + ran.stderr
    assert "PIL." in own  # what the program itself opens with Pillow is logged as ever


def test_a_library_that_others_use_meanwhile_logs_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    from turnguard.runtime.quiet import at_work, hush_package

    hush_package("PIL")
    buffer = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(buffer, "PNG")
    with caplog.at_level(logging.DEBUG):
        with at_work():
            Pillow.open(io.BytesIO(buffer.getvalue())).load()
        assert not [record for record in caplog.records if record.name.startswith("PIL")]
        Pillow.open(io.BytesIO(buffer.getvalue())).load()
    assert [record for record in caplog.records if record.name.startswith("PIL")]
