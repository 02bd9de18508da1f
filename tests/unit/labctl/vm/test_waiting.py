"""What `labctl status` says the cluster waits for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from labctl.kube.fencing import CONDITION
from labctl.vm.waiting import Node, Pod, sentences

NOW = datetime(2026, 1, 1, 0, 1, 0, tzinfo=UTC)
TAINT = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:50Z"}


def node(ready: str = "Unknown", *, taints: list[Any] | None = None, fenced: tuple[str, str] | None = None) -> Node:
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:48Z"}]
    if fenced:
        conditions.append({"type": CONDITION, "status": "False", "reason": fenced[0], "message": fenced[1]})
    document = {"metadata": {"name": "w1"}, "spec": {"taints": taints or []}, "status": {"conditions": conditions}}
    return msgspec.convert(document, Node)


def pod(name: str, tolerated_s: int | None = 300, *, deleting: bool = False) -> Pod:
    meta = {"name": name, "namespace": "d"} | ({"deletionTimestamp": "2026-01-01T00:00:55Z"} if deleting else {})
    entry = {"key": TAINT["key"], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": tolerated_s}
    return msgspec.convert({"metadata": meta, "spec": {"nodeName": "w1", "tolerations": [entry]}}, Pod)


def test_nothing_is_awaited_of_nodes_that_speak() -> None:
    assert sentences([node("True"), node("False")], [pod("a")], NOW) == ()


def test_evictions_are_counted_down_by_the_clusters_clock() -> None:
    found = sentences([node(taints=[TAINT])], [pod("a"), pod("b", 30), pod("for-ever", None)], NOW)
    assert found == (
        "w1 to speak again: Unknown since 2026-01-01T00:00:48Z, 12 s",
        "evictions from w1 in 20 s: d/b",
        "evictions from w1 in 290 s: d/a",
    )


def test_a_node_whose_turn_has_not_come_is_said_so() -> None:
    assert sentences([node()], [pod("a")], NOW)[1:] == ("its turn to be evicted: w1 carries no NoExecute taint yet",)


def test_fencing_is_told_with_what_went_wrong_last() -> None:
    seen = node(taints=[TAINT], fenced=("FencingPending", "Waiting: for power (last try: no answer)"))
    said = sentences([seen], [pod("a", deleting=True)], NOW)
    assert said[1] == "fencing of w1: Waiting: for power (last try: no answer)"


@pytest.mark.parametrize(
    ("fenced", "said"),
    [
        (None, "w1 or a person to confirm the end of d/a"),
        (("PoweredOff", "`labctl up` starts it"), "somebody to start w1: `labctl up` starts it"),
    ],
)
def test_condemned_pods_and_powered_off_machines_wait_for_somebody(fenced: Any, said: str) -> None:
    found = sentences([node(taints=[TAINT], fenced=fenced)], [pod("a", deleting=True)], NOW)
    assert found[-1] == said
