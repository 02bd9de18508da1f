"""A StatefulSet's pod leaves a silent node by itself, on machines that really fall silent, and never runs twice.

One lab for all; each test begins with both workers well and ends so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labctl.kube.fencing import ANNOTATION, CONDITION
from labctl.vm.fence import service
from labctl.vm.provider import Link, Power
from tests.fenced import POD, FencedSet
from tests.labs import LabUser, eventually

pytestmark = [pytest.mark.lxc, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FencedSet]:
    someone = LabUser(tmp_path_factory.mktemp("lab"), "t-fence", "lxc")
    try:
        someone.up()
        found = FencedSet(someone)
        found.deploy()
        yield found
    finally:
        someone.labctl("destroy", "--if-exists")


def events(db: FencedSet, about: str) -> str:
    """Every Event about an object: reason and message, a line each."""
    items = db.user.json("get", "events", "--field-selector", f"involvedObject.name={about}")["items"]
    return "\n".join(f"{item['reason']}: {item['message']}" for item in items)


def fenced_condition(db: FencedSet, node: str) -> Any:
    conditions = db.user.json("get", "node", node)["status"]["conditions"]
    return next((entry for entry in conditions if entry["type"] == CONDITION), {})


def test_it_moves_after_a_power_loss_once_the_machine_is_seen_off(db: FencedSet) -> None:
    before = db.pod()
    node, uid = before["spec"]["nodeName"], before["metadata"]["uid"]
    db.lab.provider.power_off(db.lab.site, node)
    after = eventually(lambda: db.ready(instead_of=uid), "the pod to be Ready elsewhere")
    assert after["spec"]["nodeName"] != node
    assert f"Machine {node} is off: lxc says {node} was off and is off" in events(db, node)
    assert fenced_condition(db, node)["reason"] == "PoweredOff"
    assert f"somebody to start {node}" in db.user.labctl("status").stdout
    db.bring_back(node)
    eventually(lambda: fenced_condition(db, node)["reason"] == "NodeReady", "the condition to be settled")
    assert db.doubled() == []
    assert db.moved(before, after)


def test_a_machine_that_is_cut_off_is_powered_off_and_until_then_nothing_is_released(db: FencedSet) -> None:
    """The fence agent is away at first: the pod still runs behind the cut, so it must not run elsewhere."""
    before = db.pod()
    node, uid = before["spec"]["nodeName"], before["metadata"]["uid"]
    service.stop(db.lab.state.dir)
    try:
        db.lab.provider.set_link(db.lab.site, node, Link.DOWN)
        eventually(lambda: "FencingFailed: Not released: default/db-0" in events(db, node), "the node's Event")
        assert "does not answer" in events(db, POD)
        said = db.user.labctl("status").stdout.replace("\n", " ")
        assert f"fencing of {node}" in said
        assert "does not answer" in said
        waiting = db.pod()
        assert waiting["metadata"]["uid"] == uid
        assert "deletionTimestamp" in waiting["metadata"]
        assert db.power(node) is Power.RUNNING
    finally:
        service.start(db.lab.state.dir, db.lab.settings.cache_dir)
    after = eventually(lambda: db.ready(instead_of=uid), "the pod to be Ready elsewhere")
    assert after["spec"]["nodeName"] != node
    assert db.power(node) is Power.OFF
    assert "was running and is off" in events(db, node)
    db.bring_back(node)
    assert db.doubled() == []
    assert db.moved(before, after)


def test_it_moves_off_a_node_whose_kubelet_is_frozen_and_whose_machine_runs_on(db: FencedSet) -> None:
    """Self-fencing alone: nobody powers anything off; the guard stops the pod, by control group."""
    before = db.pod()
    node, uid = before["spec"]["nodeName"], before["metadata"]["uid"]
    db.user.kubectl("annotate", "node", node, f"{ANNOTATION}=self")
    signal = "systemctl kill --kill-whom=main --signal={} labctl-kubelet"
    db.user.labctl("ssh", node, "--", signal.format("STOP"))
    try:
        after = eventually(lambda: db.ready(instead_of=uid), "the pod to be Ready elsewhere")
        assert after["spec"]["nodeName"] != node
        assert db.power(node) is Power.RUNNING
        assert f"node {node} stopped it by itself" in events(db, POD)
    finally:
        db.user.labctl("ssh", node, "--", signal.format("CONT"))
    db.bring_back(node)
    assert db.doubled() == []
    assert db.moved(before, after)


def test_destroy_leaves_no_agent(db: FencedSet) -> None:
    folder = db.lab.state.dir
    assert service.running(folder)
    db.user.labctl("destroy")
    assert not service.running(folder)
    assert not folder.exists()
