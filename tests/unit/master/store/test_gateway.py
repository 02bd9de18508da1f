"""Connections: whether one is still up, as far as the kernel knows; an etcd that is slow, and one that is down."""

from __future__ import annotations

import socket
import ssl

import pytest

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from master.store.gateway import Connection, Gateway
from master.store.protocol import StoreError
from tests.etcd import free_port

CLOCK = SystemClock()


def test_a_connection_is_usable_until_the_peer_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = Connection(f"http://127.0.0.1:{listener.getsockname()[1]}", None, 5.0)
        peer, _ = listener.accept()
        assert connection.usable()
        peer.close()
        wait_for(lambda: not connection.usable(), what="the hang-up to be seen", deadline_s=5, clock=CLOCK)
        connection.close()
        assert not connection.usable()


def _seconds_until_failure(url: str, why: str) -> float:
    gateway = Gateway([url], clock=CLOCK, deadline_s=2.0, unreachable_s=0.2)
    began_s = CLOCK.monotonic_s()
    with pytest.raises(StoreError, match=why):
        gateway.call("/v3/kv/range", b"{}")
    gateway.close()
    return CLOCK.monotonic_s() - began_s


def test_an_etcd_that_is_slow_is_waited_for_until_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert _seconds_until_failure(f"http://127.0.0.1:{silent.getsockname()[1]}", "did not answer") >= 2.0


def test_an_etcd_that_cannot_be_reached_is_given_up_sooner() -> None:
    assert _seconds_until_failure(f"http://127.0.0.1:{free_port()}", "cannot be reached") < 2.0


def test_an_etcd_too_slow_for_a_handshake_is_slow_not_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        context = ssl.create_default_context()
        with pytest.raises(OSError, match="TLS handshake") as raised:
            Connection(f"https://127.0.0.1:{silent.getsockname()[1]}", context, 0.2)
        assert not isinstance(raised.value, ConnectionError | TimeoutError)
