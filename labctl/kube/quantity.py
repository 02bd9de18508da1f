"""Kubernetes quantities: `500m`, `1Gi`, `1e3`. Source: apimachinery `api/resource/quantity.go`."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

_FORM = re.compile(r"^([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,3}))?$")
_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": Decimal("1e3"), "M": Decimal("1e6"),
    "G": Decimal("1e9"), "T": Decimal("1e12"), "P": Decimal("1e15"), "E": Decimal("1e18"),
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}  # fmt: skip


def parse(text: str | int | float) -> Decimal:
    """The number a quantity stands for; ValueError where it is not one."""
    match = _FORM.match(str(text).strip()) if not isinstance(text, bool) else None
    if match is None:
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    number, suffix, exponent = match.groups()
    if exponent:
        return Decimal(number).scaleb(int(exponent))
    return Decimal(number) * _SUFFIXES.get(suffix or "", Decimal(1))


@lru_cache(maxsize=4_096)
def milli(text: str | int | float) -> int:
    """In thousandths, rounded up, as the scheduler counts CPU."""
    return int((parse(text) * 1000).to_integral_value(ROUND_CEILING))


@lru_cache(maxsize=4_096)
def whole(text: str | int | float) -> int:
    """In units (bytes, pods), rounded up."""
    return int(parse(text).to_integral_value(ROUND_CEILING))
