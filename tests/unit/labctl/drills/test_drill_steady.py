"""What a drill needs before it begins, and whom it strikes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.drills import workload
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.choose import busiest
from labctl.drills.model import Options
from labctl.drills.steady import set_scene
from labctl.runtime.errors import UsageError
from tests.unit.labctl.drills.drill_fakes import FakeLab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[FakeLab]:
    made = FakeLab(tmp_path / "drills")
    yield made
    made.close()


def test_a_drill_that_leaves_no_node_to_send_requests_by_is_refused(lab: FakeLab) -> None:
    found = workload.find(lab.client)
    assert found is not None
    all_of_them = replace(DRILL, choose=busiest(2, spare=0))
    with pytest.raises(UsageError, match="strikes every node") as refused:
        set_scene(lab, all_of_them, Options(), found)
    assert "victims_answer: true" in refused.value.hint
    assert set_scene(lab, replace(all_of_them, victims_answer=True), Options(), found).answering == lab_nodes(lab)
    assert set_scene(lab, DRILL, Options(), found).answering == ("worker2",)


def lab_nodes(lab: FakeLab) -> tuple[str, ...]:
    return tuple(machine.name for machine in lab.machines())
