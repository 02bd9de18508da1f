"""One try of a probe or a lifecycle hook: exec, HTTP, TCP or sleep. Native sockets; exec goes through the runtime.

Source: k/k `pkg/probe`, `pkg/kubelet/lifecycle/handlers.go`.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

import urllib3

from agents.kubelet.runtime import ContainerRuntime
from agents.kubelet.views import Container, Handler, HttpGet, IntOrString, Probe, TcpSocket
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError

_BODY_BYTES = 10 * 1024
_OVERRAN = 124
_ADDRESS = re.compile(r"^<[^>]*>: ")  # of a Python object, which makes two equal messages differ


@dataclass(frozen=True, slots=True)
class Target:
    """A running container, as its checks reach it."""

    container_id: str
    address: str  # the pod's
    ports: Mapping[str, int] = field(default_factory=dict)  # by name


@dataclass(frozen=True, slots=True)
class Result:
    """Whether it went well, and what it said."""

    ok: bool
    message: str = ""


class Checker:
    """Runs one check. Safe to share between threads."""

    def __init__(self, runtime: ContainerRuntime, clock: Clock) -> None:
        self._runtime, self._clock = runtime, clock
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        # Probes ask whether something answers, not who it is: as upstream, certificates are not verified.
        self._http = urllib3.PoolManager(num_pools=4, maxsize=1, retries=False, cert_reqs="CERT_NONE")

    def run(self, action: Probe | Handler, target: Target, *, timeout_s: float) -> Result:
        """Do it once within `timeout_s`; a failure to do it is a result, not an error."""
        try:
            if action.exec is not None:
                done = self._runtime.exec(target.container_id, action.exec.command, timeout_s=timeout_s)
                words = f"command timed out after {timeout_s:g}s" if done.code == _OVERRAN else done.output.strip()
                return Result(done.code == 0, words[:1024])
            if action.http_get is not None:
                return self._get(action.http_get, target, timeout_s)
            if action.tcp_socket is not None:
                return _connect(action.tcp_socket, target, timeout_s)
            if isinstance(action, Handler) and action.sleep is not None:
                self._clock.sleep_s(min(timeout_s, float(action.sleep.seconds)))
                return Result(True)
        except (LabError, OSError) as error:
            return Result(False, str(error))
        return Result(False, "gRPC probes are not supported")

    def _get(self, get: HttpGet, target: Target, timeout_s: float) -> Result:
        host = get.host or target.address
        path = get.path if get.path.startswith("/") else f"/{get.path}"
        url = f"{get.scheme.lower()}://{host}:{_port(get.port, target)}{path}"
        headers = {"User-Agent": "kube-probe/1.37", "Accept": "*/*", "Connection": "close"}
        headers |= {header.name: header.value for header in get.http_headers}
        try:
            answer = self._http.request(
                "GET", url, headers=headers, timeout=timeout_s, redirect=False, preload_content=False
            )
            body = answer.read(_BODY_BYTES)
            answer.close()
        except urllib3.exceptions.HTTPError as error:
            return Result(False, f'Get "{url}": {_ADDRESS.sub("", str(error))}')
        if 200 <= answer.status < 400:
            return Result(True, body.decode(errors="replace"))
        return Result(False, f"HTTP probe failed with statuscode: {answer.status}")


def target_of(container_id: str, address: str, container: Container) -> Target:
    """How a container's checks reach it."""
    return Target(container_id, address, {port.name: port.container_port for port in container.ports if port.name})


def _connect(action: TcpSocket, target: Target, timeout_s: float) -> Result:
    place = (action.host or target.address, _port(action.port, target))
    try:
        socket.create_connection(place, timeout=timeout_s).close()
    except OSError as error:
        return Result(False, f"dial tcp {place[0]}:{place[1]}: {error}")
    return Result(True)


def _port(port: IntOrString, target: Target) -> int:
    """A number, or the name of one of the container's ports."""
    if isinstance(port, str) and port in target.ports:
        return target.ports[port]
    try:
        return int(port)
    except ValueError as error:
        raise LabError(f"no container port is named {port!r}") from error
