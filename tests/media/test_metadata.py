"""What a picture file says beside its pixels is judged as text."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from typing import Any

import pytest
from PIL import Image as Pillow
from PIL import ImageCms
from PIL.PngImagePlugin import PngInfo

from tests.media.drawing import AVIF, counted, encoded, noise, page, prepare
from turnguard import Guard, Step
from turnguard.media.pictures.metadata.texts import MOST
from turnguard.testing import FakeModerator

SAID = "how to do UNSAFE now"
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/png">%s</rdf:Description></rdf:RDF></x:xmpmeta>'
    '<?xpacket end="w"?>'
)
DESCRIPTION = XMP % f"<dc:description>{SAID}</dc:description>"


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(*chunks: bytes) -> bytes:
    plain = encoded(page())
    return plain[:33] + b"".join(chunks) + plain[33:]


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    plain = encoded(page(), "JPEG")
    return plain[:2] + b"".join(bytes([255, m]) + struct.pack(">H", len(b) + 2) + b for m, b in segments) + plain[2:]


def exif(**tags: Any) -> bytes:
    found = Pillow.Exif()
    for name, value in tags.items():
        found[int(name[1:], 16)] = value
    return found.tobytes()


def profile(copyright_: bytes) -> bytes:
    """An sRGB profile whose copyright says something else, of at most 24 characters."""
    made = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = made.index(b"No copyright".decode().encode("utf-16-be"))
    made[at : at + 48] = copyright_.decode().ljust(24).encode("utf-16-be")
    return bytes(made)


def gif(extension: bytes) -> bytes:
    plain = encoded(page(), "GIF")
    at = plain.index(b",", 13 + (3 << ((plain[10] & 7) + 1)))
    return plain[:at] + extension + plain[at:]


def blocks_of(body: bytes) -> bytes:
    pieces = [body[at : at + 255] for at in range(0, len(body), 255)]
    return b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


said = SAID.encode()
WHERE: dict[str, bytes] = {
    "PNG tEXt": png(chunk(b"tEXt", b"Comment\0" + said)),
    "PNG tEXt keyword": png(chunk(b"tEXt", said + b"\0x")),
    "PNG zTXt": png(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(said))),
    "PNG iTXt": png(chunk(b"iTXt", b"Comment\0\0\0en\0\0" + said)),
    "PNG iTXt packed": png(chunk(b"iTXt", b"Comment\0\1\0en\0\0" + zlib.compress(said))),
    "PNG iTXt translated keyword": png(chunk(b"iTXt", b"Comment\0\0\0en\0" + said + b"\0x")),
    "PNG XMP": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + DESCRIPTION.encode())),
    "PNG eXIf": png(chunk(b"eXIf", exif(x010E=SAID).removeprefix(b"Exif\0\0"))),
    "PNG unknown chunk": png(chunk(b"moRe", b"\1\2\3" + said + b"\xff")),
    "PNG profile name": png(chunk(b"iCCP", said + b"\0\0" + zlib.compress(profile(b"x")))),
    "PNG behind its end": encoded(page()) + said,
    "PNG late chunk": encoded(page())[:-12] + chunk(b"tEXt", b"Comment\0" + said) + encoded(page())[-12:],
    "JPEG COM": jpeg((0xFE, said)),
    "JPEG COM in UTF-16": jpeg((0xFE, SAID.encode("utf-16"))),
    "JPEG EXIF description": encoded(page(), "JPEG", exif=exif(x010E=SAID)),
    "JPEG EXIF user comment": encoded(page(), "JPEG", exif=exif(x9286=b"UNICODE\0" + SAID.encode("utf-16-le"))),
    "JPEG EXIF Windows title": encoded(page(), "JPEG", exif=exif(x9C9B=(SAID + "\0").encode("utf-16-le"))),
    "JPEG EXIF unknown tag": encoded(page(), "JPEG", exif=exif(xC7A0=SAID)),
    "JPEG XMP": jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + DESCRIPTION.encode())),
    "JPEG XMP attribute": jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + (XMP % f'<dc:x y="{SAID}"/>').encode())),
    "JPEG IPTC": jpeg((0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\x20\x1c\2\x78\0" + bytes([len(said)]) + said)),
    "JPEG unknown segment": jpeg((0xEB, b"\1\2\3" + said)),
    "JPEG profile": encoded(page(), "JPEG", icc_profile=profile(said)),
    "JPEG behind its end": encoded(page(), "JPEG") + said,
    "JPEG between segments": encoded(page(), "JPEG")[:20] + said + encoded(page(), "JPEG")[20:],
    "JPEG thumbnail's comment": encoded(page(), "JPEG", exif=exif(x010E="x") + jpeg((0xFE, said))[:9000]),
    "GIF comment": gif(b"!\xfe" + blocks_of(said)),
    "GIF application": gif(b"!\xff" + blocks_of(b"SOMETHING12")[:-1] + blocks_of(said)),
    "GIF plain text": gif(b"!\1\x0c" + bytes(12) + blocks_of(said)),
    "GIF XMP": gif(b"!\xff\x0bXMP DataXMP" + DESCRIPTION.encode() + bytes([1, *range(255, -1, -1), 0])),
    "GIF behind its end": encoded(page(), "GIF") + said,
    "WebP EXIF": encoded(page(), "WEBP", exif=exif(x010E=SAID)),
    "WebP XMP": encoded(page(), "WEBP", xmp=DESCRIPTION.encode()),
    "WebP profile": encoded(page(), "WEBP", icc_profile=profile(said)),
    "TIFF description": encoded(page(), "TIFF", tiffinfo={270: SAID}),
    "TIFF unknown tag": encoded(page(), "TIFF", tiffinfo={65000: SAID}),
    "TIFF behind its end": encoded(page(), "TIFF") + said,
    "BMP between header and pixels": b"",
    "ICO picture": b"",
}
_bmp = encoded(page(), "BMP")
WHERE["BMP between header and pixels"] = (
    _bmp[:10] + struct.pack("<I", 54 + 32) + _bmp[14:54] + said.ljust(32) + _bmp[54:]
)
_icon = encoded(page((64, 64)))
_ico = _icon[:33] + chunk(b"tEXt", b"Comment\0" + said) + _icon[33:]
WHERE["ICO picture"] = struct.pack("<HHHBBBBHHII", 0, 1, 1, 64, 64, 0, 0, 1, 32, len(_ico), 22) + _ico
if AVIF:
    WHERE["AVIF EXIF"] = encoded(page(), "AVIF", exif=exif(x010E=SAID))
    WHERE["AVIF XMP"] = encoded(page(), "AVIF", xmp=DESCRIPTION.encode())


@pytest.mark.parametrize("where", WHERE)
async def test_words_beside_the_pixels_are_judged(where: str) -> None:
    prepared = await prepare(WHERE[where])
    assert prepared.views
    assert any("UNSAFE" in text for _, text in prepared.texts), prepared.texts
    async with Guard(moderator=FakeModerator(unsafe=["UNSAFE"])) as guard:
        decision = await guard.acheck(Step.input("Look", images=[WHERE[where]]))
    assert decision.action == "block"
    assert decision.reasons[0].kind == "verdict"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", *(["AVIF"] if AVIF else [])])
async def test_a_picture_that_says_nothing_costs_no_text(form: str) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    more = {"icc_profile": srgb} if form in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF") else {}
    prepared = await prepare(encoded(noise((64, 64)), form, **more))
    assert not prepared.texts, prepared.texts
    assert not counted(prepared)


async def test_numbers_and_times_carry_no_words() -> None:
    info = PngInfo()
    info.add_text("date:create", "2026-11-30T17:40:56+00:00")
    info.add_text("dpi", "300")
    out = io.BytesIO()
    page().save(out, "PNG", pnginfo=info, exif=exif(x0132="2026:11:30 17:40:56"))
    assert not (await prepare(out.getvalue())).texts


async def test_more_words_than_are_read_are_listed() -> None:
    long = "\n".join(f"line {at} of the comment" for at in range(MOST // 10)).encode()
    prepared = await prepare(png(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(long))))
    assert counted(prepared) == [("metadata", "more text than is read")]


async def test_pillows_loggers_stay_quiet(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for where in ("JPEG EXIF description", "TIFF description", "PNG tEXt", "PNG unknown chunk"):
            await prepare(WHERE[where])
    assert "UNSAFE" not in caplog.text
    assert "moRe" not in caplog.text
    with caplog.at_level(logging.DEBUG), Pillow.open(io.BytesIO(WHERE["TIFF description"])) as theirs:
        theirs.load()
    assert "UNSAFE" in caplog.text  # the caller's own use of Pillow logs as before
