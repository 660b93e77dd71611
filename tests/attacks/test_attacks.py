"""No attack of docs/attacks.md gets through."""

from __future__ import annotations

import pytest

from tests.attacks import page
from tests.attacks.kit import ATTACKS, Attack


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.family}: {attack.name}")
async def test_it_does_not_get_through(attack: Attack) -> None:
    await attack.run()


def test_no_attack_is_listed_twice() -> None:
    names = [(attack.family, attack.name) for attack in ATTACKS]
    assert len(names) == len(set(names))


def test_the_generated_page_is_current() -> None:
    assert page.DOCUMENT.read_text(encoding="utf-8") == page.document(), "run `make docs-tables`"
