"""What the kubelet's server answers: logs, pods, figures, health. No socket: whatever carries requests may use it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from agents.kubelet import logs
from agents.kubelet.runtime import ContainerStatus
from labctl.kube.errors import BadRequest, NotFound, ServerError
from labctl.runtime.clock import Clock, parse_time

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")

Answer = tuple[str, Iterable[bytes]]  # content type, body
Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sources:
    """What the server tells of."""

    containers: Callable[[], Sequence[ContainerStatus]]
    pods: Callable[[], Sequence[msgspec.Raw]]  # as the API server has them
    summary: Callable[[], Mapping[str, Any]]
    healthy: Callable[[], str]  # "" where all is well
    clock: Clock


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `gone(seconds)` waits and tells whether the client has left."""

    path: tuple[str, ...]
    query: Query
    gone: Callable[[float], bool]


class _Head(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""


class _Waiting(msgspec.Struct, frozen=True):
    reason: str = ""


class _State(msgspec.Struct, frozen=True):
    waiting: _Waiting | None = None


class _Container(msgspec.Struct, frozen=True):
    name: str = ""
    state: _State = _State()


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    container_statuses: tuple[_Container, ...] = ()
    init_container_statuses: tuple[_Container, ...] = ()


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Head = _Head()
    status: _Status = _Status()


_WHY_NO_IMAGE = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}


class Routes:
    """Paths to answers; a further one (exec, attach) is one more entry."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._routes: dict[str, Callable[[Request], Answer]] = {
            "healthz": self._healthz,
            "containerLogs": self._logs,
            "stats": self._stats,
            "pods": self._pods,
            "metrics": self._metrics,
        }

    def knows(self, namespace: str, pod: str) -> bool:
        """Whether that pod is this node's, by the API."""
        return self._pod(namespace, pod) is not None

    def answer(self, request: Request) -> Answer:
        """The answer, or an ApiError."""
        route = self._routes.get(request.path[0]) if request.path else None
        if route is None:
            raise NotFound("the kubelet serves nothing there")
        return route(request)

    def _healthz(self, _request: Request) -> Answer:
        if problem := self._sources.healthy():
            raise ServerError(problem)
        return "text/plain; charset=utf-8", [b"ok"]

    def _stats(self, request: Request) -> Answer:
        if request.path[1:] != ("summary",):
            raise NotFound("the kubelet serves /stats/summary alone there")
        return "application/json", [msgspec.json.encode(self._sources.summary())]

    def _pods(self, _request: Request) -> Answer:
        found = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(self._sources.pods())}
        return "application/json", [msgspec.json.encode(found)]

    def _metrics(self, _request: Request) -> Answer:
        containers = self._sources.containers()
        running = [status for status in containers if status.phase == "running"]
        lines = [
            "# HELP kubelet_running_pods Number of pods that have a running container",
            "# TYPE kubelet_running_pods gauge",
            f"kubelet_running_pods {len({status.pod.uid for status in running})}",
            "# HELP kubelet_running_containers Number of containers, by state",
            "# TYPE kubelet_running_containers gauge",
            *(
                f'kubelet_running_containers{{container_state="{phase}"}} '
                f"{sum(status.phase == phase for status in containers)}"
                for phase in ("created", "exited", "running")
            ),
        ]
        return "text/plain; version=0.0.4; charset=utf-8", ["\n".join(lines).encode() + b"\n"]

    def _logs(self, request: Request) -> Answer:
        if len(request.path) != 4 or not all(_NAME.fullmatch(word) for word in request.path[1:]):
            raise NotFound("/containerLogs/NAMESPACE/POD/CONTAINER is the path of a log")
        namespace, pod, container = request.path[1:]
        options = log_options(request.query, self._sources.clock)
        status = self._find(namespace, pod, container, previous=_flag(request.query, "previous"))
        if not status.log_path:
            raise NotFound(f"container {container!r} in pod {pod!r} keeps no log")

        def ended() -> bool:
            return not any(one.id == status.id and one.phase == "running" for one in self._sources.containers())

        return "text/plain; charset=utf-8", logs.read(Path(status.log_path), options, ended=ended, pause=request.gone)

    def _find(self, namespace: str, pod: str, container: str, *, previous: bool) -> ContainerStatus:
        """The container's last life, or the one before."""
        mine = [one for one in self._sources.containers() if (one.pod.namespace, one.pod.name) == (namespace, pod)]
        newest = max(mine, key=lambda one: one.started_s).pod.uid if mine else ""
        lives = sorted((one.attempt, one) for one in _of(mine, newest, container))
        if len(lives) > previous:
            return lives[-1 - previous][1]
        if previous and lives:
            raise BadRequest(f'previous terminated container "{container}" in pod "{pod}" not found')
        if (known := self._pod(namespace, pod)) is not None:
            raise BadRequest(f'container "{container}" in pod "{pod}" is {_why(known.status, container)}')
        raise NotFound(f'pod "{pod}" does not exist')

    def _pod(self, namespace: str, name: str) -> _Pod | None:
        found = (msgspec.json.decode(raw, type=_Pod) for raw in self._sources.pods())
        return next((one for one in found if (one.metadata.namespace, one.metadata.name) == (namespace, name)), None)


def _why(status: _Status, container: str) -> str:
    """Why a container has no log yet. Source: k/k `pkg/kubelet/kubelet_pods.go` (validateContainerLogStatus)."""
    for one in (*status.container_statuses, *status.init_container_statuses):
        if one.name == container:
            if one.state.waiting is None:
                return "waiting to start - no logs yet"
            reason = one.state.waiting.reason
            return f"waiting to start: {_WHY_NO_IMAGE.get(reason, reason)}"
    return "not available" if status.container_statuses else "waiting to start: ContainerCreating"


def _of(statuses: Iterable[ContainerStatus], uid: str, container: str) -> list[ContainerStatus]:
    return [one for one in statuses if one.pod.uid == uid and one.name == container and one.phase != "created"]


def log_options(query: Query, clock: Clock) -> logs.Options:
    """The options of a log request; BadRequest names what is wrong."""
    since = None
    if (seconds := _number(query, "sinceSeconds", least=1)) is not None:
        since = clock.now() - timedelta(seconds=seconds)
    if text := query.get("sinceTime"):
        if since is not None:
            raise BadRequest("at most one of sinceTime or sinceSeconds may be specified")
        try:
            since = parse_time(text)
        except ValueError as error:
            raise BadRequest(f"sinceTime: {text!r} is not an RFC 3339 time") from error
    return logs.Options(
        tail_lines=_number(query, "tailLines", least=0),
        limit_bytes=_number(query, "limitBytes", least=1),
        since=since,
        stream=query.get("stream", "All").lower(),
        timestamps=_flag(query, "timestamps"),
        follow=_flag(query, "follow"),
    )


def _number(query: Query, name: str, *, least: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise BadRequest(f"{name}: {text!r} is not a number")
    if int(text) < least:
        raise BadRequest(f"{name}: must be {least} or greater")
    return int(text)


def _flag(query: Query, name: str) -> bool:
    """As Go reads a boolean from a query: present without a value is true."""
    text = query.get(name)
    return text is not None and text.lower() not in {"0", "f", "false", "no"}
