"""Check that categories come when asked for. A proxy that strips `chat_template_kwargs` loses them silently."""

from __future__ import annotations

from turnguard.core.exchange import Exchange
from turnguard.doctor.asking import Question
from turnguard.doctor.canaries import UNSAFE, Seen
from turnguard.doctor.canaries.answering import remedy
from turnguard.doctor.findings import Told, failed, note, ok, skipped


def labels_only(_seen: Seen) -> dict[str, Question]:
    """The unsafe text once more, with labels only."""
    return {"labels_only": Question(Exchange(UNSAFE), categories=False)}


def categories(seen: Seen) -> Told:
    """Compare the reply that was asked for categories with the one that was not."""
    heard = seen.get("labels_only")
    asked, labels = seen.get("unsafe").verdict, heard.verdict
    if asked is None or asked.user != "unsafe":
        return skipped("Not told: they come with an unsafe verdict, and there was none.")
    if not (asked.categories or asked.unknown_categories):
        if seen.endpoint.categories == "never":
            return note("None come, and none are asked for (moderator.categories: never).")
        return failed("Categories were asked for, and an unsafe verdict came without any.", _why(seen))
    if not asked.categories:
        names = ", ".join(asked.unknown_categories)
        return failed(
            f"The server names categories that the taxonomy does not know: {names}.",
            "Serve the model with its own chat template, without custom_taxonomy in --default-chat-template-kwargs.",
        )
    if not seen.family.labels_only:
        return ok(f"They come ({', '.join(asked.categories)}), as always with this family.")
    if labels is None:
        return failed(f"A text brought no verdict when only labels were asked for: {heard.cause}.", remedy(heard))
    if labels.categories:
        return note(
            f"They come ({asked.categories[0]}), but also when only labels are asked for: request_categories does not "
            "reach the template.",
        )
    return ok(f"They come when asked for ({', '.join(asked.categories)}), and only then.")


def _why(seen: Seen) -> str:
    with_them, without = seen.get("unsafe").prompt_tokens, seen.get("labels_only").prompt_tokens
    if with_them is not None and without is not None and with_them != without:
        return "The flag reaches a template (the prompts differ in length), but not the model's: drop --chat-template."
    return (
        "Let every proxy and gateway pass the body's field chat_template_kwargs on "
        '({"request_categories": "/categories"}), and drop --chat-template on the server.'
    )
