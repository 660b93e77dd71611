"""The sandbox's rules for categories and policies of one's own: small and transparent, like its other rules.

A text is of such a category when it holds the category's name or one of its disallowed examples, word for word but for
case and spacing, and none of what the policy allows. A text breaks a `custom_policy` when it holds one of the points of
a list under a line that begins with "Disallowed". The sandbox does not understand definitions: that takes a model.
"""

from __future__ import annotations

import re

_CUSTOM = re.compile(r"- (.+?) \(custom; (.*)\)")
P_UNSAFE = 0.95
P_SAFE = 0.02


def found(taxonomy: str | None, text: str) -> tuple[str, ...]:
    """The names of the categories in a `custom_taxonomy` that the text is of."""
    if not taxonomy:
        return ()
    defined, _, allowed = taxonomy.partition("\nAllow-list")
    said = _folded(text)
    if any(_folded(line[2:]) in said for line in allowed.split("\n")[1:] if line.startswith("- ")):
        return ()
    categories = (match for line in defined.split("\n") if (match := _CUSTOM.fullmatch(line)))
    return tuple(
        match[1] for match in categories if any(_folded(phrase) in said for phrase in (match[1], *match[2].split("; ")))
    )


def breaks(policy: str, text: str) -> bool:
    """Whether the text holds one of the points that a `custom_policy` lists as disallowed."""
    said, disallowed = _folded(text), False
    for line in map(str.strip, policy.split("\n")):
        if not line.startswith("- "):
            disallowed = line.lstrip("#* ").casefold().startswith("disallowed") if line else disallowed
        elif disallowed and _folded(line[2:]) in said:
            return True
    return False


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
