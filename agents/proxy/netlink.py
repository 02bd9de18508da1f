"""Two questions to the kernel that no program needs to be started for: who is connected, and did the rules change.

Source: linux/netlink.h, linux/netfilter/nfnetlink_conntrack.h, linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Protocol

from labctl.runtime.errors import LabError

_NETFILTER = 12  # NETLINK_NETFILTER
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_CT_GET, _CT_DELETE = (1 << 8) | 1, (1 << 8) | 2
_NFT_GETGEN = (10 << 8) | 16
_TUPLE_ORIG, _TUPLE_REPLY, _TUPLE_IP, _TUPLE_PROTO = 1, 2, 1, 2
_IPV4_SRC, _IPV4_DST, _PROTO_NUM, _SRC_PORT, _DST_PORT = 1, 2, 1, 2, 3
_NAMES = {6: "tcp", 17: "udp", 132: "sctp"}
_TYPE_MASK = 0x3FFF
_ENOENT = 2
_TIMEOUT_S = 5.0


class NetlinkError(LabError):
    """The kernel refused, e.g. because we lack CAP_NET_ADMIN, or did not answer."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Flow:
    """One tracked connection: what the client sent to, and who answers."""

    protocol: str
    source: str
    destination: str
    port: int
    answers_from: str
    answers_port: int
    handle: bytes = field(default=b"", repr=False, compare=False)  # its original tuple, as the kernel wrote it


class Kernel(Protocol):
    """What the proxy asks."""

    def flows(self) -> list[Flow]:
        """Every tracked IPv4 connection of TCP, UDP and SCTP."""
        ...

    def forget(self, flow: Flow) -> None:
        """Delete a connection's entry; one that is gone is fine."""
        ...

    def generation(self) -> int:
        """A number that changes whenever anybody changes an nftables rule in this network namespace."""
        ...


class LinuxKernel:
    """This network namespace. Safe to share between threads: every question has a socket of its own."""

    def flows(self) -> list[Flow]:
        """See `Kernel`."""
        found = (_flow(body) for body in _ask(_CT_GET, _REQUEST | _DUMP))
        return [flow for flow in found if flow is not None]

    def forget(self, flow: Flow) -> None:
        """See `Kernel`."""
        try:
            for _ in _ask(_CT_DELETE, _REQUEST | _ACK, flow.handle):
                pass
        except OSError as error:
            if error.errno != _ENOENT:
                raise NetlinkError(f"conntrack: {error}") from error

    def generation(self) -> int:
        """See `Kernel`."""
        for body in _ask(_NFT_GETGEN, _REQUEST | _ACK):
            for kind, value in _attributes(body):
                if kind == 1:
                    return int(struct.unpack(">I", value)[0])
        raise NetlinkError("nftables tells no generation")


def _ask(kind: int, flags: int, payload: bytes = b"") -> Iterator[bytes]:
    """The bodies, without their nfgenmsg, of all messages that answer one request; OSError where it is refused."""
    body = struct.pack(">BBH", socket.AF_INET, 0, 0) + payload
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as link:
        link.settimeout(_TIMEOUT_S)
        link.bind((0, 0))
        link.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        while True:
            try:
                data = link.recv(1 << 18)
            except TimeoutError as error:
                raise NetlinkError("the kernel does not answer") from error
            while data:
                length, answer, _, _, _ = struct.unpack_from("=IHHII", data)
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    number = -struct.unpack_from("=i", data, 16)[0]
                    if number:
                        raise OSError(number, f"netlink request {kind:#x} refused")
                    return
                yield data[20:length]
                data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind & _TYPE_MASK, data[4:length]
        data = data[(length + 3) & ~3 :]


def _flow(body: bytes) -> Flow | None:
    found = dict(_attributes(body))
    if _TUPLE_ORIG not in found or _TUPLE_REPLY not in found:
        return None
    sent, answered = _tuple(found[_TUPLE_ORIG]), _tuple(found[_TUPLE_REPLY])
    if sent is None or answered is None:
        return None
    protocol, source, destination, _, port = sent
    _, answers_from, _, answers_port, _ = answered
    tuple_bytes = found[_TUPLE_ORIG]
    handle = struct.pack("=HH", 4 + len(tuple_bytes), 0x8000 | _TUPLE_ORIG) + tuple_bytes
    return Flow(protocol, source, destination, port, answers_from, answers_port, handle)


def _tuple(data: bytes) -> tuple[str, str, str, int, int] | None:
    """Protocol, source, destination, source port, destination port; None for what has no ports or is not IPv4."""
    parts = dict(_attributes(data))
    address, protocol = dict(_attributes(parts.get(_TUPLE_IP, b""))), dict(_attributes(parts.get(_TUPLE_PROTO, b"")))
    name = _NAMES.get((protocol.get(_PROTO_NUM) or b"\0")[0])
    if name is None or _IPV4_SRC not in address or _SRC_PORT not in protocol:
        return None
    source, destination = (str(IPv4Address(address[key])) for key in (_IPV4_SRC, _IPV4_DST))
    ports = (int(struct.unpack(">H", protocol[key])[0]) for key in (_SRC_PORT, _DST_PORT))
    return (name, source, destination, *ports)  # type: ignore[return-value]
