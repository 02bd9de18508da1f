"""Routes: what is missing is added, what is ours and unwanted goes, nobody else's is touched."""

from __future__ import annotations

from agents.proxy.routes import Change, KernelRoute, changes

B = ("10.1.1.0/24", "10.0.0.2")


def test_a_missing_route_is_added() -> None:
    assert changes(dict([B]), ()) == [Change("replace", ("10.1.1.0/24", "via", "10.0.0.2"))]


def test_a_route_that_is_right_is_left_alone() -> None:
    assert changes(dict([B]), (KernelRoute(*B, dev="eth0"),)) == []


def test_a_node_that_moved_is_followed() -> None:
    assert changes({B[0]: "10.0.0.9"}, (KernelRoute(*B),)) == [Change("replace", (B[0], "via", "10.0.0.9"))]


def test_a_node_that_left_is_forgotten() -> None:
    assert changes({}, (KernelRoute(*B),)) == [Change("del", (B[0],))]


def test_a_route_by_device_needs_no_gateway() -> None:
    wanted = {"10.96.0.0/12": "dev eth0"}
    assert changes(wanted, ()) == [Change("replace", ("10.96.0.0/12", "dev", "eth0"))]
    assert changes(wanted, (KernelRoute("10.96.0.0/12", dev="eth0"),)) == []
