"""Bytes become pictures, safely: an allow-list of formats, limits read from the header, nothing truncated accepted.

Pillow's global limits are left alone: they belong to the application, and changing them would race.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from turnguard.media import sniff as _sniff
from turnguard.media.boxes import MOST, beside
from turnguard.media.pictures.beside import others
from turnguard.media.pictures.code_points import Unknown, coded, named
from turnguard.media.pictures.metadata import metadata_of
from turnguard.media.pictures.metadata.blocks import Block
from turnguard.media.pictures.renditions import Rendition, normalised, renditions
from turnguard.media.pictures.views import Limits, views_of
from turnguard.media.types import Made, Skipped, Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_FORMATS = {
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/tiff": "TIFF",
    "image/bmp": "BMP",
    "image/avif": "AVIF",
    "image/x-icon": "ICO",
}
_MOST_FRAMES = 1000  # looking for repeats among more would take too long
_TOO_MANY = f"more than {_MOST_FRAMES:,} frames"
_ORIENTATION = 0x0112


def read_picture(data: bytes, limits: Limits) -> Made:
    """The views of a picture file; `Unreadable` where it is malformed or too large."""
    from PIL import Image

    Image.init()
    file = PictureFile(data, limits.max_pixels)
    made = views_of(file, limits)
    skipped = (*made.skipped, *file.left_out)
    said, cut = metadata_of(data[: _sniff.behind(data)], file.blocks())
    if cut:
        skipped += (Skipped("metadata", "more text than is read", True),)
    return made._replace(texts=(("metadata", said),) if said else (), skipped=skipped)


class PictureFile:
    """An image file and its frames. Frames are loaded one at a time, each after its size was checked."""

    noun = "frame"
    any_order = False

    def __init__(self, data: bytes, max_pixels: int) -> None:
        """Read the header only; `Unreadable` for what is not read here or is too large."""
        self._data = data
        self._max_pixels = max_pixels
        kind = _sniff.image_type(data)
        if kind is None:
            raise Unreadable("not a picture format that is read here")
        self._kind = kind
        if (canvas := _sniff.canvas_of(data)) is not None:
            self._check(canvas)
        if _sniff.has_more_frames(data, _MOST_FRAMES):
            raise Unreadable(_TOO_MANY)
        self.left_out: dict[Skipped, None] = {}
        """What of it is not shown: nothing twice, as a frame may be loaded several times."""
        try:
            self._colours = coded(data)
        except Unknown:
            self._colours = set()
            self._leave_out("colours", "code points of colours that are not applied here")
        self._deep = kind == "image/png" and data[24:25] == b"\x10"  # bits of a sample
        self._file = self._open(data, kind)
        self._icons = len(self._file.ico.entry) if self._file.format == "ICO" else 0
        self.count = self._icons or self._frames()
        if self.count > _MOST_FRAMES:
            raise Unreadable(_TOO_MANY)
        if self._icons:
            self.noun = "size"

    def blocks(self) -> Iterator[Block]:
        """What the format's reader found beside the pixels, where that stands among them."""
        if self._file.format in ("AVIF", "HEIF"):
            for name, kind in (("exif", "exif"), ("xmp", "xmp"), ("icc_profile", "icc")):
                if isinstance(found := self._file.info.get(name), bytes):
                    yield Block(kind, found.removeprefix(b"Exif\0\0"))

    def _open(self, data: bytes, kind: str) -> Any:
        if kind == "image/heic":
            return self._heic(data)
        from PIL import Image, JpegImagePlugin, features

        if kind == "image/avif" and not ("AVIF" in Image.OPEN and features.check("avif")):
            raise Unreadable("AVIF needs Pillow 11.3 or later")
        try:
            # by its plugin: `Image.open` warns of large pictures, and reads a second JPEG behind the first as a frame
            made = JpegImagePlugin.JpegImageFile if kind == "image/jpeg" else Image.OPEN[_FORMATS[kind]][0]
            file: Any = made(io.BytesIO(data), "")
        except Exception as error:  # noqa: BLE001 - decoders raise anything on malformed files
            raise Unreadable(f"cannot be decoded ({type(error).__name__})") from None
        self._check(file.size)
        return file

    def _heic(self, data: bytes) -> Any:
        """Only inside a child: libheif is not trusted. Pillow's registry is the application's and stays as it is."""
        try:
            from pi_heif.as_plugin import HeifImageFile
        except ImportError:
            raise Unreadable("reading HEIC needs the extra: pip install 'turnguard[images]'") from None
        try:
            file = HeifImageFile(io.BytesIO(data))
        except Exception as error:  # noqa: BLE001 - decoders raise anything on malformed files
            raise Unreadable(f"cannot be decoded ({type(error).__name__})") from None
        self._check(file.size)
        return file

    def _check(self, size: tuple[int, int]) -> None:
        if not size[0] or not size[1]:
            raise Unreadable("no pixels")
        if size[0] * size[1] > self._max_pixels:
            raise Unreadable(f"more than {self._max_pixels:,} pixels")

    def _frames(self) -> int:
        try:
            return int(getattr(self._file, "n_frames", 1))
        except Exception as error:  # noqa: BLE001
            raise Unreadable(f"cannot be decoded ({type(error).__name__})") from None

    def load(self, index: int) -> tuple[PillowImage, list[Rendition]]:
        """Frame `index`, upright and normalised, and the ways to show it. `Unreadable` where it is malformed."""
        from PIL import Image, ImageOps

        try:
            frame = self._icon(index) if self._icons else self._seek(index)
            if frame.im.size != frame.size:  # Pillow leaves them apart for some malformed files
                raise Unreadable("cannot be decoded (inconsistent size)")
            profile, gamma = frame.info.get("icc_profile"), frame.info.get("gamma")
            orientation = frame.getexif().get(_ORIENTATION, 1)
            stored = frame
            if orientation != 1:
                frame = ImageOps.exif_transpose(frame)
            shown = frame if self._file.format == "AVIF" else stored  # a thumbnail in EXIF is turned like its picture
            more = [] if index else others(self._data, shown, self._further(), self._check)
            if self._deep and isinstance(level := frame.info.get("transparency"), tuple):
                frame.info["transparency"] = tuple(sample >> 8 for sample in level)  # Pillow reads 8 bits of each
            picture = normalised(frame)
            ink = frame.copy() if frame.mode == "CMYK" and profile else None
            if self.count == 1 and picture is not frame:
                self._file.close()  # the copy is all that is needed: halves the peak
            if gamma is not None and ("srgb" in frame.info or abs(gamma - 1 / 2.2) < 0.02):
                gamma = None
            colours = self._colours | (named(frame.info.get("chromaticity")) if "srgb" not in frame.info else set())
            profile = profile if isinstance(profile, bytes) else None
            return picture, [*renditions(picture, profile, gamma, orientation, ink, colours), *more]
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise Unreadable(f"more than {self._max_pixels:,} pixels") from None
        except Unreadable:
            raise
        except Exception as error:  # noqa: BLE001
            raise Unreadable(f"cannot be decoded ({type(error).__name__})") from None

    def _further(self) -> Iterator[tuple[str, PillowImage]]:
        """The pictures that a container holds beside its main one, by name. What cannot be read is left out."""
        from PIL import ImageOps

        if self._file.format not in ("AVIF", "HEIF"):
            return
        for at, (name, data) in enumerate(beside(self._data, frames=self._file.format == "HEIF")):
            if at == MOST:
                self._leave_out("further pictures", f"more than {MOST} pictures in one file")
                return
            try:
                file = ImageOps.exif_transpose(self._open(data, self._kind))
            except Exception as error:  # noqa: BLE001 - decoders raise anything on malformed files
                told = str(error) if isinstance(error, Unreadable) else f"cannot be decoded ({type(error).__name__})"
                self._leave_out(name, told)
            else:
                yield name, file

    def _leave_out(self, detail: str, cause: str) -> None:
        self.left_out[Skipped(detail, cause, counts=True)] = None

    def regions(self, index: int) -> None:
        """Anything may stand anywhere in a picture."""

    def _seek(self, index: int) -> Any:
        if self.count > 1:
            self._file.seek(index)
        self._check(self._file.size)
        self._file.load()
        self._check(self._file.size)
        return self._file

    def _icon(self, index: int) -> Any:
        """One picture of an icon file. Its own header is checked: it may claim a larger size than the directory."""
        start = self._file.ico.entry[index].offset
        header = self._data[start : start + 24]
        if header.startswith(b"\x89PNG"):
            size = (int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big"))
        else:  # a bitmap's height counts its mask too
            size = (int.from_bytes(header[4:8], "little"), int.from_bytes(header[8:12], "little") // 2)
        self._check(size)
        frame = self._file.ico.frame(index)
        frame.load()
        return frame
