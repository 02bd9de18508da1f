"""SSH to a machine that labctl did not make: by the user's own key or agent, as root or through sudo."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import paramiko

from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.loop import Backoff
from labctl.vm.ssh import Connection, SshError

_ATTEMPT_S = 10.0


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Where to, as whom, and how the machine proves who it is."""

    name: str  # for people
    address: str
    port: int = 22
    user: str = "root"
    key: str = ""  # a file; "": the agent's keys and those in ~/.ssh
    known_hosts: str = ""  # a file; "": ~/.ssh/known_hosts
    accept_new: bool = False  # take the key of a machine that was never seen before, and remember it


def connect(login: Login, *, deadline_s: float = 20.0, clock: Clock | None = None) -> Connection:
    """Connect, trying again until `deadline_s`; SshError says what stood in the way, and how to mend it."""
    clock = clock or SystemClock()
    end_s, backoff = clock.monotonic_s() + deadline_s, Backoff(0.1, 1.0)
    while True:
        try:
            return Connection(_attempt(login, max(0.5, min(_ATTEMPT_S, end_s - clock.monotonic_s()))), login.name)
        except (paramiko.BadHostKeyException, paramiko.AuthenticationException, _Unknown) as error:
            raise _refusal(login, error) from error
        except (OSError, EOFError, paramiko.SSHException) as error:
            wait_s = backoff.next_s()
            if clock.monotonic_s() + wait_s >= end_s:
                told = str(error) or type(error).__name__
                raise SshError(f"{login.name} ({login.address}) cannot be reached by ssh: {told}") from error
        clock.sleep_s(wait_s)


class _Unknown(Exception):
    """The machine's key is in no known_hosts."""


class _Refuse(paramiko.MissingHostKeyPolicy):
    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        raise _Unknown(f"{key.get_name()} {hostname}")


def _attempt(login: Login, timeout_s: float) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    file = Path(login.known_hosts).expanduser() if login.known_hosts else Path("~/.ssh/known_hosts").expanduser()
    if login.accept_new:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
    if file.exists():
        client.load_host_keys(str(file))
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy() if login.accept_new else _Refuse())
    try:
        client.connect(
            login.address,
            port=login.port,
            username=login.user,
            key_filename=login.key or None,
            timeout=timeout_s,
            banner_timeout=timeout_s,
            auth_timeout=timeout_s,
            allow_agent=not login.key,
            look_for_keys=not login.key,
        )
    except BaseException:
        client.close()
        raise
    return client


def _refusal(login: Login, error: Exception) -> SshError:
    where = f"{login.name} ({login.address})"
    if isinstance(error, paramiko.BadHostKeyException):
        return SshError(f"{where} shows another host key than before", hint="is it another machine?")
    if isinstance(error, _Unknown):
        return SshError(
            f"{where} is not in {login.known_hosts or '~/.ssh/known_hosts'}",
            hint="connect once by hand, or say `host_keys: accept` in the inventory",
        )
    return SshError(f"{where} does not let {login.user} in", hint="`user` and `key` of the inventory say who we are")


def answers(login: Login, *, timeout_s: float = 1.0) -> bool:
    """Whether an sshd greets there within `timeout_s`; a bare open port does not count."""
    try:
        with socket.create_connection((login.address, login.port), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
