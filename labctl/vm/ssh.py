"""SSH to one node (paramiko), always with deadlines: commands, files, and a terminal for people."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import socket
from collections.abc import Callable, Iterator
from types import TracebackType

import paramiko

from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.errors import DeadlineExceeded, LabError
from labctl.runtime.loop import Backoff
from labctl.runtime.shell import CommandError, Output
from labctl.vm import hostkeys, sshkey, terminal
from labctl.vm.provider import Site
from labctl.vm.topology import Machine

PORT = 22
_CONNECT_S = 20.0
_ATTEMPT_S = 10.0  # one try: an emulated machine needs 0.3 s, a loaded one seconds
_CHUNK = 65_536
_POLL_S = 0.5
_KEEPALIVE_S = 10
_PIPE = 141  # as a shell reports SIGPIPE
_LOST = 255  # as OpenSSH: the command ended without an exit code


class SshError(LabError):
    """A machine cannot be reached by ssh, or the connection broke."""

    retryable = True


def answers(address: str, timeout_s: float = 1.0) -> bool:
    """Whether an sshd greets at `address` within `timeout_s`; a bare open port does not count."""
    try:
        with socket.create_connection((address, PORT), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def host_key_line(address: str, timeout_s: float = _ATTEMPT_S) -> str:
    """The known_hosts line of whatever answers at `address` now: for a machine that was made just before."""
    with (
        _errors(address),
        socket.create_connection((address, PORT), timeout=timeout_s) as connection,
        contextlib.closing(paramiko.Transport(connection)) as transport,
    ):
        transport.start_client(timeout=timeout_s)
        key = transport.get_remote_server_key()
    return f"{address} {key.get_name()} {key.get_base64()}"


def connect(site: Site, machine: Machine, *, deadline_s: float = _CONNECT_S, clock: Clock | None = None) -> Connection:
    """Connect as root with the lab's key, trying again until `deadline_s`; SshError says what stood in the way.

    A machine that shows another host key than the lab remembers is refused at once.
    """
    return Connection(_connected(site, machine, deadline_s, clock or SystemClock()), machine.name)


class Connection:
    """An open connection; a context manager. Safe to share between threads: each command has its own channel."""

    def __init__(self, client: paramiko.SSHClient, name: str) -> None:
        self._client, self._name = client, name

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def run(self, command: str, *, timeout_s: float = 60.0, check: bool = True, stdin: bytes = b"") -> Output:
        """Run `command` in the root's shell. With `check`, a non-zero exit raises CommandError."""
        out, err = bytearray(), bytearray()
        code = self.stream(command, out.extend, err.extend, timeout_s=timeout_s, stdin=stdin)
        output = Output(code, out.decode(errors="replace"), err.decode(errors="replace"))
        if check and code != 0:
            words = (output.stderr.strip() or output.stdout.strip()).splitlines()
            told = f"{self._name}: `{_shortened(command)}` exited with {code}: {words[-1] if words else 'no output'}"
            raise CommandError(told, code=code, stderr=output.stderr)
        return output

    def stream(
        self,
        command: str,
        on_stdout: Callable[[bytes], object],
        on_stderr: Callable[[bytes], object],
        *,
        timeout_s: float,
        stdin: bytes = b"",
    ) -> int:
        """Run `command`, hand over its output as it comes, return its exit code (255 where a signal ended it)."""
        end = _Deadline(timeout_s, f"`{_shortened(command)}` on {self._name}")
        with _errors(self._name), contextlib.closing(self._channel(timeout_s)) as channel:
            channel.exec_command(command)
            pending = memoryview(stdin)
            if not pending:
                channel.shutdown_write()
            while not terminal.finished(channel):
                pending = _feed(channel, pending)
                select.select([channel], [], [], min(_POLL_S if not pending else 0.01, end.left_s()))
                _drain(channel, on_stdout, on_stderr)
            _drain(channel, on_stdout, on_stderr)
            return self._exit_code(channel)

    def put(self, path: str, data: bytes, *, mode: int = 0o644, timeout_s: float = 120.0) -> None:
        """Write `data` to `path` on the machine, whole or not at all; folders above it are made."""
        target, temporary = shlex.quote(path), shlex.quote(f"{path}.part")
        folder = shlex.quote(os.path.dirname(path) or ".")
        command = f"mkdir -p {folder} && cat > {temporary} && chmod {mode:o} {temporary} && mv {temporary} {target}"
        self.run(command, stdin=data, timeout_s=timeout_s)

    def interact(self, command: str = "") -> int:
        """Give this process's own terminal to `command`, or to a login shell; return the exit code.

        Without a terminal on both sides the streams stay apart and nothing is translated, as with OpenSSH.
        """
        with _errors(self._name), contextlib.closing(self._channel(_ATTEMPT_S)) as channel:
            try:
                terminal.attach(channel, command)
            except BrokenPipeError:  # whoever read our output has seen enough
                return _PIPE
            return self._exit_code(channel)

    def _channel(self, timeout_s: float) -> paramiko.Channel:
        transport = self._client.get_transport()
        if transport is None:
            raise SshError(f"the connection to {self._name} is closed")
        return transport.open_session(timeout=min(timeout_s, _CONNECT_S))

    def _exit_code(self, channel: paramiko.Channel) -> int:
        code = channel.recv_exit_status()
        transport = self._client.get_transport()
        if code < 0 and (transport is None or not transport.is_active()):
            raise SshError(
                f"the connection to {self._name} broke", hint="is the machine running? `labctl status` tells"
            )
        return code if code >= 0 else _LOST


class _Deadline:
    """Raises DeadlineExceeded once its time is over."""

    def __init__(self, timeout_s: float, what: str, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._end_s, self._told = self._clock.monotonic_s() + timeout_s, f"waited {timeout_s:g} s for {what}"

    def left_s(self) -> float:
        left_s = self._end_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise DeadlineExceeded(self._told)
        return left_s


def _connected(site: Site, machine: Machine, deadline_s: float, clock: Clock) -> paramiko.SSHClient:
    end_s = clock.monotonic_s() + deadline_s
    backoff = Backoff(0.1, 1.0)
    while True:
        attempt_s = max(0.5, min(_ATTEMPT_S, end_s - clock.monotonic_s()))
        try:
            return _attempt(site, machine, attempt_s)
        except (OSError, EOFError, paramiko.SSHException) as error:
            if isinstance(error, paramiko.BadHostKeyException | paramiko.AuthenticationException):
                raise _refusal(site, machine, error) from error
            wait_s = backoff.next_s()
            if clock.monotonic_s() + wait_s >= end_s:
                raise SshError(
                    f"{machine.name} ({machine.address}) cannot be reached by ssh: {_words(error)}",
                    hint="is the machine running? `labctl status` tells",
                ) from error
        clock.sleep_s(wait_s)


def _attempt(site: Site, machine: Machine, timeout_s: float) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    known = hostkeys.known_hosts(site.state_dir)
    if known.exists():
        client.load_host_keys(str(known))
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    try:
        client.connect(
            machine.address,
            port=PORT,
            username="root",
            pkey=paramiko.Ed25519Key.from_private_key_file(str(sshkey.ssh_key(site.state_dir))),
            timeout=timeout_s,
            banner_timeout=timeout_s,
            auth_timeout=timeout_s,
            allow_agent=False,
            look_for_keys=False,
        )
    except BaseException:
        client.close()
        raise
    transport = client.get_transport()
    assert transport is not None
    transport.set_keepalive(_KEEPALIVE_S)
    return client


def _refusal(site: Site, machine: Machine, error: Exception) -> SshError:
    if isinstance(error, paramiko.BadHostKeyException):
        return SshError(
            f"{machine.name} ({machine.address}) shows another host key than before",
            hint=f"is it another machine? If not, remove its line from {hostkeys.known_hosts(site.state_dir)}",
        )
    return SshError(
        f"{machine.name} does not accept the lab's ssh key", hint="`labctl destroy` and `labctl up` make it anew"
    )


@contextlib.contextmanager
def _errors(name: str) -> Iterator[None]:
    """Turn what sockets and paramiko raise into SshError."""
    try:
        yield
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise SshError(f"the connection to {name} failed: {_words(error)}") from error


def _feed(channel: paramiko.Channel, pending: memoryview) -> memoryview:
    """Send what the other side takes now; the rest."""
    while pending and channel.send_ready():
        pending = pending[channel.send(bytes(pending[:_CHUNK])) :]
        if not pending:
            channel.shutdown_write()
    return pending


def _drain(
    channel: paramiko.Channel, on_stdout: Callable[[bytes], object], on_stderr: Callable[[bytes], object]
) -> None:
    while channel.recv_ready():
        on_stdout(channel.recv(_CHUNK))
    while channel.recv_stderr_ready():
        on_stderr(channel.recv_stderr(_CHUNK))


def _shortened(command: str) -> str:
    return command if len(command) <= 60 else f"{command[:57]}..."


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
