from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from labctl.runtime.errors import LabError
from labctl.runtime.shell import CommandError, Output
from labctl.vm import nerdctl

GO_MOD = Path(nerdctl.__file__).with_name("go.mod")


class GoShell:
    """A `go` that builds, unless it `fails`, and a `nerdctl --version`."""

    def __init__(self, *, fails: bool = False, version: str = "nerdctl version 2.0.3") -> None:
        self.fails, self.version = fails, version
        self.builds: list[tuple[Sequence[str], Mapping[str, str], list[str]]] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        stdin: str | bytes = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Output:
        if argv[0] == "go":
            assert cwd is not None
            self.builds.append((argv, env or {}, sorted(path.name for path in cwd.iterdir())))
            if self.fails:
                raise CommandError("go exited with 1: checksum mismatch", code=1)
            Path(argv[argv.index("-o") + 1]).write_bytes(b"built")
        return Output(0, self.version, "")


def elf(path: Path, *segments: int) -> Path:
    """A 64-bit ELF header with program headers of these types."""
    head = b"\x7fELF\x02".ljust(32, b"\0") + struct.pack("<Q", 64) + b"\0" * 14 + struct.pack("<HH", 56, len(segments))
    path.write_bytes(head.ljust(64, b"\0") + b"".join(struct.pack("<I", kind).ljust(56, b"\0") for kind in segments))
    path.chmod(0o755)
    return path


def release(content: bytes = b"released") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        member = tarfile.TarInfo("nerdctl")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def unreachable(url: str) -> bytes:
    raise LabError(f"{url} cannot be reached")


def quiet(name: str, text: str) -> None:
    """Tell nobody."""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of our own, with a `go` on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    elf(folder / "go", 1)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_one_on_the_path_comes_first(tmp_path: Path, programs: Path) -> None:
    mine = elf(programs / "nerdctl", 1)
    assert nerdctl.binary(tmp_path / "cache", quiet, GoShell(), unreachable) == mine


@pytest.mark.parametrize(
    ("segments", "version"), [((1, 3), "nerdctl version 2.1.0"), ((1,), "nerdctl version 1.7.7"), ((1,), "what?")]
)
def test_one_that_a_node_could_not_use_is_passed_over(programs: Path, segments: tuple[int, ...], version: str) -> None:
    elf(programs / "nerdctl", *segments)
    assert nerdctl.on_path(GoShell(version=version)) is None


def test_a_script_is_not_a_static_program(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert not nerdctl.is_static(tmp_path / "script")


def test_the_release_is_taken_when_its_hash_is_the_pinned_one(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nerdctl, "RELEASE_SHA256", hashlib.sha256(release()).hexdigest())
    shell = GoShell()
    found = nerdctl.binary(tmp_path / "cache", quiet, shell, lambda url: release())
    assert found.read_bytes() == b"released"
    assert found.stat().st_mode & 0o111
    assert shell.builds == []


def test_a_release_with_another_hash_is_not_used_and_go_builds_instead(tmp_path: Path, programs: Path) -> None:
    found = nerdctl.binary(tmp_path / "cache", quiet, GoShell(), lambda url: release(b"evil"))
    assert found.read_bytes() == b"built"


def test_go_builds_the_pinned_version_from_the_kept_hashes(tmp_path: Path, programs: Path) -> None:
    shell = GoShell()
    nerdctl.binary(tmp_path / "cache", quiet, shell, unreachable)
    nerdctl.binary(tmp_path / "cache", quiet, shell, unreachable)
    ((_, env, files),) = shell.builds  # the second time it came from the cache
    assert files == ["go.mod", "go.sum"]
    assert env["CGO_ENABLED"] == "0"
    assert f"nerdctl/v2 v{nerdctl.VERSION}" in GO_MOD.read_text()
    assert f"nerdctl/v2 v{nerdctl.VERSION} h1:" in GO_MOD.with_name("go.sum").read_text()


def test_where_no_way_works_each_failure_is_told(tmp_path: Path, programs: Path) -> None:
    with pytest.raises(LabError) as caught:
        nerdctl.binary(tmp_path / "cache", quiet, GoShell(fails=True), unreachable)
    assert "cannot be reached" in str(caught.value)
    assert "checksum mismatch" in str(caught.value)
    assert "PATH" in caught.value.hint
    assert not list((tmp_path / "cache").glob("*nerdctl-*/nerdctl"))
