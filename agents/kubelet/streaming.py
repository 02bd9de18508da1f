"""What the kubelet's server upgrades: /exec, /attach and /portForward, over WebSocket or SPDY.

Source: k/k `pkg/kubelet/server/server.go`, `k8s.io/cri-streaming/pkg/streaming`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agents.kubelet import forward, held
from agents.kubelet.attach import Attach, AttachHeld
from agents.kubelet.channels import SPDY_PROTOCOLS, WEBSOCKET_PROTOCOLS, Channels, SpdyChannels, WebSocketChannels
from agents.kubelet.processes import open_process
from agents.kubelet.remote_command import Command, Exec, Session, Wanted, wanted
from agents.kubelet.runtime import ContainerRuntime, ContainerStatus
from agents.kubelet.wire import End
from labctl.kube import websocket
from labctl.kube.errors import BadRequest, NotFound, ServerError

STREAMING = ("exec", "attach", "portForward")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request to leave HTTP. `headers`: by lower-case name; `query`: pairs in order."""

    path: tuple[str, ...]
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]

    def options(self) -> dict[str, str]:
        """The query by name; of repeated options the first counts."""
        return dict(reversed(self.query))

    @property
    def websocket(self) -> bool:
        """Whether it is to become a WebSocket; BadRequest where it is to become nothing we know."""
        words = {word.strip().lower() for word in self.headers.get("connection", "").split(",")}
        to = self.headers.get("upgrade", "").lower()
        if "upgrade" not in words or to not in {"websocket", "spdy/3.1"}:
            raise BadRequest("unable to upgrade: missing upgrade headers in request")
        if to == "websocket" and not self.headers.get("sec-websocket-key"):
            raise BadRequest("unable to upgrade: missing Sec-WebSocket-Key")
        return to == "websocket"


@dataclass(frozen=True, slots=True)
class Accepted:
    """An upgrade that goes ahead: the headers that say so, and what runs on the connection afterwards."""

    headers: Mapping[str, str]
    run: Callable[[ssl.SSLSocket], None]


class Streams:
    """Accepts upgrades, and knows the connections they live on."""

    def __init__(self, node: ContainerRuntime, knows: Callable[[str, str], bool], work_dir: str) -> None:
        """`knows(namespace, name)`: whether that pod is this node's, by the API."""
        self._node, self._knows, self._work_dir = node, knows, work_dir
        self._open: set[ssl.SSLSocket] = set()
        self._lock = threading.Lock()

    def accept(self, upgrade: Upgrade) -> Accepted:
        """What to do with an upgrade; ApiError where it cannot be."""
        verb = upgrade.path[0]
        if len(upgrade.path) != (3 if verb == "portForward" else 4):
            raise NotFound(f"/{verb}/NAMESPACE/POD{'' if verb == 'portForward' else '/CONTAINER'} is the path")
        if verb == "portForward":
            headers, run = self._forward(upgrade)
        else:
            headers, run = self._command(upgrade)
        return Accepted(headers, partial(self._keep, run))

    def stop(self) -> None:
        """Hang up on everyone."""
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _keep(self, run: Callable[[ssl.SSLSocket], None], sock: ssl.SSLSocket) -> None:
        with self._lock:
            self._open.add(sock)
        try:
            run(sock)
        finally:
            with self._lock:
                self._open.discard(sock)

    def _command(self, upgrade: Upgrade) -> tuple[Mapping[str, str], Callable[[ssl.SSLSocket], None]]:
        asked = wanted(upgrade.options())
        status = self._running(upgrade.path)
        headers, channels = _channels(upgrade, asked)
        if upgrade.path[0] == "exec":
            argv = [value for name, value in upgrade.query if name == "command"]
            if not argv:
                raise BadRequest("you must specify at least 1 command")
            return headers, partial(self._exec, status, asked, argv, channels)
        return headers, partial(self._attach, status, asked, channels)

    def _exec(
        self, status: ContainerStatus, asked: Wanted, argv: Sequence[str], channels: Channels, sock: ssl.SSLSocket
    ) -> None:
        def line(pid_file: Path) -> Sequence[str]:
            return self._node.exec_line(status.id, argv, tty=asked.tty, pid_file=pid_file)

        pid_file = Path(self._work_dir, f"exec-{uuid.uuid4().hex}.pid")
        Exec(Session(sock, channels), asked, Command(status.id, argv, line, pid_file)).run()

    def _attach(self, status: ContainerStatus, asked: Wanted, channels: Channels, sock: ssl.SSLSocket) -> None:
        holder = held.connect(self._work_dir, status.id)
        if holder is not None:
            AttachHeld(Session(sock, channels), asked, holder).run()
            return
        fd = open_process(status.pid, cgroup_word=status.id)
        end = End(fd)
        end.ended = fd < 0
        try:
            Attach(Session(sock, channels), asked, Path(status.log_path), end).run()
        finally:
            if fd >= 0:
                os.close(fd)

    def _forward(self, upgrade: Upgrade) -> tuple[Mapping[str, str], Callable[[ssl.SSLSocket], None]]:
        namespace, name = upgrade.path[1:]
        mine = [one for one in self._node.sandboxes() if (one.pod.namespace, one.pod.name) == (namespace, name)]
        if not mine:
            raise NotFound("pod does not exist")
        sandbox = max(mine, key=lambda one: one.created_s)
        web = upgrade.websocket
        name = "sec-websocket-protocol" if web else "x-stream-protocol-version"
        chosen = forward.protocol_of(upgrade.headers.get(name, ""), websocket_upgrade=web)

        def run(sock: ssl.SSLSocket) -> None:
            forward.Forward(sock, sandbox.netns_path, sandbox.pod.uid, tunnel=web).run()

        return _switching(upgrade, chosen), run

    def _running(self, path: tuple[str, ...]) -> ContainerStatus:
        """The running container, of the newest pod of that name."""
        namespace, pod, container = path[1:]
        mine = [one for one in self._node.containers() if (one.pod.namespace, one.pod.name) == (namespace, pod)]
        if not mine and not self._knows(namespace, pod):
            raise NotFound("pod does not exist")
        newest = max(mine, key=lambda one: one.started_s).pod.uid if mine else ""
        for one in mine:
            if (one.pod.uid, one.name, one.phase) == (newest, container, "running"):
                return one
        raise ServerError(f'container not found ("{container}")')


def _channels(upgrade: Upgrade, asked: Wanted) -> tuple[Mapping[str, str], Channels]:
    """The best protocol that the client offers."""
    web = upgrade.websocket
    ours = WEBSOCKET_PROTOCOLS if web else SPDY_PROTOCOLS
    text = upgrade.headers.get("sec-websocket-protocol" if web else "x-stream-protocol-version", "")
    offered = [word.strip() for word in text.split(",")]
    chosen = next((one for one in ours if one in offered), "")
    if not chosen:
        raise BadRequest(f"unable to upgrade: none of the protocols offered ({text}) is one of {', '.join(ours)}")
    made = WebSocketChannels(chosen, asked.channels) if web else SpdyChannels(asked.channels)
    return _switching(upgrade, chosen), made


def _switching(upgrade: Upgrade, protocol: str) -> Mapping[str, str]:
    """The headers of the 101."""
    if not upgrade.websocket:
        return {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": protocol}
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Accept": websocket.accept(upgrade.headers["sec-websocket-key"]),
        "Sec-WebSocket-Protocol": protocol,
    }
