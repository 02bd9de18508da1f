"""A lab network of network namespaces: a client and two nodes on one wire, with pods that answer who asked them."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agents.proxy.config import Config
from agents.proxy.netlink import LinuxKernel
from agents.proxy.plan import Plan
from agents.proxy.sync import Network, let_forward
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from labctl.runtime.shell import LocalShell

T = TypeVar("T")

CLUSTER_CIDR, SERVICE_CIDR = "10.214.0.0/16", "10.215.0.0/16"
CLIENT_IP = "10.216.0.1"
_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)

# Tells its name and who asked, once a line for TCP, once a datagram for UDP.
_SERVER = """
import socket, sys, threading
name, port = sys.argv[1], int(sys.argv[2])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("0.0.0.0", port))
tcp = socket.create_server(("0.0.0.0", port))
def datagrams():
    while True:
        _, who = udp.recvfrom(100)
        udp.sendto(f"{name} {who[0]}".encode(), who)
def lines(link, who):
    with link:
        while link.recv(100):
            link.sendall(f"{name} {who[0]}".encode())
threading.Thread(target=datagrams, daemon=True).start()
print("ready", flush=True)
while True:
    link, who = tcp.accept()
    threading.Thread(target=lines, args=(link, who), daemon=True).start()
"""


class Place:
    """One network namespace."""

    def __init__(self, name: str) -> None:
        self.name, self.shell = name, LocalShell()
        self.shell.run(["ip", "netns", "add", name])
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> str:
        """`ip` inside."""
        return self.shell.run(["ip", "-n", self.name, *words]).stdout

    def call(self, work: Callable[[], T]) -> T:
        """Do something in a thread that is inside, and so are the programs it starts."""
        results: list[T] = []
        failures: list[BaseException] = []

        def inside() -> None:
            fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
            try:
                assert _LIBC.setns(fd, _NEWNET) == 0, os.strerror(ctypes.get_errno())
                results.append(work())
            except BaseException as error:
                failures.append(error)
            finally:
                os.close(fd)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join(60)
        if failures:
            raise failures[0]
        return results[0]

    def connect(self, address: str, port: int, *, timeout_s: float = 3.0) -> socket.socket:
        """A TCP connection from here; the socket stays here."""
        return self.call(lambda: socket.create_connection((address, port), timeout=timeout_s))

    def ask(self, address: str, port: int, *, timeout_s: float = 3.0) -> tuple[str, str]:
        """Who answered, and whom it saw asking."""
        with self.connect(address, port, timeout_s=timeout_s) as link:
            return talk(link)

    def datagram(self) -> socket.socket:
        """A UDP socket here."""
        found = self.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        found.settimeout(1.0)
        return found


def talk(link: socket.socket) -> tuple[str, str]:
    """One question over an open connection."""
    link.sendall(b"?")
    name, _, who = link.recv(100).decode().partition(" ")
    return name, who


def serve(netns: str, name: str, port: int) -> subprocess.Popen[str]:
    """A server in a namespace, which listens already; the caller kills it."""
    argv = ["ip", "netns", "exec", netns, "python3", "-c", _SERVER, name, str(port)]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    return server


class LabNode(Place):
    """A node: its own address, a bridge for its pods, and the proxy's hands."""

    def __init__(self, tag: str, name: str, number: int) -> None:
        super().__init__(f"lt{tag}-{name}")
        self.short, self.address = name, f"10.216.0.{10 + number}"
        self.cidr, self.gateway = f"10.214.{number}.0/24", f"10.214.{number}.1"
        self._number, self._pods = number, 0
        self.servers: list[subprocess.Popen[str]] = []
        self.places: list[Place] = []
        self.ip("link", "add", "cni0", "type", "bridge")
        self.ip("address", "add", f"{self.gateway}/24", "dev", "cni0")
        self.ip("link", "set", "cni0", "up")
        self.call(self._kernel)
        config = Config(
            kubeconfig="", node_name=name, node_ip=self.address, cluster_cidr=CLUSTER_CIDR, service_cidr=SERVICE_CIDR
        )
        self.network = Network(config, LocalShell(), LinuxKernel())

    def apply(self, wanted: Plan, *, look: bool = False) -> bool:
        """Let the proxy do it."""
        return self.call(lambda: self.network.apply(wanted, look=look))

    def pod(self, name: str, port: int = 8080) -> Place:
        """A pod that serves; its address is the node's next."""
        self._pods += 1
        found = Place(f"{self.name}-{name}")
        self.places.append(found)
        near, far = f"v{self._number}p{self._pods}", "eth0"
        self.ip("link", "add", "name", near, "type", "veth", "peer", "name", far, "netns", found.name)
        self.ip("link", "set", near, "master", "cni0", "up")
        self.ip("link", "set", near, "type", "bridge_slave", "hairpin", "on")
        found.ip("address", "add", f"{self.address_of(self._pods)}/24", "dev", far)
        found.ip("link", "set", far, "up")
        found.ip("route", "add", "default", "via", self.gateway)
        self.servers.append(serve(found.name, name, port))
        return found

    def address_of(self, number: int) -> str:
        """The address of the node's n-th pod, from 1."""
        return f"10.214.{self._number}.{number + 1}"

    def _kernel(self) -> None:
        let_forward()
        Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("1")


class NetLab:
    """Client, nodes a and b; pods a1 and a2 on a, b1 on b."""

    def __init__(self) -> None:
        tag = uuid.uuid4().hex[:4]
        self.client = Place(f"lt{tag}-client")
        self.a, self.b = LabNode(tag, "a", 1), LabNode(tag, "b", 2)
        self.client.ip("link", "add", "lab", "type", "bridge")
        self.client.ip("address", "add", f"{CLIENT_IP}/24", "dev", "lab")
        self.client.ip("link", "set", "lab", "up")
        for node in (self.a, self.b):
            near, peer = f"to-{node.short}", ("peer", "name", "eth0", "netns", node.name)
            self.client.ip("link", "add", "name", near, "type", "veth", *peer)
            self.client.ip("link", "set", near, "master", "lab", "up")
            node.ip("address", "add", f"{node.address}/24", "dev", "eth0")
            node.ip("link", "set", "eth0", "up")
        self.a1, self.a2, self.b1 = self.a.pod("a1"), self.a.pod("a2"), self.b.pod("b1")
        self.a.servers.append(serve(self.client.name, "client", 9090))
        settled = lambda: "fe80" in self.a.ip("-6", "address", "show", "dev", "eth0")  # noqa: E731
        wait_for(settled, what="the links", deadline_s=10, clock=SystemClock(), every_s=0.05)

    def close(self) -> None:
        """Leave nothing."""
        for node in (self.a, self.b):
            for server in node.servers:
                server.kill()
                server.wait(timeout=10)
                if server.stdout:
                    server.stdout.close()
        for place in (*self.a.places, *self.b.places, self.a, self.b, self.client):
            LocalShell().run(["ip", "netns", "delete", place.name], check=False)
