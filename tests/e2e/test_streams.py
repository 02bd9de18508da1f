"""exec, attach, cp, port-forward, logs and proxies: kubectl, API server, kubelet, containerd; all of them real."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import socket
import ssl
import struct
import subprocess
import termios
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from labctl.kube.errors import Document
from labctl.kube.resources import NODES, PODS
from labctl.runtime.errors import DeadlineExceeded
from labctl.runtime.loop import wait_for
from tests.contract.runtime.node import IMAGE
from tests.e2e import clients
from tests.e2e.controlplane.plane import CLOCK, free_port
from tests.e2e.worker import Worker, condition

SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
_TICKS = "echo first; echo complaint >&2; i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.2; done"
_PAGES = "busybox mkdir /www; head -c 3000000 /dev/urandom >/www/big; echo page >/www/page"
_SERVE = f"{_PAGES}; httpd -p 8081 -h /www; exec httpd -f -p 8080 -h /www"


def container(name: str, script: str) -> Document:
    return {"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}


def pod(name: str, *containers: Document, **spec: Any) -> Document:
    whole = {"containers": list(containers), "nodeName": "worker1", "terminationGracePeriodSeconds": 0}
    whole |= {"automountServiceAccountToken": False, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": whole}


@dataclass
class Tool:
    """One version of kubectl against the worker's API server."""

    worker: Worker
    binary: Path
    kubeconfig: str

    def argv(self, *words: str) -> list[str]:
        return [str(self.binary), f"--kubeconfig={self.kubeconfig}", *words]

    def run(
        self, *words: str, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        whole = {"PATH": os.environ["PATH"], "HOME": str(self.worker.folder), **(env or {})}
        return subprocess.run(self.argv(*words), input=stdin, capture_output=True, timeout=30, check=False, env=whole)

    @contextlib.contextmanager
    def background(self, *words: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
        whole = {"PATH": os.environ["PATH"], "HOME": str(self.worker.folder), **(env or {})}
        pipe = subprocess.PIPE
        process = subprocess.Popen(self.argv(*words), stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=whole)
        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=10)

    @contextlib.contextmanager
    def forward(self, target: str, *ports: int, env: dict[str, str] | None = None) -> Iterator[dict[int, int]]:
        """Local ports by remote port, once kubectl listens on them."""
        ours = {port: free_port() for port in ports}
        pairs = [f"{local}:{port}" for port, local in ours.items()]
        with self.background("port-forward", target, *pairs, env=env) as process:
            assert process.stdout is not None
            for _ in range(2 * len(ports)):
                line = process.stdout.readline()
                assert line.startswith(b"Forwarding from"), line
            yield ours


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    found = Worker(tmp_path_factory.mktemp("streams"))
    try:
        found.up()
        plane = found.plane
        plane.until("the node", lambda: condition(plane.client.get(NODES, "worker1"), "Ready") == "True")
        for document in (
            pod("ticks", container("main", _TICKS), container("web", _SERVE)),
            pod("brief", container("main", "echo life; exit 3"), restartPolicy="Always"),
        ):
            plane.client.create(PODS, document, "default")
        ready = lambda: condition(plane.client.get(PODS, "ticks", "default"), "Ready") == "True"  # noqa: E731
        plane.until("the pod", ready, deadline_s=60)
        path = "/api/v1/namespaces/default/pods/ticks:8080/proxy/page"
        plane.until("its page", lambda: plane.client.request("GET", path) == b"page\n")
        yield found
    finally:
        found.down()


@pytest.fixture(params=sorted(clients.WHEELS))
def kubectl(request: pytest.FixtureRequest, worker: Worker) -> Tool:
    return Tool(worker, clients.program("kubectl", request.param), str(worker.folder / "admin.kubeconfig"))


@pytest.fixture
def newest(worker: Worker) -> Tool:
    version = max(clients.WHEELS)
    return Tool(worker, clients.program("kubectl", version), str(worker.folder / "admin.kubeconfig"))


def running_in(worker: Worker, word: str) -> list[int]:
    """Processes in this node's containers that have `word` among their arguments."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            inside = worker.node.settings.cgroup_parent in Path(f"/proc/{process.pid}/cgroup").read_text()
            if inside and word in process.cmdline():
                found.append(process.pid)
    return found


# -- exec


@pytest.mark.parametrize("how", [{}, SPDY], ids=["websocket", "spdy"])
def test_a_commands_outputs_stay_apart_and_its_exit_code_comes_back(kubectl: Tool, how: dict[str, str]) -> None:
    script = "echo out; echo err >&2; exit 7"
    done = kubectl.run("exec", "ticks", "-c", "main", "--", "sh", "-c", script, env=how)
    assert (done.returncode, done.stdout) == (7, b"out\n")
    assert done.stderr.splitlines() == [b"err", b"command terminated with exit code 7"]


def test_kubectl_speaks_websockets_and_need_not_fall_back(kubectl: Tool) -> None:
    done = kubectl.run("-v=4", "exec", "ticks", "-c", "main", "--", "true")
    assert b"v5.channel.k8s.io" in done.stderr
    assert b"fallback" not in done.stderr
    with kubectl.background("-v=4", "port-forward", "ticks", f"{free_port()}:8080") as process:
        assert process.stdout is not None
        said = b""
        while b"Forwarding" not in said:
            said += process.stdout.readline()
        assert process.poll() is None
    assert b"Before WebSocket Upgrade" in said
    assert b"fallback" not in said


@pytest.mark.parametrize("how", [{}, SPDY], ids=["websocket", "spdy"])
def test_a_commands_input_ends_where_the_clients_does(kubectl: Tool, how: dict[str, str]) -> None:
    data = os.urandom(1_500_000)
    done = kubectl.run("exec", "-i", "ticks", "-c", "main", "--", "cat", stdin=data, env=how)
    assert (done.returncode, done.stdout == data) == (0, True), done.stderr


def test_the_default_container_is_told_and_a_wrong_one_refused(kubectl: Tool) -> None:
    done = kubectl.run("exec", "ticks", "--", "echo", "hello")
    assert (done.returncode, done.stdout) == (0, b"hello\n")
    assert b"Defaulted container" in done.stderr
    refused = kubectl.run("exec", "ticks", "-c", "nobody", "--", "true")
    assert refused.returncode == 1
    assert b"container nobody is not valid for pod ticks" in refused.stderr
    assert b'pods "nothing" not found' in kubectl.run("exec", "nothing", "--", "true").stderr


def test_a_command_that_is_not_there_is_said_so(kubectl: Tool) -> None:
    done = kubectl.run("exec", "ticks", "-c", "main", "--", "nosuch")
    assert done.returncode == 1
    assert b'exec: "nosuch": executable file not found in $PATH' in done.stderr


class Terminal:
    """kubectl in a terminal of 30 rows and 90 columns."""

    def __init__(self, argv: list[str], home: Path) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
            os.execve(argv[0], argv, {"PATH": os.environ["PATH"], "HOME": str(home)})
        self.said = ""

    def expect(self, text: str) -> None:
        def seen() -> bool:
            if select.select([self.fd], [], [], 0)[0]:
                with contextlib.suppress(OSError):
                    self.said += os.read(self.fd, 65536).decode(errors="replace")
            before, found, after = self.said.partition(text)
            self.said = after if found else before
            return bool(found)

        with contextlib.suppress(DeadlineExceeded):  # what it shows says more
            wait_for(seen, what=text, deadline_s=20, clock=CLOCK, every_s=0.02)
            return
        raise AssertionError(f"no {text!r} in what the terminal shows: {self.said!r}")

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect_size(self, rows: int, columns: int) -> None:
        """A size travels beside the input, so what is typed first may come first: the shell itself waits for it."""
        size = f"{rows} {columns}"
        self.type(f'while [ "$(stty size)" != "{size}" ]; do sleep 0.1; done; echo no\'\'w $(stty size)\n')
        self.expect(f"now {size}")

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def exit_code(self) -> int:
        def ended() -> tuple[int, int] | None:
            with contextlib.suppress(OSError):
                os.read(self.fd, 65536) if select.select([self.fd], [], [], 0)[0] else b""
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return (pid, status) if pid else None

        _, status = wait_for(ended, what="kubectl's end", deadline_s=20, clock=CLOCK, every_s=0.02)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def test_a_shell_in_a_terminal_has_its_size_and_hears_of_a_new_one(kubectl: Tool) -> None:
    words = kubectl.argv("exec", "-it", "ticks", "-c", "main", "--", "sh")
    terminal = Terminal(words, kubectl.worker.folder)
    terminal.expect("# ")
    terminal.expect_size(30, 90)
    terminal.type("echo $TERM\n")
    terminal.expect("xterm")
    terminal.resize(41, 101)
    terminal.expect_size(41, 101)
    terminal.type("echo be''gun; sleep 1000\n")
    terminal.expect("begun")
    terminal.type("\x03")  # as typed: it reaches what runs in the container, not kubectl
    terminal.expect("^C")
    terminal.expect("# ")
    terminal.type("exit 5\n")
    assert terminal.exit_code() == 5


def test_a_command_does_not_outlive_its_client(newest: Tool) -> None:
    with newest.background("exec", "-i", "ticks", "-c", "main", "--", "sleep", "4321"):
        pids = wait_for(
            lambda: running_in(newest.worker, "4321"), what="the command", deadline_s=20, clock=CLOCK, every_s=0.05
        )
    wait_for(lambda: not any(map(psutil.pid_exists, pids)), what="its end", deadline_s=20, clock=CLOCK, every_s=0.05)


# -- attach, cp


def test_attach_shows_what_comes_from_now_on(kubectl: Tool) -> None:
    with kubectl.background("attach", "ticks", "-c", "main") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
    ticks = [int(line.split()[1]) for line in lines if line.startswith(b"tick")]
    assert len(ticks) >= 3
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    assert b"first\n" not in lines


_RUN = (
    *("--restart=Never", f"--image={IMAGE}", "--image-pull-policy=IfNotPresent", "--pod-running-timeout=30s"),
    '--overrides={"spec":{"automountServiceAccountToken":false,"terminationGracePeriodSeconds":0}}',
)


def test_a_pod_is_run_with_a_terminal_of_its_own(kubectl: Tool) -> None:
    name = f"shell-{kubectl.binary.parent.name.replace('.', '-')}"
    terminal = Terminal(kubectl.argv("run", name, "-it", "--rm", *_RUN, "--", "sh"), kubectl.worker.folder)
    terminal.expect("try pressing enter")
    terminal.expect_size(30, 90)
    terminal.type("exit 3\n")
    assert terminal.exit_code() == 3


def test_a_pod_is_run_on_what_is_piped_in(kubectl: Tool) -> None:
    name = f"pipe-{kubectl.binary.parent.name.replace('.', '-')}"
    script = "while read x; do echo got $x; done; sleep 1"
    done = kubectl.run("run", name, "-i", "--rm", *_RUN, "--", "sh", "-c", script, stdin=b"one\ntwo\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [b"got one", b"got two"]


def test_a_container_keeps_its_input_while_clients_and_kubelet_come_and_go(newest: Tool) -> None:
    plane = newest.worker.plane
    listens = {**container("main", "while read x; do echo got $x; done"), "stdin": True}
    plane.client.create(PODS, pod("listens", listens), "default")
    ready = lambda: condition(plane.client.get(PODS, "listens", "default"), "Ready") == "True"  # noqa: E731
    plane.until("the pod", ready, deadline_s=30)
    for word in (b"one", b"two"):
        with newest.background("attach", "-i", "listens") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(word + b"\n")
            process.stdin.flush()
            while (line := process.stdout.readline()) != b"got " + word + b"\n":
                assert b"If you don't see" in line or b"recorded" in line, line
        newest.worker.kill()
        newest.worker.start()
        attached = lambda: newest.run("exec", "listens", "--", "true").returncode == 0  # noqa: E731
        wait_for(attached, what="the kubelet's return", deadline_s=30, clock=CLOCK)
    assert newest.run("logs", "listens").stdout == b"got one\ngot two\n"
    assert plane.client.get(PODS, "listens", "default")["status"]["containerStatuses"][0]["restartCount"] == 0
    plane.client.delete(PODS, "listens", "default", grace_s=0)
    plane.until("its end", lambda: not running_in(newest.worker, "while read x; do echo got $x; done"))


def test_files_are_copied_both_ways(kubectl: Tool, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "big").write_bytes(data)
    (tmp_path / "there" / "small").write_text("small")
    for arguments in (("there", "ticks:/tmp/there"), ("ticks:/tmp/there", "back")):
        argv = kubectl.argv("cp", "-c", "main", *arguments)
        subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True, timeout=30, env={"PATH": "/usr/bin:/bin"})
    assert (tmp_path / "back" / "big").read_bytes() == data
    assert (tmp_path / "back" / "small").read_text() == "small"
    kubectl.run("exec", "ticks", "-c", "main", "--", "busybox", "rm", "-r", "/tmp/there")


# -- port-forward


def fetch(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20) as answer:
        found: bytes = answer.read()
        return found


@pytest.mark.parametrize("how", [{}, SPDY], ids=["websocket", "spdy"])
def test_connections_and_ports_are_forwarded_side_by_side(kubectl: Tool, how: dict[str, str]) -> None:
    with (
        kubectl.forward("pod/ticks", 8080, 8081, env=how) as ports,
        socket.create_connection(("127.0.0.1", ports[8080]), timeout=20) as silent,  # open all along
    ):
        assert fetch(ports[8081], "page") == b"page\n"
        big = [fetch(ports[8080], "big") for _ in range(3)]
        assert {len(one) for one in big} == {3_000_000}
        assert len(set(big)) == 1
        silent.sendall(b"GET /page HTTP/1.0\r\n\r\n")
        silent.shutdown(socket.SHUT_WR)
        assert silent.makefile("rb").read().endswith(b"page\n")


def test_a_port_that_nobody_listens_on_is_told(newest: Tool) -> None:
    local = free_port()
    with newest.background("port-forward", "ticks", f"{local}:9") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"Forwarding")
        with socket.create_connection(("127.0.0.1", local), timeout=20) as client:
            assert client.recv(1) == b""
        assert process.wait(20) == 1
        said = process.stdout.read()
    assert b"connect: connection refused" in said
    assert b"error: lost connection to pod" in said


# -- logs


def test_a_log_is_read_by_all_its_options(kubectl: Tool) -> None:

    def log(*words: str) -> bytes:
        return kubectl.run("logs", "ticks", "-c", "main", *words).stdout

    assert set(log().splitlines()[:3]) == {b"first", b"complaint", b"tick 1"}
    assert len(log("--tail=2").splitlines()) == 2
    assert len(log("--limit-bytes=9")) == 9
    assert log("--since=1h").startswith(b"first\n") or log("--since=1h").startswith(b"complaint\n")
    assert log("--since-time=2999-01-01T00:00:00Z") == b""
    stamp, word = log("--timestamps", "--tail=1").split()[:2]
    assert stamp.endswith(b"Z")
    assert word == b"tick"
    assert b"first" not in log("--since=1s")


def test_a_log_is_followed_and_all_containers_are_read_by_label(kubectl: Tool) -> None:
    with kubectl.background("logs", "-f", "--tail=1", "ticks", "-c", "main") as process:
        assert process.stdout is not None
        ticks = [int(process.stdout.readline().split()[1]) for _ in range(3)]
    assert ticks == list(range(ticks[0], ticks[0] + 3))
    said = kubectl.run("logs", "-l", "app=ticks", "--all-containers", "--prefix", "--tail=2").stdout
    assert b"[pod/ticks/main] tick" in said


def test_an_earlier_lifes_log_is_kept_and_a_missing_one_told(kubectl: Tool) -> None:
    wait_for(
        lambda: kubectl.run("logs", "--previous", "brief").stdout == b"life\n",
        what="the log of the first life", deadline_s=30, clock=CLOCK,
    )  # fmt: skip
    refused = kubectl.run("logs", "--previous", "ticks", "-c", "main")
    assert refused.stderr == (
        b'Error from server (BadRequest): previous terminated container "main" in pod "ticks" not found\n'
    )


def test_a_container_that_waits_has_no_log_yet(kubectl: Tool) -> None:
    name = f"absent-{kubectl.binary.parent.name.replace('.', '-')}"
    absent = {**container("main", "true"), "image": "lab.local/absent:1"}
    client = kubectl.worker.plane.client
    client.create(PODS, pod(name, absent), "default")
    wanted = f'Error from server (BadRequest): container "main" in pod "{name}" is waiting to start: '
    wait_for(
        lambda: (wanted + "trying and failing to pull image").encode() in kubectl.run("logs", name).stderr,
        what="the reason", deadline_s=30, clock=CLOCK,
    )  # fmt: skip
    assert b"unable to upgrade connection: container not found" in kubectl.run("exec", name, "--", "true").stderr
    client.delete(PODS, name, "default", grace_s=0)


# -- proxies


def test_pods_services_and_nodes_are_reached_by_proxy(kubectl: Tool) -> None:

    def raw(path: str) -> subprocess.CompletedProcess[bytes]:
        return kubectl.run("get", "--raw", f"/api/v1/{path}")

    assert raw("namespaces/default/pods/ticks:8080/proxy/page").stdout == b"page\n"
    assert raw("namespaces/default/pods/http:ticks:8080/proxy/page").stdout == b"page\n"
    assert len(raw("namespaces/default/pods/ticks:8080/proxy/big").stdout) == 3_000_000
    assert b"(NotFound)" in raw("namespaces/default/pods/ticks:8080/proxy/nothing").stderr
    assert raw("nodes/worker1/proxy/healthz").stdout == b"ok"
    assert "ticks" in {one["metadata"]["name"] for one in json.loads(raw("nodes/worker1/proxy/pods").stdout)["items"]}
    refused = raw("namespaces/default/pods/ticks:9/proxy/")
    assert b"Error from server (ServiceUnavailable): error trying to reach service: dial tcp" in refused.stderr


def test_a_service_is_reached_through_its_endpoints(newest: Tool) -> None:
    newest.run("expose", "pod", "ticks", "--port=80", "--target-port=8080", "--name=web")

    def raw(name: str) -> subprocess.CompletedProcess[bytes]:
        return newest.run("get", "--raw", f"/api/v1/namespaces/default/services/{name}/proxy/page")

    wait_for(lambda: raw("web:80").stdout == b"page\n", what="the service", deadline_s=20, clock=CLOCK)
    assert raw("web").stdout == b"page\n"
    assert b'no service port "81" found for service "web"' in raw("web:81").stderr
    newest.run("delete", "service", "web")


# -- who may, and what is left


def test_reading_pods_alone_opens_no_stream(newest: Tool) -> None:
    """The `get` that a WebSocket's GET stands for is not enough: `create` is needed, too."""
    plane = newest.worker.plane
    newest.run("create", "role", "reader", "--verb=get,list", "--resource=pods,pods/exec,pods/log")
    newest.run("create", "rolebinding", "reader", "--role=reader", "--user=reader")
    reader = Tool(newest.worker, newest.binary, plane.authority.kubeconfig("reader", plane.server, "reader"))
    assert reader.run("logs", "ticks", "-c", "main", "--tail=1").returncode == 0
    refused = reader.run("exec", "ticks", "-c", "main", "--", "true")
    assert refused.returncode == 1
    assert b'User "reader" cannot create resource "pods/exec" in API group ""' in refused.stderr


def test_the_kubelet_talks_to_the_api_server_alone(worker: Worker) -> None:
    node = worker.plane.client.get(NODES, "worker1")
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    context = ssl.create_default_context(cafile=str(worker.plane.authority.path))
    context.load_cert_chain(*worker.plane.authority.issue("other", "system:node:worker2", "system:nodes"))
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"https://127.0.0.1:{port}/pods", context=context, timeout=20)


def test_streams_leave_no_descriptor_and_no_process_behind(newest: Tool) -> None:
    assert newest.worker.process is not None
    kubelet = psutil.Process(newest.worker.process.pid)
    (server,) = psutil.Process(newest.worker.plane.processes["apiserver"].pid).children()
    newest.run("exec", "ticks", "-c", "main", "--", "true")

    def counts() -> tuple[int, int, int]:
        return kubelet.num_fds(), server.num_fds(), kubelet.num_threads()

    before = counts()
    for _ in range(5):
        newest.run("exec", "ticks", "-c", "main", "--", "true")
        with newest.background("exec", "-i", "ticks", "-c", "main", "--", "sleep", "4322"):
            pids = wait_for(lambda: running_in(newest.worker, "4322"), what="it", deadline_s=20, clock=CLOCK)
        with newest.forward("ticks", 8080) as ports:
            fetch(ports[8080], "page")
        assert pids
    gone = lambda: all(now <= then + 1 for now, then in zip(counts(), before, strict=True))  # noqa: E731
    wait_for(gone, what=f"at most {before}, not {counts()}", deadline_s=20, clock=CLOCK)
    assert not running_in(newest.worker, "4322")
    assert kubelet.memory_info().rss < 60 * 2**20


def test_a_stream_ends_with_the_kubelet(newest: Tool) -> None:
    with newest.background("exec", "-i", "ticks", "-c", "main", "--", "sleep", "4323") as process:
        wait_for(lambda: running_in(newest.worker, "4323"), what="the command", deadline_s=20, clock=CLOCK)
        newest.worker.kill()
        assert process.wait(20) != 0
    newest.worker.start()
    done = lambda: newest.run("exec", "ticks", "-c", "main", "--", "true").returncode == 0  # noqa: E731
    wait_for(done, what="the kubelet's return", deadline_s=30, clock=CLOCK)
    for pid in running_in(newest.worker, "4323"):
        os.kill(pid, signal.SIGKILL)


def test_a_stream_ends_with_the_api_server_which_does_not_wait_for_it(newest: Tool) -> None:
    with newest.background("exec", "-i", "ticks", "-c", "main", "--", "sleep", "4324") as process:
        wait_for(lambda: running_in(newest.worker, "4324"), what="the command", deadline_s=20, clock=CLOCK)
        server = newest.worker.plane.processes["apiserver"]
        server.terminate()
        assert server.wait(10) == 0
        assert process.wait(20) != 0
    gone = lambda: not running_in(newest.worker, "4324")  # noqa: E731
    wait_for(gone, what="the command's end", deadline_s=20, clock=CLOCK)
