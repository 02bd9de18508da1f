"""What a benchmark yields: named figures, each with the bound it is held against where there is one."""

from __future__ import annotations

from typing import Literal

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value. `bound` is compared as `at_most` or `at_least` says; None: reported only."""

    name: str
    value: float
    unit: str
    bound: float | None = None
    sense: Literal["at_most", "at_least"] = "at_most"
    samples: tuple[float, ...] = ()  # what the value is the median of

    @property
    def met(self) -> bool | None:
        """Whether the bound holds; None without one."""
        if self.bound is None:
            return None
        return self.value <= self.bound if self.sense == "at_most" else self.value >= self.bound
