"""The client against a real SSH server in this process, which runs commands with the local shell."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from labctl.runtime.clock import FakeClock, SystemClock
from labctl.runtime.errors import DeadlineExceeded
from labctl.runtime.loop import wait_for
from labctl.runtime.shell import CommandError
from labctl.vm import hostkeys, ssh, sshkey
from labctl.vm.provider import Site
from labctl.vm.topology import Machine, Topology

HOST = "127.0.0.1"
MACHINE = Machine(
    name="worker1", role="worker", address=HOST, mac="52:54:0a:09:00:14", cpus=1, memory_mib=1, disk_gib=1
)
TOPOLOGY = Topology(
    lab="demo",
    provider="vagrant",
    profile="fast",
    box="",
    network_cidr="10.9.0.0/24",
    host_address="10.9.0.1",
    bridge="lab-demo",
    cluster_cidr="10.244.0.0/16",
    service_cidr="10.96.0.0/16",
    machines=(MACHINE,),
)


class Policy(paramiko.ServerInterface):
    """Lets one key in as root and runs what it asks for."""

    def __init__(self, accepted: str) -> None:
        self._accepted = accepted

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        fine = username == "root" and key.get_base64() == self._accepted.split()[1]
        return AUTH_SUCCESSFUL if fine else AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_pty_request(self, channel: paramiko.Channel, *_: object) -> bool:
        return True

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=_serve, args=(channel, command), daemon=True).start()
        return True


def _serve(channel: paramiko.Channel, command: bytes) -> None:
    with contextlib.suppress(OSError, EOFError):
        sent = b"" if command.startswith(b"sleep") else b"".join(iter(lambda: channel.recv(65_536), b""))
        done = subprocess.run(["/bin/sh", "-c", command.decode()], input=sent, capture_output=True, check=False)
        channel.sendall(done.stdout)
        channel.sendall_stderr(done.stderr)
        if done.returncode >= 0:
            channel.send_exit_status(done.returncode)
        channel.close()


class Server:
    """An sshd on a port of its own."""

    def __init__(self, accepted: str) -> None:
        self.key = paramiko.ECDSAKey.generate()
        self._policy = Policy(accepted)
        self._transports: list[paramiko.Transport] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def known(self) -> str:
        return f"[{HOST}]:{self.port} {self.key.get_name()} {self.key.get_base64()}"

    def hang_up(self) -> None:
        for transport in self._transports:
            transport.close()

    def close(self) -> None:
        self._listener.close()
        self.hang_up()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                transport = paramiko.Transport(connection)
                transport.add_server_key(self.key)
                self._transports.append(transport)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transport.start_server(server=self._policy)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(topology=TOPOLOGY, state_dir=tmp_path, ssh_public_key=sshkey.ensure_ssh_key(tmp_path))


@pytest.fixture
def server(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    running = Server(site.ssh_public_key)
    monkeypatch.setattr(ssh, "PORT", running.port)
    hostkeys.remember(site.state_dir, [running.known()])
    yield running
    running.close()


@pytest.fixture
def connection(site: Site, server: Server) -> Iterator[ssh.Connection]:
    with ssh.connect(site, MACHINE) as opened:
        yield opened


def test_a_command_gives_its_code_and_both_streams(connection: ssh.Connection) -> None:
    output = connection.run("echo out; echo err >&2; exit 3", check=False)
    assert (output.code, output.stdout, output.stderr) == (3, "out\n", "err\n")


def test_a_failing_command_raises_with_its_last_words(connection: ssh.Connection) -> None:
    with pytest.raises(CommandError, match=r"worker1: `.*` exited with 4: no such thing") as caught:
        connection.run("echo 'no such thing' >&2; exit 4")
    assert caught.value.code == 4


def test_a_command_ended_by_a_signal_is_told_apart_from_a_broken_connection(connection: ssh.Connection) -> None:
    assert connection.run("kill -9 $$", check=False).code == 255


def test_large_streams_arrive_whole(connection: ssh.Connection) -> None:
    data = os.urandom(5_000_000)
    received = bytearray()
    assert connection.stream("cat", received.extend, received.extend, timeout_s=60, stdin=data) == 0
    assert bytes(received) == data


def test_a_command_that_takes_too_long_is_given_up(connection: ssh.Connection) -> None:
    with pytest.raises(DeadlineExceeded, match="sleep 30"):
        connection.run("sleep 30", timeout_s=0.3)


def test_commands_may_run_side_by_side(connection: ssh.Connection) -> None:
    outputs: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: outputs.append(connection.run(f"echo {n}").stdout.strip()))
        for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outputs) == ["0", "1", "2", "3", "4"]


def test_a_file_is_put_whole_with_its_mode_and_folders(connection: ssh.Connection, tmp_path: Path) -> None:
    target = tmp_path / "deep/a file"
    connection.put(str(target), b"\0content", mode=0o600)
    assert target.read_bytes() == b"\0content"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["a file"]


def test_a_machine_with_another_host_key_is_refused_at_once(site: Site, server: Server) -> None:
    stranger = paramiko.ECDSAKey.generate()
    hostkeys.remember(site.state_dir, [f"[{HOST}]:{server.port} {stranger.get_name()} {stranger.get_base64()}"])
    with pytest.raises(ssh.SshError, match="another host key"):
        ssh.connect(site, MACHINE, clock=FakeClock())


def test_a_machine_that_does_not_know_our_key_is_not_tried_again(
    site: Site, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ssh/id_ed25519").unlink()
    sshkey.ensure_ssh_key(tmp_path)
    with pytest.raises(ssh.SshError, match="does not accept the lab's ssh key"):
        ssh.connect(site, MACHINE, clock=FakeClock())


def test_connecting_tries_again_until_sshd_is_there(site: Site, server: Server) -> None:
    class Patient(FakeClock):
        """Puts the listener up when somebody first sleeps."""

        def sleep_s(self, seconds: float) -> None:
            super().sleep_s(seconds)
            ssh.PORT = server.port

    ssh.PORT = _closed_port()
    with ssh.connect(site, MACHINE, clock=Patient()) as opened:
        assert opened.run("echo there").stdout == "there\n"


def test_where_nothing_answers_the_error_says_so_after_the_deadline(site: Site, server: Server) -> None:
    ssh.PORT = _closed_port()
    clock = FakeClock()
    began_s = clock.monotonic_s()
    with pytest.raises(ssh.SshError, match="cannot be reached") as caught:
        ssh.connect(site, MACHINE, deadline_s=9, clock=clock)
    assert caught.value.retryable
    assert 5 <= clock.monotonic_s() - began_s <= 9


def test_an_open_port_without_sshd_does_not_answer(server: Server) -> None:
    assert ssh.answers(HOST)
    with socket.create_server((HOST, 0)) as silent:
        ssh.PORT = silent.getsockname()[1]
        assert not ssh.answers(HOST, timeout_s=0.2)
    ssh.PORT = _closed_port()
    assert not ssh.answers(HOST)


def test_the_host_key_of_a_new_machine_can_be_asked_for(server: Server) -> None:
    assert ssh.host_key_line(HOST) == f"{HOST} {server.key.get_name()} {server.key.get_base64()}"


def test_a_connection_that_breaks_is_an_ssh_error(connection: ssh.Connection, server: Server) -> None:
    threading.Timer(0.2, server.hang_up).start()
    with pytest.raises(ssh.SshError):
        connection.run("sleep 5", timeout_s=20)


def test_without_a_terminal_the_streams_are_passed_through_untouched(
    connection: ssh.Connection, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"typed\n")
    os.close(writing)
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", os.fdopen(os.dup(1), "w"))
        monkeypatch.setattr(sys, "stderr", os.fdopen(os.dup(2), "w"))
        assert connection.interact("cat; echo oops >&2; exit 7") == 7
    assert capfdbinary.readouterr().out == b"typed\n"


def test_a_terminal_is_raw_while_it_is_lent_and_as_before_afterwards(
    connection: ssh.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with os.fdopen(theirs, "r+b", buffering=0) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys, "stdout", terminal)
        os.write(ours, b"\x03\x04")  # Ctrl-C is the remote side's business
        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(connection.interact("sleep 0.5; exit 5")))
        thread.start()
        lent = wait_for(
            lambda: not termios.tcgetattr(ours)[3] & termios.ICANON or None,
            what="a raw terminal",
            deadline_s=10,
            clock=SystemClock(),
            every_s=0.01,
        )
        thread.join(20)
        assert lent
        assert codes == [5]
        assert termios.tcgetattr(ours) == before
    os.close(ours)


def _closed_port() -> int:
    with socket.create_server((HOST, 0)) as taken:
        port: int = taken.getsockname()[1]
    return port
