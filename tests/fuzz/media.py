"""Fuzz target of the media wing: hostile files must end as views or as a counted entry, never as a crash or an allow.

`python -m tests.fuzz.media --count 240 --seed 1` mutates valid files of every format and prints one JSON line: how many were
tried, how many could be read, the slowest in seconds and the growth of peak memory in bytes. `one_input` is the target for
a coverage-guided fuzzer.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import sys
import time
import warnings
import zlib

from benchmarks.media import high_water
from PIL import Image as Pillow
from PIL import ImageCms
from PIL.PngImagePlugin import PngInfo

from tests.media.containers import TURNED, with_further
from tests.media.drawing import AVIF, encoded, noise, page
from tests.media.pdfs import pdf, words
from turnguard.config.settings import MediaSettings
from turnguard.media import split_data_uris
from turnguard.media.documents.encodings import decodings
from turnguard.media.read import read
from turnguard.media.types import Made

SETTINGS = MediaSettings(max_pixels=4_000_000, max_requests=6, max_frames=6)


def seeds() -> dict[str, bytes]:
    """One small valid file of each kind that is read, and of some that are not."""
    still, grain = page((160, 120)), noise((90, 70))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    def several(form: str, count: int = 3) -> bytes:
        frames = [page((80, 60), str(at)) for at in range(count)]  # fresh: saving as MPO marks them (Pillow)
        return encoded(frames[0], form, save_all=True, append_images=frames[1:])

    found = {
        "png": encoded(still),
        "png 16": encoded(still.convert("L").convert("I").convert("I;16")),
        "png palette": encoded(still.quantize(8)),
        "png alpha": encoded(still.convert("RGBA")),
        "apng": several("PNG"),
        "jpeg": encoded(grain, "JPEG"),
        "jpeg progressive": encoded(grain, "JPEG", progressive=True),
        "jpeg cmyk": encoded(grain.convert("CMYK"), "JPEG"),
        "mpo": several("MPO", 2),  # Pillow 11.0 writes three wrongly
        "gif": several("GIF"),
        "webp": encoded(grain, "WEBP"),
        "webp lossless": encoded(still, "WEBP", lossless=True),
        "webp animated": several("WEBP"),
        "tiff": encoded(still, "TIFF"),
        "tiff deflate": encoded(still, "TIFF", compression="tiff_adobe_deflate"),
        "tiff pages": several("TIFF"),
        "bmp": encoded(still, "BMP"),
        "png 16 transparent": _with_level(encoded(still.convert("L").convert("I").convert("I;16"))),
        "png that speaks": encoded(still, pnginfo=_info(), exif=_exif(), icc_profile=profile),
        "jpeg that speaks": encoded(still, "JPEG", comment=b"a comment", exif=_exif(), icc_profile=profile),
        "webp that speaks": encoded(
            still, "WEBP", exif=_exif(), icc_profile=profile, xmp=b"<x:xmpmeta>said</x:xmpmeta>"
        ),
        "gif that speaks": encoded(still, "GIF", comment=b"a comment"),
        "tiff that speaks": encoded(still, "TIFF", tiffinfo={270: "a description"}, icc_profile=profile),
        "tiff float": encoded(still.convert("F"), "TIFF"),
        "large": encoded(page((1500, 1200))),
        "ico": encoded(page((64, 64)), "ICO", sizes=[(32, 32), (64, 64)]),
        "pdf": pdf(words("first"), words("second"), image=grain),
        "text": b"<p>words</p>",
    }
    if AVIF:
        found["avif"] = encoded(grain, "AVIF")
        found["avif with more"] = with_further(found["avif"], b"thmb", TURNED)
    return found


def _with_level(png: bytes) -> bytes:
    """A grey PNG of 16 bits with one transparent level."""
    body = b"tRNS\0\0"
    return png[:33] + struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body)) + png[33:]


def _info() -> PngInfo:
    info = PngInfo()
    info.add_text("Comment", "a comment")
    info.add_itxt("Title", "a title", "en", "title", zip=True)
    return info


def _exif() -> bytes:
    exif = Pillow.Exif()
    exif[0x010E] = "a description"
    exif[0x9C9B] = "a title".encode("utf-16-le")
    return exif.tobytes()


def mutated(data: bytes, chance: random.Random) -> bytes:
    """`data` with a few of its bytes, lengths or stretches changed."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(max(1, len(out)))
        match chance.randrange(7):
            case 0:
                out[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                out[at : at + 4] = chance.choice(
                    (b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\x00\x00\xff\xff")
                )
            case 2:
                del out[at:]
            case 3:
                del out[at : at + chance.randrange(1, 40)]
            case 4:
                out[at:at] = out[max(0, at - chance.randrange(1, 200)) : at]
            case 5:
                out[at:at] = chance.randbytes(chance.randrange(1, 64))
            case _:  # headers are where the sizes stand
                early = chance.randrange(min(64, max(1, len(out))))
                out[early : early + 1] = bytes([chance.randrange(256)])
    return bytes(out)


def one_input(data: bytes) -> Made:
    """Read hostile bytes as a part and as text. Raises only where the library is wrong."""
    made = read(data, SETTINGS, SETTINGS.max_requests, lambda: False)
    left_out = [entry for entry in made.skipped if entry.counts]
    blank = [entry.cause for entry in made.skipped] == ["empty"] and not decodings(data)[0][0].strip()
    assert made.views or made.texts or left_out or blank, "nothing was judged and nothing was said about it"
    assert len(made.views) <= SETTINGS.max_requests
    for view in made.views:
        assert view.picture.media_type in ("image/png", "image/jpeg")
    split_data_uris(data.decode("latin-1"))
    return made


def main() -> None:
    """Try `--count` mutations and report."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--pictures", action="store_true", help="only picture files")
    chosen = arguments.parse_args()
    warnings.simplefilter("ignore")  # Pillow warns about much that it then reads
    chance = random.Random(chosen.seed)  # noqa: S311 - reproducible, not secret
    files = [(name, data) for name, data in seeds().items() if not (chosen.pictures and name in ("pdf", "text"))]
    for _, data in files:
        assert one_input(data).views or one_input(data).texts  # warm, and the seeds themselves are good
    Pillow.init()
    before = high_water()
    read_at_all, slowest = 0, 0.0
    for number in range(chosen.count):
        name, data = files[number % len(files)]
        hostile = mutated(data, chance)
        start = time.perf_counter()
        try:
            made = one_input(hostile)
        except BaseException:
            sys.stderr.write(f"{name}: {hostile.hex()}\n")
            raise
        slowest = max(slowest, time.perf_counter() - start)
        read_at_all += bool(made.views or made.texts)
    grown = high_water() - before
    sys.stdout.write(
        json.dumps({"tried": chosen.count, "read": read_at_all, "slowest": round(slowest, 3), "grown": grown}) + "\n"
    )


if __name__ == "__main__":
    main()
