"""What nobody asked for comes from the upper band while there is any, so that what people ask for is free."""

from __future__ import annotations

import itertools

import pytest

from master.apiserver import bands


@pytest.mark.parametrize(
    ("size", "part", "most", "below"),
    [
        (2768, 32, 128, 86),  # upstream's example: 30000-32767 leaves 30000-30085
        (65_533, 16, 256, 256),
        (253, 16, 256, 16),
        (17, 32, 128, 16),
        (16, 32, 128, 0),
        (1, 16, 256, 0),
    ],
)
def test_the_lower_band_is_as_upstream_has_it(size: int, part: int, most: int, below: int) -> None:
    assert bands.lower(size, part=part, most=most) == below


@pytest.mark.parametrize(("size", "below"), [(100, 16), (17, 16), (4, 0), (1, 0)])
@pytest.mark.parametrize("seed", [0, 7, 2**63])
def test_every_place_comes_once_and_the_lower_band_last(size: int, below: int, seed: int) -> None:
    places = list(bands.upper_first(size, below, seed))
    assert sorted(places) == list(range(size))
    assert all(place >= below for place in itertools.islice(places, size - below))
