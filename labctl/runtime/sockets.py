"""Connections that live long: a peer that vanished without a word is noticed within a minute or two."""

from __future__ import annotations

import socket

_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
)


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel ask after the peer while nothing is said, and give up on bytes that it does not confirm."""
    for level, option, value in _OPTIONS:
        sock.setsockopt(level, option, value)
