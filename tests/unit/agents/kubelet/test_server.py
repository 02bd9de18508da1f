"""The kubelet's server: who may ask, what it answers, and logs that grow and are rotated meanwhile."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import urllib3

from agents.kubelet import logs
from agents.kubelet.answers import Routes, Sources, log_options
from agents.kubelet.runtime import ContainerStatus, PodRef
from agents.kubelet.server import Server, Tls
from labctl.runtime.clock import FakeClock, SystemClock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import wait_for
from tests.e2e.controlplane.certificates import Authority

POD = PodRef("u1", "default", "web")


def entries(*lines: str, stream: str = "stdout", second: int = 0) -> str:
    """Lines as the json-file driver writes them, a second apart."""
    return "".join(
        json.dumps({"log": line, "stream": stream, "time": f"2026-01-01T00:00:{second + number:02}.123456789Z"}) + "\n"
        for number, line in enumerate(lines)
    )


class World:
    """A server with one pod's container, and people who ask."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.folder = Authority(folder), folder
        self.containers: list[ContainerStatus] = []
        self.problem = ""
        self.pod = b'{"metadata":{"name":"web","namespace":"default"},"x":1}'
        self.clock = FakeClock()
        sources = Sources(
            containers=lambda: list(self.containers),
            pods=lambda: [msgspec.Raw(self.pod)],
            summary=lambda: {"node": {"nodeName": "w1"}},
            healthy=lambda: self.problem,
            clock=self.clock,
        )
        certificate, key = self.authority.issue("kubelet", "w1")
        tls = Tls(str(certificate), str(key), str(self.authority.path))
        self.server = Server(Routes(sources), tls, address="127.0.0.1", port=0).start()

    def add(self, text: str, *, attempt: int = 0, phase: str = "running", uid: str = "u1") -> Path:
        """A container of the pod, with a log."""
        path = self.folder / f"{uid}-{attempt}.log"
        path.write_text(text)
        pod = PodRef(uid, "default", "web")
        status = ContainerStatus(
            id=f"{uid}-{attempt}",
            pod=pod,
            name="main",
            attempt=attempt,
            phase=phase,  # type: ignore[arg-type]
            image="i",
            image_id="",
            started_s=100.0 + attempt + (1000 if uid != "u1" else 0),
            log_path=str(path),
        )
        self.containers.append(status)
        return path

    def context(
        self, name: str = "api", user: str = "kube-apiserver-kubelet-client", group: str = ""
    ) -> ssl.SSLContext:
        found = ssl.create_default_context(cafile=str(self.authority.path))
        certificate, key = self.authority.issue(name, user, group)
        found.load_cert_chain(certificate, key)
        return found

    def get(self, path: str, *, context: ssl.SSLContext | None = None, **more: Any) -> urllib3.BaseHTTPResponse:
        with urllib3.PoolManager(ssl_context=context or self.context(), retries=False, timeout=10) as pool:
            return pool.request(more.pop("method", "GET"), f"https://127.0.0.1:{self.server.port}{path}", **more)

    def text(self, query: str = "") -> str:
        answer = self.get(f"/containerLogs/default/web/main{query}")
        assert answer.status == 200, answer.data
        return answer.data.decode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    found = World(tmp_path_factory.mktemp("server"))
    yield found
    found.server.stop()


@pytest.fixture
def world(shared: World) -> World:
    shared.containers.clear()
    shared.problem = ""
    return shared


def test_the_api_server_may_ask(world: World) -> None:
    answer = world.get("/healthz", context=world.context("allowed", "kube-apiserver-kubelet-client"))
    assert (answer.status, answer.data) == (200, b"ok")


@pytest.mark.parametrize(
    ("user", "group"), [("system:node:w2", "system:nodes"), ("kubernetes-admin", "system:masters")]
)
def test_every_other_identity_of_the_same_lab_is_refused(world: World, user: str, group: str) -> None:
    answer = world.get("/pods", context=world.context("other", user, group))
    assert (answer.status, answer.json()["reason"]) == (403, "Forbidden")


def test_nobody_gets_in_without_a_certificate_of_the_lab(world: World, tmp_path: Path) -> None:
    anonymous = ssl.create_default_context(cafile=str(world.authority.path))
    stranger = ssl.create_default_context(cafile=str(world.authority.path))
    stranger.load_cert_chain(*Authority(tmp_path).issue("x", "kubernetes-admin", "system:masters"))
    for context in (anonymous, stranger):
        with pytest.raises(urllib3.exceptions.HTTPError):
            world.get("/healthz", context=context)


def test_a_client_that_says_nothing_holds_up_nobody(world: World) -> None:
    with socket.create_connection(("127.0.0.1", world.server.port)):
        assert world.get("/healthz").status == 200


def test_health_pods_and_figures_are_told(world: World) -> None:
    world.add("")
    assert world.get("/pods").json()["items"] == [{"metadata": {"name": "web", "namespace": "default"}, "x": 1}]
    assert world.get("/stats/summary").json() == {"node": {"nodeName": "w1"}}
    assert "kubelet_running_pods 1\n" in world.get("/metrics").data.decode()
    world.problem = "containerd does not answer"
    answer = world.get("/healthz")
    assert (answer.status, answer.json()["message"]) == (500, "containerd does not answer")


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/containerLogs/default/web", "/containerLogs/../../etc/passwd/x", "/stats"]
)
def test_other_paths_are_not_found(world: World, path: str) -> None:
    assert world.get(path).status == 404


def test_nothing_but_get_is_served(world: World) -> None:
    assert world.get("/pods", method="DELETE").status == 405


def test_a_log_is_its_lines(world: World) -> None:
    world.add(entries("one\n", "two\n", "three, unfinished"))
    assert world.text() == "one\ntwo\nthree, unfinished"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?tailLines=2", "three\nfour\n"),
        ("?tailLines=0", ""),
        ("?tailLines=99", "one\ntwo\nthree\nfour\n"),
        ("?limitBytes=6", "one\ntw"),
        ("?sinceTime=2026-01-01T00:00:02Z", "three\nfour\n"),
        ("?tailLines=1&timestamps=true", "2026-01-01T00:00:03.123456789Z four\n"),
    ],
)
def test_options_choose_what_of_a_log_is_read(world: World, query: str, expected: str) -> None:
    world.add(entries("one\n", "two\n", "three\n", "four\n"))
    assert world.text(query) == expected


def test_the_last_seconds_are_counted_from_now(tmp_path: Path) -> None:
    (tmp_path / "0.log").write_text(entries("one\n", "two\n", "three\n", "four\n"))
    options = log_options({"sinceSeconds": "1"}, FakeClock(now=datetime(2026, 1, 1, 0, 0, 4, tzinfo=UTC)))
    assert read(tmp_path / "0.log", since=options.since) == "four\n"


@pytest.mark.parametrize(
    "query", ["?tailLines=x", "?tailLines=-1", "?limitBytes=0", "?sinceTime=now", "?sinceSeconds=0"]
)
def test_a_senseless_option_is_a_bad_request(world: World, query: str) -> None:
    world.add("")
    answer = world.get(f"/containerLogs/default/web/main{query}")
    assert (answer.status, answer.json()["reason"]) == (400, "BadRequest")


def test_the_last_life_is_read_and_the_previous_on_request(world: World) -> None:
    world.add(entries("first\n"), attempt=0, phase="exited")
    world.add(entries("second\n"), attempt=1)
    assert world.text() == "second\n"
    assert world.text("?previous=true") == "first\n"


def test_a_pod_of_the_same_name_before_is_not_this_one(world: World) -> None:
    world.add(entries("old\n"), attempt=5, uid="u1", phase="exited")
    world.add(entries("new\n"), attempt=0, uid="u2")
    assert world.text() == "new\n"


def test_what_is_not_there_is_told_apart(world: World) -> None:
    answer = world.get("/containerLogs/default/web/main")
    assert (answer.status, "waiting to start" in answer.json()["message"]) == (400, True)
    assert world.get("/containerLogs/default/other/main").status == 404
    world.add(entries("x\n"))
    answer = world.get("/containerLogs/default/web/main?previous=true")
    assert (answer.status, "previous terminated container" in answer.json()["message"]) == (400, True)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"waiting": {"reason": "ContainerCreating"}}, "waiting to start: ContainerCreating"),
        ({"waiting": {"reason": "PodInitializing"}}, "waiting to start: PodInitializing"),
        ({"waiting": {"reason": "ErrImagePull"}}, "waiting to start: image can't be pulled"),
        ({"waiting": {"reason": "ImagePullBackOff"}}, "waiting to start: trying and failing to pull image"),
        ({}, "waiting to start - no logs yet"),
    ],
)
def test_why_a_container_has_no_log_is_said_as_upstream_does(world: World, state: dict[str, Any], why: str) -> None:
    status = {"containerStatuses": [{"name": "main", "state": state}]}
    world.pod = json.dumps({"metadata": {"name": "web", "namespace": "default"}, "status": status}).encode()
    answer = world.get("/containerLogs/default/web/main")
    assert (answer.status, answer.json()["message"]) == (400, f'container "main" in pod "web" is {why}')
    assert world.get("/containerLogs/default/web/nobody").json()["message"].endswith('in pod "web" is not available')


def test_one_stream_of_a_log_is_read_alone(world: World) -> None:
    world.add(entries("out\n") + entries("err\n", stream="stderr", second=1))
    assert world.text("?stream=All") == "out\nerr\n"
    assert world.text("?stream=Stdout") == "out\n"
    assert world.text("?stream=Stderr") == "err\n"


def test_a_followed_log_grows_and_ends_with_its_container(world: World) -> None:
    path = world.add(entries("one\n"))
    with urllib3.PoolManager(ssl_context=world.context(), retries=False, timeout=10) as pool:
        url = f"https://127.0.0.1:{world.server.port}/containerLogs/default/web/main?follow=true&tailLines=1"
        answer = pool.request("GET", url, preload_content=False)
        assert answer.read1() == b"one\n"
        with path.open("a") as file:
            file.write(entries("two\n"))
        assert answer.read1() == b"two\n"
        world.containers.clear()
        assert answer.read() == b""


def test_a_reader_who_leaves_is_noticed(world: World) -> None:
    world.add(entries("one\n"))
    before = threading.active_count()
    with urllib3.PoolManager(ssl_context=world.context(), retries=False, timeout=10) as pool:
        url = f"https://127.0.0.1:{world.server.port}/containerLogs/default/web/main?follow=true"
        answer = pool.request("GET", url, preload_content=False)
        assert answer.read1() == b"one\n"
        answer.close()
    wait_for(lambda: threading.active_count() <= before, what="the thread's end", deadline_s=10, clock=SystemClock())


def read(path: Path, steps: list[Callable[[], object]] | None = None, **options: Any) -> str:
    """A log, followed while there are steps to be done in the pauses."""
    waiting = list(steps or [])

    def pause(_: float) -> bool:
        if waiting:
            waiting.pop(0)()
        return False

    found = logs.read(path, logs.Options(follow=bool(steps), **options), ended=lambda: not waiting, pause=pause)
    return b"".join(found).decode()


def test_rotated_parts_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    for name, line in (("0.log.9", "a\n"), ("0.log.10", "b\n"), ("0.log.11", "c\n"), ("0.log", "d\n")):
        (tmp_path / name).write_text(entries(line))
    (tmp_path / "0.log.gz").write_text("x")
    assert read(path) == "a\nb\nc\nd\n"
    assert read(path, tail_lines=2) == "c\nd\n"
    assert read(path, tail_lines=3) == "b\nc\nd\n"


def test_a_rotation_while_following_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(entries("a\n"))

    def rotate() -> None:
        with path.open("a") as file:
            file.write(entries("b\n"))
        path.rename(tmp_path / "0.log.1")
        path.write_text(entries("c\n"))

    assert read(path, [rotate, lambda: None]) == "a\nb\nc\n"


def test_a_line_that_is_being_written_appears_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    line = entries("long\n")
    path.write_text(entries("a\n") + line[:10])

    def finish() -> None:
        with path.open("a") as file:
            file.write(line[10:])

    assert read(path, [finish, lambda: None], tail_lines=1) == "a\nlong\n"


def test_a_log_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    assert read(path, [lambda: path.write_text(entries("a\n")), lambda: None]) == "a\n"


def test_long_logs_are_tailed_from_their_end(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("".join(json.dumps({"log": f"{n} {'x' * 500}\n"}) + "\n" for n in range(2_000)))
    assert [line.split()[0] for line in read(path, tail_lines=300).splitlines()] == [
        str(n) for n in range(1_700, 2_000)
    ]


def test_a_taken_port_is_said(world: World) -> None:
    certificate, key = world.authority.issue("second", "w1")
    tls = Tls(str(certificate), str(key), str(world.authority.path))
    routes = Routes(Sources(list, list, dict, str, world.clock))
    with pytest.raises(LabError, match=f"cannot listen on 127.0.0.1:{world.server.port}"):
        Server(routes, tls, address="127.0.0.1", port=world.server.port)
