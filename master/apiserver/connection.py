"""Is the client still there? A watch may have nothing to write for a minute, and writing is how one notices."""

from __future__ import annotations

import socket
from typing import Any

STREAMS: set[Any] = set()  # connections whose answer is a stream that a stop cuts short: logs, exec, port-forward
_ESTABLISHED = 1  # the first byte of Linux's struct tcp_info is the connection's state


def connected(sock: Any) -> bool:
    """Whether the peer has neither closed nor reset the connection; True for what is no TCP socket."""
    if sock is None:
        return True
    try:
        return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED)
    except OSError:
        return False
