"""One connection: whether it is still up, as far as the kernel knows."""

from __future__ import annotations

import socket

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from master.store.gateway import Connection


def test_a_connection_is_usable_until_the_peer_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = Connection(f"http://127.0.0.1:{listener.getsockname()[1]}", None, 5.0)
        peer, _ = listener.accept()
        assert connection.usable()
        peer.close()
        wait_for(lambda: not connection.usable(), what="the hang-up to be seen", deadline_s=5, clock=SystemClock())
        connection.close()
        assert not connection.usable()
