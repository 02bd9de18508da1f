from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.kube.quantity import canonical, milli, parse, whole


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"),
        ("100m", "0.1"),
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1Ki", "1024"),
        ("1.5Gi", "1610612736"),
        ("2Ei", "2305843009213693952"),
        ("1E", "1000000000000000000"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("12e-1", "1.2"),
        ("-3k", "-3000"),
        ("+1M", "1000000"),
        ("100n", "0.0000001"),
        (2, "2"),
        (0.5, "0.5"),
    ],
)
def test_quantities(text: str | int | float, value: str) -> None:
    assert parse(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "m", "1x", "1 Gi", "1KiB", "--1", "1e", "0x10", "1,5", "NaN", "1Kim", "\u0661"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match"):
        parse(text)


def test_counting_rounds_up() -> None:
    assert (milli("1n"), milli("1.0001"), whole("1.1"), whole("1500m")) == (1, 1001, 2, 2)


@given(st.integers(0, 10**15), st.sampled_from(["", "m", "k", "Ki", "Mi", "Gi"]))
def test_milli_is_never_less_than_the_value_and_never_a_whole_step_more(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    assert 0 <= Decimal(milli(text)) - parse(text) * 1000 < 1


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("100m", "100m"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1.5", "1500m"),
        ("+5", "5"),
        ("0", "0"),
        ("0Gi", "0"),
        ("1000", "1k"),
        ("1100", "1100"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1024", "1024"),
        ("0.5Ki", "512"),
        ("0.1Gi", "107374182400m"),
        ("1e3", "1e3"),
        ("12E6", "12e6"),
        ("1500e3", "1500e3"),
        ("0.1n", "1n"),
        (2, "2"),
        (0.5, "500m"),
        ("-2", "-2"),
    ],
)
def test_a_quantity_is_stored_in_its_canonical_form(given: str | float, stored: str) -> None:
    assert canonical(given) == stored
