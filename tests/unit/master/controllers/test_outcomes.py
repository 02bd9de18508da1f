"""What upstream documents, case by case: see `outcomes`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.master.controllers.outcomes import Case, differences, load

CASES = load()
SOURCES = ("https://kubernetes.io/docs/", "k/k ")


@pytest.mark.parametrize("case", CASES, ids=[f"{case['file']}: {case['case']}" for case in CASES])
def test_a_controller_does_what_upstream_documents(case: dict[str, Any]) -> None:
    assert case["source"].startswith(SOURCES)
    played = Case(case)
    assert case["expect"]
    assert differences(case["expect"], played.look(0.0), played.sizes) == []
    for later in case.get("then", ()):
        played.change(later.get("change", ()))
        assert differences(later["expect"], played.look(later.get("after_s", 0.0)), played.sizes) == []


def test_the_table_is_large_and_says_each_thing_once() -> None:
    names = [case["case"] for case in CASES]
    assert len(set(names)) == len(names) >= 60
