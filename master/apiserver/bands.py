"""Where addresses and ports that nobody asked for are taken from first: above those that people ask for by name.

Source: k/k `pkg/registry/core/service/{ipallocator,portallocator}` (calculateRangeOffset, KEP-3070 and KEP-3668).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

_LEAST = 16


def lower(size: int, *, part: int, most: int) -> int:
    """How many of `size` are left to those who ask: a `part`-th, within bounds; none of a small range."""
    return min(max(_LEAST, size // part), most) if size > _LEAST else 0


def upper_first(size: int, below: int, seed: int) -> Iterator[int]:
    """Every place in 0..size-1 once: those from `below` on, beginning somewhere by `seed`, then the others likewise."""
    bands = ((below, size - below), (0, below))
    return itertools.chain.from_iterable(
        (begin + (seed + step) % length for step in range(length)) for begin, length in bands
    )
