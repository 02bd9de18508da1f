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


_SHORT = re.compile(r"[1-9][0-9]{0,2}(?:[mkMGTPE]|[KMGTPE]i)?")  # already as the API server writes it
_DECIMAL = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_NANO = Decimal("1e-9")


def canonical(text: str | int | float) -> str:
    """The form in which the API stores a quantity: `0.5` is `500m`, `1024Mi` is `1Gi`; ValueError where it is none.

    Source: `Quantity.CanonicalizeBytes`: no fraction, the largest suffix that loses nothing, in the family as given.
    """
    given = str(text).strip()
    return given if _SHORT.fullmatch(given) else written(parse(text), family(given))


def family(text: str | int | float) -> str:
    """How a quantity counts: `binary` (Ki, Mi), `exponent` (1e3) or `decimal` (m, k)."""
    given = str(text)
    if given.endswith("i"):
        return "binary"
    return "exponent" if any(letter in given[:-1] for letter in "eE") else "decimal"


def written(amount: Decimal, kind: str = "decimal") -> str:
    """The canonical text of an amount; parts below a billionth are rounded up, as upstream does."""
    if kind == "binary" and abs(amount) >= 1024 and not amount % 1:
        return _shortest(int(amount), _BINARY, 1024)
    nanos = int((amount / _NANO).to_integral_value(ROUND_CEILING))
    if kind == "exponent":
        return _exponent(nanos)
    return _shortest(nanos, _DECIMAL, 1000) if nanos else "0"


def _shortest(number: int, suffixes: tuple[str, ...], base: int) -> str:
    at = 0
    while number % base == 0 and at + 1 < len(suffixes):
        number //= base
        at += 1
    return f"{number}{suffixes[at]}"


def _exponent(nanos: int) -> str:
    if not nanos:
        return "0"
    power = -9
    while nanos % 1000 == 0:
        nanos //= 1000
        power += 3
    return f"{nanos}e{power}" if power else str(nanos)
