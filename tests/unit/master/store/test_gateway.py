"""Connections: whether one is still up, as far as the kernel knows; an etcd that is slow, and one that is down."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from labctl.runtime.clock import FakeClock, SystemClock
from labctl.runtime.loop import wait_for
from master.store.connection import Connection
from master.store.gateway import Gateway
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


class _Member(http.server.BaseHTTPRequestHandler):
    """Answers every call with the port it came to."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Any call."""
        self.rfile.read(int(self.headers["Content-Length"]))
        data = str(self.connection.getsockname()[1]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@contextmanager
def member(port: int = 0) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Member)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_calls_go_home_once_the_member_of_this_machine_answers_again() -> None:
    clock, port = FakeClock(), free_port()
    home = f"http://127.0.0.1:{port}"
    with member() as other:
        gateway = Gateway([home, other], clock=clock, deadline_s=20.0)

        def answered(path: str = "/v3/kv/range") -> str:
            return f"http://127.0.0.1:{gateway.call(path, b'{}')[0].decode()}"

        assert answered() == other  # nobody is at home
        with member(port):
            assert answered() == other  # not asked again at once
            assert not gateway.strayed(other)
            clock.advance(6)
            assert answered("/v3/kv/txn") == other  # a write is not tried where it is in doubt
            assert answered() == home
            assert answered("/v3/kv/txn") == home
            assert gateway.strayed(other)
        gateway.close()


def test_home_is_asked_now_and_then_and_costs_the_call_nothing_where_nobody_is_there() -> None:
    clock = FakeClock()
    with member() as other:
        gateway = Gateway([f"http://127.0.0.1:{free_port()}", other], clock=clock, deadline_s=20.0)
        for _ in range(3):
            gateway.call("/v3/kv/range", b"{}")
            clock.advance(6)
        gateway.close()


def test_each_endpoint_says_itself_what_is_wrong_with_it() -> None:
    with member() as well:
        ill = f"http://127.0.0.1:{free_port()}"
        gateway = Gateway([ill, well], clock=CLOCK)
        answers = gateway.ask_each("/v3/maintenance/status", b"{}")
        assert answers[well] == well.rpartition(":")[2].encode()
        assert isinstance(answers[ill], str)
        gateway.close()
