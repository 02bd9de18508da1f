from __future__ import annotations

from labctl.runtime import chance
from labctl.runtime.loop import Backoff


def draw() -> tuple[str, str, float]:
    return chance.uid(), chance.letters("abc", 8), Backoff().next_s()


def test_what_is_drawn_twice_from_the_same_seed_is_the_same() -> None:
    with chance.seeded("seven"):
        once = draw()
    with chance.seeded("seven"):
        assert draw() == once


def test_nothing_is_foreseeable_outside_of_a_seeded_block() -> None:
    with chance.seeded("seven"):
        seeded = draw()
    assert seeded[0] != draw()[0] != draw()[0]
