"""Two questions to the kernel that no program needs to be started for: who is connected, and did the rules change.

Source: linux/netlink.h, linux/netfilter/nfnetlink_conntrack.h, linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
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
_PROTOINFO, _PROTOINFO_TCP, _TCP_STATE = 4, 1, 1
_OVER = (7, 8)  # TIME_WAIT and CLOSE: the same client's next SYN begins a connection of its own
_NAMES = {6: "tcp", 17: "udp", 132: "sctp"}
_TYPE_MASK = 0x3FFF
_TIMEOUT_S = 5.0
_BATCH = 128  # requests sent before their answers are read: both fit into a socket's buffers


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
    over: bool = False  # both ends have closed it
    handle: bytes = field(default=b"", repr=False, compare=False)  # its original tuple, as the kernel wrote it


class Kernel(Protocol):
    """What the proxy asks."""

    def flows(self) -> list[Flow]:
        """Every tracked IPv4 connection of TCP, UDP and SCTP."""
        ...

    def forget(self, flows: Sequence[Flow]) -> None:
        """Delete these connections' entries; one that is gone is fine."""
        ...

    def generation(self) -> int:
        """A number that changes whenever anybody changes an nftables rule in this network namespace."""
        ...


class LinuxKernel:
    """This network namespace. Safe to share between threads: every question has a socket of its own."""

    def flows(self) -> list[Flow]:
        """See `Kernel`."""
        with _open() as link:
            link.send(_message(_CT_GET, _REQUEST | _DUMP, 1))
            return [flow for body in _answers(link, 1) if (flow := _flow(body))]

    def forget(self, flows: Sequence[Flow]) -> None:
        """See `Kernel`. A thousand of them take one socket and a few calls: a slow machine has better things to do."""
        with _open() as link:
            for first in range(0, len(flows), _BATCH):
                batch = flows[first : first + _BATCH]
                asked = [_message(_CT_DELETE, _REQUEST | _ACK, at, flow.handle) for at, flow in enumerate(batch)]
                link.send(b"".join(asked))
                for _ in _answers(link, len(batch), missing_ok=True):
                    pass

    def generation(self) -> int:
        """See `Kernel`."""
        with _open() as link:
            link.send(_message(_NFT_GETGEN, _REQUEST | _ACK, 1))
            for body in _answers(link, 1):
                for kind, value in _attributes(body):
                    if kind == 1:
                        return int(struct.unpack(">I", value)[0])
        raise NetlinkError("nftables tells no generation")


@contextlib.contextmanager
def _open() -> Iterator[socket.socket]:
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as link:
            link.settimeout(_TIMEOUT_S)
            link.bind((0, 0))
            yield link
    except TimeoutError as error:
        raise NetlinkError("the kernel does not answer") from error
    except OSError as error:
        raise NetlinkError(f"the kernel refuses: {error}") from error


def _message(kind: int, flags: int, sequence: int, payload: bytes = b"") -> bytes:
    """One request; its length is a multiple of four, so that others may follow it."""
    body = struct.pack(">BBH", socket.AF_INET, 0, 0) + payload
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body + b"\0" * (-len(body) % 4)


def _answers(link: socket.socket, requests: int, *, missing_ok: bool = False) -> Iterator[bytes]:
    """The bodies, without their nfgenmsg, of all messages that answer `requests`; OSError for a refused one."""
    while requests:
        data = link.recv(1 << 18)
        while data:
            length, answer, _, _, _ = struct.unpack_from("=IHHII", data)
            if answer in (_DONE, _ERROR):
                requests -= 1
            if answer == _ERROR:
                number = -struct.unpack_from("=i", data, 16)[0]
                if number and not (missing_ok and number == errno.ENOENT):
                    raise OSError(number, os.strerror(number))
            elif answer != _DONE:
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
    return Flow(protocol, source, destination, port, answers_from, answers_port, _is_over(found), handle)


def _is_over(found: Mapping[int, bytes]) -> bool:
    tcp = dict(_attributes(found.get(_PROTOINFO, b""))).get(_PROTOINFO_TCP, b"")
    return (dict(_attributes(tcp)).get(_TCP_STATE) or b"\0")[0] in _OVER


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
