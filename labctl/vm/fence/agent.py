"""`python3 -m labctl.vm.fence.agent STATE_DIR CACHE_DIR`: the fence agent of one lab, on its host.

HTTPS with certificates on both sides, by the lab's authority; only the holder of the client certificate `CLIENT` is
obeyed, which is on the masters and readable by the controller manager alone.

    GET  /healthz        200
    POST /fence/<node>   200 {"node", "evidence"}: the machine is off, by its provider's word
                         403 another client   404 no such worker   503 the lab is busy   500 not confirmed off

Whoever works on the lab as a whole (up, halt, snapshot) has its lock; machines are not powered off under their hands.
The process ends with its lab's folder.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from labctl.runtime import log
from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop
from labctl.runtime.shell import LocalShell
from labctl.vm import fence
from labctl.vm.fence.backends import Backend, ByCommand, ByProvider
from labctl.vm.provider import Site
from labctl.vm.registry import provider_named
from labctl.vm.state import LabBusy, LabState
from labctl.vm.topology import Topology

_LOOK_S = 2.0
_REQUEST_S = 10.0

_log = logging.getLogger("fence")


class Refused(Exception):
    """An HTTP status and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Agent:
    """Fences one machine at a time. The topology is read anew each time: a lab may grow."""

    def __init__(self, state: LabState, backend: Backend | None, cache_dir: Path, clock: Clock) -> None:
        self._state, self._backend, self._cache_dir, self._clock = state, backend, cache_dir, clock
        self._one = threading.Lock()

    def fence(self, name: str) -> dict[str, Any]:
        """Power the worker off; the answer's body. Refused says why not."""
        topology = self._state.topology()
        machine = topology.machine(name)
        if machine is None or machine.role != "worker":
            raise Refused(404, f"lab {topology.lab!r} has no worker {name!r}")
        begun_s = self._clock.monotonic_s()
        with self._one:
            try:
                with self._state.locked(f"fence {name}"):
                    evidence = self._power(topology).power_off(machine)
            except LabError as error:
                _log.warning("%s was not powered off: %s", name, error)
                raise Refused(503 if isinstance(error, LabBusy) else 500, str(error)) from error
        took_s = self._clock.monotonic_s() - begun_s
        _log.warning("%s was powered off: %s (%.2f s)", name, evidence, took_s)
        return {"node": name, "evidence": evidence}

    def warm_up(self) -> None:
        """Load what fencing needs, so that the first machine does not wait for it."""
        self._power(self._state.topology())

    def _power(self, topology: Topology) -> Backend:
        if self._backend is not None:
            return self._backend
        if topology.fencing_command:
            return ByCommand(topology.fencing_command, LocalShell())
        site = Site(topology=topology, state_dir=self._state.dir, ssh_public_key="", cache_dir=self._cache_dir)
        return ByProvider(provider_named(topology.provider), site)


def handler(agent: Agent) -> type[BaseHTTPRequestHandler]:
    """The HTTP side."""

    class Handler(BaseHTTPRequestHandler):
        """Speaks HTTP/1.0: a connection a request."""

        timeout = _REQUEST_S

        def do_GET(self) -> None:
            self._answer(lambda: {"ok": True} if self.path == "/healthz" else _nothing(self.path))

        def do_POST(self) -> None:
            where, _, name = self.path.strip("/").partition("/")
            self._answer(lambda: agent.fence(name) if where == "fence" else _nothing(self.path))

        def _answer(self, work: Any) -> None:
            try:
                if _common_name(self.connection) != fence.CLIENT:
                    raise Refused(403, "only controllers may have machines powered off")
                status, body = 200, work()
            except Refused as error:
                status, body = error.status, {"error": str(error)}
            except Exception as error:
                _log.exception("a request failed")
                status, body = 500, {"error": f"{type(error).__name__}: {error}"}
            data = msgspec.json.encode(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            _log.info(format, *args)

    return Handler


def _nothing(path: str) -> dict[str, Any]:
    raise Refused(404, f"there is no {path}")


def _common_name(connection: Any) -> str:
    subject = (connection.getpeercert() or {}).get("subject", ())
    return next((value for part in subject for key, value in part if key == "commonName"), "")


class Server(ThreadingHTTPServer):
    """TLS begins in each connection's own thread, so that one that stalls holds up nobody."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], agent: Agent, pki: Path) -> None:
        super().__init__(address, handler(agent), bind_and_activate=False)
        self.socket.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND: the lab's network may come and go
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(pki / "fence-agent.crt", pki / "fence-agent.key")
        context.load_verify_locations(pki / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.server_bind()
        self.server_activate()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that gave up, or had no certificate of ours."""
        _log.info("%s: %s", client_address[0], sys.exc_info()[1])


def main(argv: list[str]) -> int:
    """Serve until SIGTERM, or until the lab's folder is gone."""
    log.set_up(0, "text")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    state_dir, cache_dir = Path(argv[0]), Path(argv[1])
    state = LabState(state_dir.parent, state_dir.name)
    claim = os.open(state_dir / "fence" / "pid", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one agent a lab; ends with the process
    os.ftruncate(claim, 0)
    os.write(claim, str(os.getpid()).encode())
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    agent = Agent(state, None, cache_dir, SystemClock())
    server = Server((state.topology().host_address, fence.PORT), agent, state_dir / "pki")
    threading.Thread(target=server.serve_forever, name="fence", daemon=True).start()
    os.write(sys.stdout.fileno(), fence.READY)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    agent.warm_up()
    while state.exists and not stop.wait_s(_LOOK_S):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
