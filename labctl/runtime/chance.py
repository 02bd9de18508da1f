"""Chance as one source: whatever draws lots, secrets aside, asks here, so that a simulation can seed all of it."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

Generator = random.Random


class _Source:
    """The operating system's, until somebody seeds it."""

    current: Generator = random.SystemRandom()


def source() -> Generator:
    """What to draw from now; ask each time, and do not keep it."""
    return _Source.current


def generator(seed: str) -> Generator:
    """A generator of one's own: the same seed draws the same, in every process."""
    return random.Random(seed)  # noqa: S311 - decides schedules, guards nothing


def uid() -> str:
    """A version 4 UUID."""
    return str(uuid.UUID(int=source().getrandbits(128), version=4))


def letters(alphabet: str, count: int) -> str:
    """`count` letters of `alphabet`."""
    return "".join(source().choice(alphabet) for _ in range(count))


@contextmanager
def seeded(seed: str) -> Iterator[Generator]:
    """Draw from a seeded generator until the end of the block: for a whole process, so for one thread alone."""
    before, _Source.current = _Source.current, generator(seed)
    try:
        yield _Source.current
    finally:
        _Source.current = before
