"""The client-go program of `tests/e2e/goclient`, built once into a cache folder, and what the tests ask of it."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from tests.e2e import clients

SOURCE = Path(__file__).with_name("goclient")


def binary() -> Path:
    """The program, built from its present source where that is not done yet."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.read_bytes())
    target = clients.cache() / "go" / f"goclient-{digest.hexdigest()[:16]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}")
        subprocess.run(["go", "build", "-mod=readonly", "-o", str(part), "."], cwd=SOURCE, check=True, timeout=580)
        part.rename(target)
    return target


def run(kubeconfig: Path, *arguments: str) -> list[str]:
    """A subcommand that ends by itself; its lines."""
    done = subprocess.run(
        [str(binary()), *arguments],
        env=_environment(kubeconfig),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"goclient {' '.join(arguments)}: {done.stderr}{done.stdout}"
    return done.stdout.splitlines()


def _environment(kubeconfig: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "KUBECONFIG": str(kubeconfig)}


def to_protobuf(documents: Iterable[Any]) -> list[bytes]:
    """The protobuf bodies that Go makes of objects."""
    return [base64.b64decode(line) for line in _each("encode", (msgspec.json.encode(found) for found in documents))]


def to_json(bodies: Iterable[bytes]) -> list[Any]:
    """The documents that Go makes of protobuf bodies."""
    return [msgspec.json.decode(line) for line in _each("decode", (base64.b64encode(body) for body in bodies))]


def _each(command: str, lines: Iterable[bytes]) -> list[bytes]:
    given = b"".join(line + b"\n" for line in lines)
    done = subprocess.run([str(binary()), command], input=given, capture_output=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.splitlines()


class Running:
    """A subcommand that goes on until it is told to stop; its lines as they come."""

    def __init__(self, kubeconfig: Path, *arguments: str) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [str(binary()), *arguments],
            env=_environment(kubeconfig),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.strip())

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
