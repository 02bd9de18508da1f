"""What a lab's `slowness` stretches: 1 on hardware, more where machines are emulated. Pure.

Timers of the contract are stretched by nothing. Allowances for work in a bound are multiplied by it as it is, so that
a test can tighten them. Waits and tolerances are stretched, and never shortened; requests a little, and up to a limit.
"""

from __future__ import annotations


def stretched_s(seconds: float, slowness: float) -> float:
    """How long to wait here for what takes at most `seconds` on hardware; what two clocks may be apart, likewise."""
    return seconds * max(1.0, slowness)


def patience(slowness: float) -> float:
    """How many times longer a request may take before it counts as failed.

    Emulated machines share this host's cores with one that boots: an answer may be seconds late, and is not lost.
    """
    return min(4.0, max(1.0, slowness))
