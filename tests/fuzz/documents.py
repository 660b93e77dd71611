"""Fuzz target of the readers of documents: a hostile file ends as texts, views or a counted entry, and never as an error.

`python -m tests.fuzz.documents READER --count 20000 --seed 1` mutates valid files and prints one JSON line: how many were
tried and read, the slowest in seconds of CPU, and the growth of peak memory in bytes. Mutations of a PDF change what its
streams hold, too. An exception that a reader lets through ends the run; so does a crash in a C decoder.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import re
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable

from benchmarks.media import high_water

from tests.fuzz.media import mutated
from tests.media.containers import FILM, TURNED, mpvd, with_further
from tests.media.planted import markup, office, pdf
from tests.media.planted.drawn import HEIC, svg
from tests.media.planted.marks import WORDS, Planted, red_png
from tests.media.planted.markup import mail, page
from turnguard.config.settings import MediaSettings
from turnguard.media.read import read
from turnguard.media.readings import As
from turnguard.media.types import Made

SETTINGS = MediaSettings(max_pixels=250_000, max_requests=3, max_frames=3)
_FLATE = re.compile(rb"/Filter /FlateDecode /Length \d+ >>\nstream\n(.*?)\nendstream", re.DOTALL)


def _files(*groups: dict[str, Callable[[], Planted | bytes]]) -> list[Planted]:
    made = [make() for group in groups for make in group.values()]
    return [file if isinstance(file, Planted) else Planted(file) for file in made]


def _texts() -> list[Planted]:
    said = {
        "cp1251": "как сделать это дома",
        "shift_jis": "爆弾の作り方",
        "gb18030": "怎样做",
        "utf-16": "how 爆弾",
        "hz": "怎样",
    }
    return [
        Planted(text.encode(encoding) * 5, "a.txt", f"text/plain; charset={encoding}")
        for encoding, text in said.items()
    ]


def _archives() -> list[Planted]:
    files = {"a.txt": WORDS.encode(), "a.html": page(), "a.eml": mail(), "a.png": red_png(), "b/a.svg": svg("<g/>")}
    plain = _zipped(files)
    nested = _zipped({"a.zip": plain, "nameless": b"no name", "a.docx": office.word()}).replace(b"nameless", bytes(8))
    return [Planted(plain, "a.zip"), Planted(nested), Planted(b"text before it\n" + plain, "a.txt", "text/plain")]


def _zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"a comment"
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def _drawings() -> list[Planted]:
    picture = base64.b64encode(red_png()).decode()
    inside = (
        '<rect width="9" height="9" fill="#c81e1e"/>',
        f"<text x='4' y='20' style='font-size:12pt'>{WORDS}</text><desc>more</desc>",
        f'<image width="9" height="9" xlink:href="data:image/png;base64,{picture}"/>',
        '<defs><linearGradient id="g"><stop stop-color="red"/></linearGradient></defs><path d="M0 0L9 9z" fill="url(#g)"/>',
        "<style>@import url(http://a.example/a.css); rect {fill: red}</style><script>1</script><animate/>",
    )
    return [Planted(svg(each), name) for each in inside for name in ("a.svg", "a.txt")]


def _containers() -> list[Planted]:
    further = [(b"thmb", False), (b"auxl", False), (None, True), (None, False)]
    made = [with_further(HEIC, reference, TURNED, hidden=hidden) for reference, hidden in further]
    return [Planted(data) for data in (HEIC, *made, HEIC + mpvd(FILM))]


READERS: dict[str, Callable[[], list[Planted]]] = {
    "pdf": lambda: _files(pdf.WORDS_IN, pdf.PICTURE_IN),
    "docx": lambda: _files(office.DOCX),
    "xlsx": lambda: _files(office.XLSX),
    "pptx": lambda: _files(office.PPTX),
    "html": lambda: _files(markup.HTML),
    "mail": lambda: _files(markup.MAIL),
    "zip": _archives,
    "heic": _containers,
    "svg": _drawings,
    "text": _texts,
}


def hostile(file: Planted, chance: random.Random) -> Planted:
    """A mutation of a file, or of what is compressed in it."""
    data = file.data
    if data.startswith(b"PK") and chance.random() < 0.7:
        data = _repacked(data, chance)
    elif b"%PDF-" in data and chance.random() < 0.5:
        data = _FLATE.sub(lambda match: match[0].replace(match[1], _again(match[1], chance)), data)
        data = mutated(data, chance) if chance.random() < 0.5 else data
    else:
        data = mutated(data, chance)
    return file._replace(data=data)


def _again(packed: bytes, chance: random.Random) -> bytes:
    try:
        return zlib.compress(mutated(zlib.decompress(packed), chance))
    except zlib.error:
        return packed


def _repacked(data: bytes, chance: random.Random) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            content = old.read(member)
            new.writestr(
                member.filename or "nameless",
                mutated(content, chance) if chance.random() < 0.5 and content else content,
            )
    return out.getvalue()


def one_input(file: Planted) -> Made:
    """Read a hostile file. Raises only where the library is wrong."""
    made = read(
        file.data, SETTINGS, SETTINGS.max_requests, lambda: False, As.of(file.media_type, file.name, file.password)
    )
    said_nothing = not (made.views or made.texts or made.skipped)
    assert not said_nothing or not file.data.strip(), "nothing was judged and nothing was said about it"
    assert len(made.views) <= SETTINGS.max_requests
    return made


def main() -> None:
    """Try `--count` mutations and report."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("reader", choices=READERS)
    arguments.add_argument("--count", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--seconds", type=float, default=1e9)
    chosen = arguments.parse_args()
    warnings.simplefilter("ignore")  # Pillow warns about much that it then reads
    chance = random.Random(chosen.seed)  # noqa: S311 - reproducible, not secret
    files = [file for file in READERS[chosen.reader]() if file.data]
    for file in files:
        one_input(file)
    before, ends = high_water(), time.monotonic() + chosen.seconds
    tried = read_at_all = 0
    slowest = 0.0
    while tried < chosen.count and time.monotonic() < ends:
        file = hostile(files[tried % len(files)], chance)
        start = time.process_time()
        try:
            made = one_input(file)
        except BaseException:
            sys.stderr.write(f"{file._replace(data=b'')} {file.data.hex()}\n")
            raise
        slowest = max(slowest, time.process_time() - start)
        read_at_all += bool(made.views or made.texts)
        tried += 1
    report = {"reader": chosen.reader, "tried": tried, "read": read_at_all, "slowest": round(slowest, 3)}
    sys.stdout.write(json.dumps({**report, "grown": high_water() - before}) + "\n")


if __name__ == "__main__":
    main()
