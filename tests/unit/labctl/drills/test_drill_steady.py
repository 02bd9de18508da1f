"""What a drill that does not begin tells its user."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.drills import workload
from labctl.drills.records import Inspected
from labctl.drills.steady import NotSteady, await_workload
from labctl.runtime.clock import FakeClock


@pytest.mark.parametrize(("namespace", "ours"), [(workload.NAMESPACE, True), ("default", False)])
def test_a_workload_of_our_own_that_does_not_run_may_want_its_image(namespace: str, ours: bool) -> None:
    found = replace(workload.OWN, namespace=namespace)
    with pytest.raises(NotSteady, match="there is no Deployment") as caught:
        await_workload(lambda: Inspected(moment="steady"), found, lambda _: None, FakeClock(), 0.0)
    assert ("`labctl image load lab.local/web:1`" in caught.value.hint) is ours
    assert "`labctl status`" in caught.value.hint
