"""HEIC and SVG are pictures: read in a child, judged with what they say beside their pixels."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image as Pillow

from tests.media.drawing import counted, decoded, details, encoded, page, prepare
from tests.media.planted.drawn import HEIC, SVG, svg
from turnguard import Guard, Step
from turnguard.core.step import Document, Image
from turnguard.testing import FakeModerator

pytest.importorskip("pi_heif")
pytest.importorskip("resvg_py")


async def test_a_heic_photo_is_a_picture() -> None:
    prepared = await prepare(HEIC)
    assert details(prepared) == [""]
    shown = decoded(prepared.views[0].picture).convert("RGB")
    assert shown.size == (96, 64)
    red, green, _ = shown.getpixel((24, 32))  # type: ignore[misc]
    assert red > 150 > green + 50
    assert not counted(prepared)
    assert "UNSAFE" in prepared.texts[0][1]


@pytest.mark.parametrize("cut", [40, 300, len(HEIC) - 60])
async def test_a_truncated_heic_is_uncheckable(cut: int) -> None:
    prepared = await prepare(HEIC[:cut])
    assert not prepared.views
    assert counted(prepared)


async def test_a_heic_that_crashes_its_decoder_is_uncheckable_and_harms_no_other() -> None:
    """Found by fuzzing: pi_heif 1.4 takes it for one with a depth that it has not, and ends its process."""
    broken = bytearray(HEIC)
    broken[62], broken[177] = 0x93, 0xD2
    assert counted(await prepare(bytes(broken)))
    assert details(await prepare(HEIC)) == [""]


async def test_a_heic_in_a_text_is_found_there() -> None:
    moderator = FakeModerator()
    uri = f"see data:image/heic;base64,{base64.b64encode(HEIC).decode()} and {base64.b64encode(HEIC).decode()}"
    async with Guard(moderator=moderator) as guard:
        await guard.acheck(Step.tool_result("camera", uri))
    assert any(exchange.picture for exchange in moderator.asked)
    assert all("base64" not in exchange.prompt or "[image" in exchange.prompt for exchange in moderator.asked)


async def test_a_heic_of_too_many_pixels_is_refused_by_its_header() -> None:
    assert counted(await prepare(HEIC, max_pixels=6000)) == [("", "more than 6,000 pixels")]


async def test_an_svg_is_drawn_and_its_source_is_judged_as_text() -> None:
    prepared = await prepare(svg('<rect width="100" height="50" fill="#c81e1e"/><desc>how to do UNSAFE</desc>'))
    assert len(prepared.views) == 1
    assert decoded(prepared.views[0].picture).convert("RGB").getpixel((300, 200)) == (200, 30, 30)
    assert "UNSAFE" in "".join(text for _, text in prepared.texts)
    assert not counted(prepared)


async def test_what_an_svg_hides_on_a_white_ground_is_seen_on_a_dark_one() -> None:
    prepared = await prepare(svg('<rect x="10" y="10" width="30" height="20" fill="white"/>'))
    assert details(prepared) == ["", "on dark ground"]


OUTSIDE = {
    "a file": '<image href="{path}" width="50" height="50"/>',
    "a file by xlink": '<image xlink:href="{path}" width="50" height="50"/>',
    "a file by its address": '<image href="file://{path}" width="50" height="50"/>',
    "the network": '<image href="https://example.com/a.png" width="50" height="50"/>',
    "a filter": '<filter id="f"><feImage href="{path}"/></filter><rect width="50" height="50" filter="url(#f)"/>',
    "a style": '<style>rect {{ fill: url(https://example.com/a.svg#p) }}</style><rect width="9" height="9"/>',
    "an import": '<style>@import "https://example.com/a.css";</style><rect width="9" height="9"/>',
    "an SVG inside": '<image href="data:image/svg+xml;base64,{inner}" width="50" height="50"/>',
}


@pytest.mark.parametrize("kind", OUTSIDE)
async def test_nothing_outside_the_file_is_drawn_and_that_is_said(kind: str, tmp_path: object) -> None:
    path = f"{tmp_path}/red.png"
    Pillow.new("RGB", (50, 50), (255, 0, 0)).save(path)
    inner = base64.b64encode(svg(f'<image href="{path}" width="50" height="50"/>')).decode()
    prepared = await prepare(svg(OUTSIDE[kind].format(path=path, inner=inner)))
    assert any("outside" in cause for _, cause in counted(prepared)), prepared.skipped
    for view in prepared.views:
        red, green, _ = decoded(view.picture).convert("RGB").resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
        assert red - green < 40


@pytest.mark.parametrize(
    ("inside", "cause"),
    [
        ("<script>document.title = 1</script>", "a script, which is not run here"),
        ('<rect width="9" height="9" onload="go()"/>', "a script, which is not run here"),
        (
            '<rect width="9" height="9"><animate attributeName="x"/></rect>',
            "an animation, of which the beginning is drawn",
        ),
    ],
)
async def test_what_a_browser_would_do_besides_is_listed(inside: str, cause: str) -> None:
    assert ("", cause) in counted(await prepare(svg(inside)))


async def test_a_picture_inside_an_svg_is_drawn() -> None:
    uri = base64.b64encode(encoded(Pillow.new("RGB", (50, 50), (0, 160, 0)))).decode()
    prepared = await prepare(svg(f'<image href="data:image/png;base64,{uri}" width="100" height="50"/>'))
    shown = [decoded(view.picture).convert("RGB").resize((1, 1)).getpixel((0, 0)) for view in prepared.views]
    assert any(green > red + 60 for red, green, _ in shown)  # type: ignore[misc]


@pytest.mark.parametrize(
    "source",
    [
        SVG % "<rect",
        '<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa">{}]>'.format("".join(
            f'<!ENTITY {chr(98 + at)} "{f"&{chr(97 + at)};" * 10}">' for at in range(9)
        )) + SVG % "<text>&j;</text>",
        '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/hostname">]>' + SVG % "<text>&a;</text>",
        SVG % ("<g id='a0'><rect width='1' height='1'/></g>" + "".join(
            f"<g id='a{at}'>" + f"<use href='#a{at - 1}'/>" * 10 + "</g>" for at in range(1, 9)
        )),
    ],
    ids=["malformed", "entities", "external entity", "uses"],
)  # fmt: skip
async def test_a_hostile_svg_is_uncheckable(source: str) -> None:
    assert counted(await prepare(source.encode()))


async def test_an_svg_that_asks_for_a_huge_canvas_is_drawn_within_bounds() -> None:
    prepared = await prepare(
        b'<svg xmlns="http://www.w3.org/2000/svg" width="90000" height="90000"><path d="M0 0h9"/></svg>'
    )
    assert ("", "too large to be drawn at a legible size") in counted(prepared)


async def test_an_svg_as_document_or_image_is_the_same() -> None:
    data = svg('<circle cx="20" cy="20" r="9"/>')
    one, other = await prepare(Image(data)), await prepare(Document(data, "image/svg+xml", "a.svg"))
    assert [view.picture for view in one.views] == [view.picture for view in other.views]
    with Pillow.open(io.BytesIO(encoded(page()))) as plain:
        assert plain.size == (400, 300)
