"""Check that categories come when asked for. A proxy that strips `chat_template_kwargs` loses them silently."""

from __future__ import annotations

from collections.abc import Iterator

from turnguard.core.exchange import Exchange
from turnguard.doctor.asking import Question
from turnguard.doctor.canaries import UNSAFE, Seen
from turnguard.doctor.findings import Finding, failed, note, ok, skipped


def questions() -> dict[str, Question]:
    """The unsafe text once more, with labels only."""
    return {"labels_only": Question(Exchange(UNSAFE), categories=False)}


def read(seen: Seen) -> Iterator[Finding]:
    """Compare the two."""
    asked, labels = seen.get("unsafe").verdict, seen.get("labels_only").verdict
    if asked is None or asked.user != "unsafe":
        yield skipped("categories", "Not told: they come with an unsafe verdict, and there was none.")
        return
    if not (asked.categories or asked.unknown_categories):
        if seen.endpoint.categories == "never":
            yield note("categories", "None come, and none are asked for (moderator.categories: never).")
            return
        yield failed("categories", "Categories were asked for, and an unsafe verdict came without any.", _why(seen))
        return
    if not asked.categories:
        names = ", ".join(asked.unknown_categories)
        yield failed(
            "categories",
            f"The server names categories that the taxonomy does not know: {names}.",
            "Serve the model with its own chat template, without custom_taxonomy in --default-chat-template-kwargs.",
        )
        return
    if not seen.family.labels_only:
        yield ok("categories", f"They come ({', '.join(asked.categories)}), as always with this family.")
        return
    if labels is not None and labels.categories:
        yield note(
            "categories",
            f"They come ({asked.categories[0]}), but also when only labels are asked for: request_categories does not "
            "reach the template.",
        )
        return
    yield ok("categories", f"They come when asked for ({', '.join(asked.categories)}), and only then.")


def _why(seen: Seen) -> str:
    with_them, without = seen.get("unsafe").prompt_tokens, seen.get("labels_only").prompt_tokens
    if with_them is not None and without is not None and with_them != without:
        return "The flag reaches a template (the prompts differ in length), but not the model's: drop --chat-template."
    return (
        "Let every proxy and gateway pass the body's field chat_template_kwargs on "
        '({"request_categories": "/categories"}), and drop --chat-template on the server.'
    )
