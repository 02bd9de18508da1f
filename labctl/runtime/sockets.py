"""Connections that live long: a peer that vanished without a word is noticed, and how soon."""

from __future__ import annotations

import socket

Options = list[tuple[int, int, int]]  # level, option, value, as setsockopt takes them


def keepalive(*, idle_s: int, every_s: int, probes: int) -> Options:
    """Have the kernel ask after a peer that is silent for `idle_s`, and give it up after `probes` unanswered ones.

    Bytes that the peer does not confirm are given up after the same time. No waiting for a packet to fill.
    """
    return [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every_s),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1_000 * (idle_s + every_s * probes)),
    ]


_PATIENT = keepalive(idle_s=30, every_s=10, probes=3)


def keep_alive(sock: socket.socket, options: Options | None = None) -> None:
    """Set `options` on a connection; by default its peer may be silent for a minute."""
    for level, option, value in options or _PATIENT:
        sock.setsockopt(level, option, value)
