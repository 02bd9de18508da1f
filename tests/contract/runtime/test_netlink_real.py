"""Tracked connections of a real kernel: which are over, and that many are forgotten in a few calls."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from agents.proxy.netlink import Flow, LinuxKernel, NetlinkError
from tests.contract.runtime.netlab import Place, serve

# Without a rule that asks for it, nothing is tracked.
_TRACKING = """
table ip t {
    chain c {
        type filter hook input priority 0;
        ct state new counter
    }
}
"""
OPEN, CLOSED = 5, 300  # more than one batch together


@pytest.fixture
def place() -> Iterator[Place]:
    found = Place(f"lk{uuid.uuid4().hex[:6]}")
    found.call(lambda: found.shell.run(["nft", "-f", "-"], stdin=_TRACKING))
    server = serve(found.name, "it", 8080)
    try:
        yield found
    finally:
        server.kill()
        server.wait(10)
        found.shell.run(["ip", "netns", "delete", found.name])


def test_what_is_over_is_told_and_all_of_it_is_forgotten(place: Place) -> None:
    kernel, held = LinuxKernel(), [place.connect("127.0.0.1", 8080) for _ in range(OPEN)]
    for _ in range(CLOSED):
        assert place.ask("127.0.0.1", 8080)[0] == "it"

    def flows() -> list[Flow]:
        return [flow for flow in place.call(kernel.flows) if flow.port == 8080]

    before = flows()
    assert len(before) == OPEN + CLOSED
    assert sum(not flow.over for flow in before) >= OPEN
    assert sum(flow.over for flow in before) >= CLOSED / 2  # the last ones may still say goodbye
    place.call(lambda: kernel.forget(before))
    assert flows() == []
    place.call(lambda: kernel.forget(before))  # what is gone is fine
    for link in held:
        link.close()


def test_a_refusal_is_told(place: Place) -> None:
    nobody = Flow("tcp", "", "", 1, "", 1, handle=b"\x04\x00\x01\x80")  # an original tuple that says nothing
    with pytest.raises(NetlinkError, match="Invalid argument"):
        place.call(lambda: LinuxKernel().forget([nobody]))
