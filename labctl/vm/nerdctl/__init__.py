"""Where nerdctl comes from; Debian has no package of it.

In this order: on PATH; the official release archive, checked against a pinned SHA-256; built with Go from the
pinned module versions in go.mod and go.sum beside this file. The first that works is kept in the cache.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import struct
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import urllib3

from labctl.runtime.errors import LabError
from labctl.runtime.shell import LocalShell, Shell
from labctl.vm.box.cache import cached
from labctl.vm.provider import Progress

VERSION = "2.0.3"
RELEASE_URL = f"https://github.com/containerd/nerdctl/releases/download/v{VERSION}/nerdctl-{VERSION}-linux-amd64.tar.gz"
# Of the release's archive, as kubernetes-sigs/kubespray keeps it (roles/kubespray_defaults/vars/main/checksums.yml).
RELEASE_SHA256 = "95ff850688a73eace7453f19e74bf4cc8a1f3e458eeb97ef7a6b74de9825df16"

_FETCH_TIMEOUT = urllib3.Timeout(connect=5.0, read=20.0)
_GO_BUILD_S = 900.0
_PT_INTERP = 3

Fetch = Callable[[str], bytes]


def binary(cache_dir: Path, progress: Progress, shell: Shell | None = None, fetch: Fetch | None = None) -> Path:
    """A nerdctl that runs on any amd64 Linux; LabError says which ways were tried and why each failed."""
    shell, fetch = shell or LocalShell(), fetch or _fetch
    if found := on_path(shell):
        return found
    item = cached(cache_dir, "nerdctl", VERSION, lambda folder: _acquire(folder, progress, shell, fetch))
    return item / "nerdctl"


def on_path(shell: Shell) -> Path | None:
    """The host's own nerdctl, if a node could run it too: version 2 and statically linked."""
    name = shutil.which("nerdctl")
    if name is None:
        return None
    told = shell.run([name, "--version"], timeout_s=10, check=False).stdout
    version = re.search(r"(\d+)\.\d+\.\d+", told)
    path = Path(name).resolve()
    return path if version and int(version[1]) >= 2 and is_static(path) else None


def is_static(path: Path) -> bool:
    """Whether `path` is a 64-bit ELF program that asks for no dynamic loader."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return False
        (table,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
        file.seek(table)
        entries = file.read(size * count)
    return all(struct.unpack_from("<I", entries, size * index)[0] != _PT_INTERP for index in range(count))


def _acquire(folder: Path, progress: Progress, shell: Shell, fetch: Fetch) -> None:
    """Put `nerdctl` into `folder`, by the first way that works."""
    folder.mkdir()
    target = folder / "nerdctl"
    failures = []
    ways: dict[str, Callable[[], None]] = {
        f"downloading nerdctl {VERSION}": lambda: from_release(fetch(RELEASE_URL), target),
        f"building nerdctl {VERSION} with Go": lambda: from_source(target, shell),
    }
    for title, way in ways.items():
        progress("", title)
        try:
            way()
        except LabError as error:
            failures.append(f"{title}: {error}")
            continue
        target.chmod(0o755)
        return
    raise LabError(
        f"no nerdctl: not on PATH; {'; '.join(failures)}",
        hint=f"put nerdctl {VERSION} or newer on PATH, or install Go 1.24 or newer (https://go.dev/dl)",
    )


def from_release(archive: bytes, target: Path) -> None:
    """Unpack the official release's program to `target`; LabError where the archive is not the pinned one."""
    digest = hashlib.sha256(archive).hexdigest()
    if digest != RELEASE_SHA256:
        raise LabError(f"the archive's SHA-256 is {digest}, not the pinned {RELEASE_SHA256}")
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        member = tar.extractfile("nerdctl")
        if member is None:
            raise LabError("the archive holds no program nerdctl")
        target.write_bytes(member.read())


def from_source(target: Path, shell: Shell) -> None:
    """Build the pinned version to `target`; go.sum fixes the hash of every module that goes in."""
    if shutil.which("go") is None:
        raise LabError("Go is not installed")
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory(prefix="labctl-nerdctl-") as folder:
        for name in ("go.mod", "go.sum"):
            shutil.copy(here / name, folder)
        shell.run(
            ["go", "build", "-mod=mod", "-trimpath", f"-ldflags={_link_flags()}", "-o", str(target), _PROGRAM],
            cwd=Path(folder),
            env={"CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": "amd64", "GOFLAGS": ""},
            timeout_s=_GO_BUILD_S,
        )


_PROGRAM = "github.com/containerd/nerdctl/v2/cmd/nerdctl"


def _link_flags() -> str:
    return f"-s -w -X github.com/containerd/nerdctl/v2/pkg/version.Version=v{VERSION}"


def _fetch(url: str) -> bytes:
    """GET with deadlines and no patience: without the Internet the next way is tried within seconds."""
    with urllib3.PoolManager(retries=urllib3.Retry(0, redirect=5)) as pool:
        try:
            answer = pool.request("GET", url, timeout=_FETCH_TIMEOUT)
        except urllib3.exceptions.HTTPError as error:
            raise LabError(f"{url} cannot be reached: {type(error).__name__}") from error
    if answer.status != 200:
        raise LabError(f"{url} answers {answer.status}")
    return answer.data
