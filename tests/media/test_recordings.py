"""A film or a sound behind a photo is cut off: the photo passes as it was judged, and coverage says what is missing."""

from __future__ import annotations

import base64
import io
import zipfile
from typing import Any

import pytest

from tests.media.containers import FILM, mpvd
from tests.media.drawing import AVIF, encoded, noise, page
from tests.media.planted.drawn import HEIC
from turnguard import Decision, Guard, Policy, Step, Verdict
from turnguard.core.exchange import Exchange
from turnguard.core.step import Document, Image
from turnguard.media.sniff import MOST_BEHIND, one_behind_another
from turnguard.testing import FakeModerator

SOUND = b"OggS" + bytes(400)
PHOTO = encoded(noise((90, 70)), "JPEG")


MOTION = {
    "JPEG": (PHOTO, PHOTO + FILM),
    "JPEG, marked": (PHOTO + b"MotionPhoto_Data", PHOTO + b"MotionPhoto_Data" + FILM),
    "JPEG with a gain map": (PHOTO + encoded(page(), "JPEG"), PHOTO + encoded(page(), "JPEG") + FILM),
    "JPEG and a sound": (PHOTO, PHOTO + SOUND),
    "HEIC": (HEIC, HEIC + mpvd(FILM)),
    "HEIC, a film as a file": (HEIC, HEIC + FILM),
    "WebP": (encoded(noise(), "WEBP"), encoded(noise(), "WEBP") + FILM),
}
if AVIF:
    MOTION["AVIF"] = (encoded(noise(), "AVIF"), encoded(noise(), "AVIF") + mpvd(FILM))


async def decided(step: Step, policy: dict[str, Any] | None = None, **moderator: Any) -> Decision:
    async with Guard(Policy.from_dict(policy or {}), FakeModerator(**moderator)) as guard:
        return await guard.acheck(step)


def unread(decision: Decision) -> list[tuple[str, str, str | None]]:
    return [(entry.kind, entry.detail, entry.cause) for entry in decision.coverage.not_judged if entry.counts]


@pytest.mark.parametrize("name", MOTION)
async def test_a_motion_photo_passes_without_its_film(name: str) -> None:
    if "HEIC" in name:
        pytest.importorskip("pi_heif")
    photo, moving = MOTION[name]
    decision = await decided(Step.input("What is this?", images=[moving]))
    assert decision.action == "rewrite"
    kind = "audio" if "sound" in name else "video"
    assert unread(decision) == [(kind, "behind its end", f"{kind} is not judged")]
    assert [reason.rule for reason in decision.reasons] == ["policy.on_uncheckable"]
    part = decision.parts[1]
    assert isinstance(part, Image)
    assert part.source == photo
    again = await decided(Step.input("What is this?", images=[photo]))
    assert (again.action, again.coverage.complete) == ("allow", True)


async def test_the_form_of_the_picture_stays() -> None:
    uri = f"data:image/jpg;base64,{base64.b64encode(PHOTO + FILM).decode()}"
    part = (await decided(Step.input("", images=[uri]))).parts[0]
    assert isinstance(part, Image)
    assert part.source == f"data:image/jpeg;base64,{base64.b64encode(PHOTO).decode()}"
    document = (await decided(Step.input("", documents=[Document(PHOTO + FILM, name="photo.jpg")]))).parts[0]
    assert isinstance(document, Document)
    assert (document.source, document.name) == (PHOTO, "photo.jpg")


async def test_a_transcript_goes_on_without_the_film() -> None:
    uri = f"data:image/jpeg;base64,{base64.b64encode(PHOTO + FILM).decode()}"
    messages = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": uri}}],
        }
    ]
    async with Guard(moderator=FakeModerator()) as guard:
        passed, decisions = await guard.aguard_messages(messages)
        assert [decision.action for decision in decisions] == ["allow", "rewrite"]
        text, picture = passed[0]["content"]
        assert text == messages[0]["content"][0]
        assert base64.b64decode(picture["image_url"]["url"].partition(",")[2]) == PHOTO
        _, again = await guard.aguard_messages(passed)
        assert {decision.action for decision in again} == {"allow"}


@pytest.mark.parametrize("action", ["block", "flag", "review"])
async def test_the_policy_may_say_otherwise(action: str) -> None:
    decision = await decided(Step.input("", images=[PHOTO + FILM]), {"on_uncheckable": {"video": action}})
    assert decision.action == action
    if action == "flag":
        assert [part.source for part in decision.parts if isinstance(part, Image)] == [PHOTO + FILM]


async def test_an_unsafe_photo_blocks_with_or_without_a_film() -> None:
    def script(exchange: Exchange) -> Verdict | None:
        return Verdict(user="unsafe") if exchange.picture is not None else None

    async with Guard(moderator=FakeModerator(script=script)) as guard:
        assert (await guard.acheck(Step.input("", images=[PHOTO + FILM]))).action == "block"


@pytest.mark.parametrize("data", [FILM, mpvd(FILM), PHOTO[: len(PHOTO) // 2] + FILM, SOUND])
async def test_a_film_by_itself_or_behind_half_a_photo_blocks(data: bytes) -> None:
    assert (await decided(Step.input("", images=[data]))).action == "block"


async def test_a_motion_photo_inside_a_file_is_not_cut_out_of_it() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("photo.jpg", PHOTO + FILM)
    decision = await decided(Step.input("", documents=[Document(out.getvalue())]))
    assert decision.action == "block"
    assert unread(decision) == [("document", "photo.jpg, behind its end", "video is not judged")]


async def test_a_call_with_a_motion_photo_in_its_arguments_blocks() -> None:
    assert (await decided(Step.tool_call("upload", {"photo": PHOTO + FILM}))).action == "block"


async def test_a_broken_picture_before_the_film_blocks() -> None:
    decision = await decided(Step.input("", images=[PHOTO + PHOTO[:200] + FILM]))
    assert decision.action == "block"


async def test_of_many_pictures_one_behind_another_the_rest_is_listed() -> None:
    tiny = encoded(noise((1, 1)), "GIF")
    few = await decided(Step.input("", images=[tiny * 20]))
    assert (few.action, unread(few)) == ("allow", [])
    many = await decided(Step.input("", images=[tiny * 40_000]))
    assert many.action == "block"
    assert ("image", "behind its end", f"more than {MOST_BEHIND} files") in unread(many)
    assert [at for at, _ in one_behind_another(tiny * 40_000)] == [len(tiny) * n for n in range(MOST_BEHIND + 2)]
