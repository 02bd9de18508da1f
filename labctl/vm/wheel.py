"""Packs what the nodes run: our own wheel, the Kubernetes schemas, and byte code for the nodes' Python where possible.

An archive for each role, with what that role runs and no more: an emulated machine is slow at making files. No network
and no isolated build: hatchling runs in this process. Cached by a hash of everything that goes in.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from labctl.runtime.errors import LabError
from labctl.runtime.shell import CommandError, Shell

PACKAGES = ("labctl", "master", "agents")
_SHARED = ("labctl/kube", "labctl/runtime")
_OF_ROLE = {"master": (*_SHARED, "master", "agents/proxy", "labctl-data"), "worker": (*_SHARED, "agents")}
SCHEMAS = "labctl-data/kubernetes-1.37.json"  # where the API server looks, below the folder it is unpacked in
APP_DIR = "/opt/labctl/app"  # that folder, on a node
_DEFINITIONS = "kubernetes-json-schema/v1.37.0-local/_definitions.json"
_NODE_VERSION, _NODE_PYTHON = (
    "Python 3.13.",
    "python3.13",
)  # Debian 13's; other versions on a node compile for themselves, in memory
_KEPT = 8  # archives of this many versions of the sources stay in the cache
_FORMAT = b"2"  # of this archive; raise it when what is packed changes


def sources(project_root: Path) -> Iterator[Path]:
    """Every file that goes into the wheel, in a fixed order."""
    for package in PACKAGES:
        for path in sorted((project_root / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def fingerprint(project_root: Path) -> str:
    """Changes whenever a node would run something else."""
    digest = hashlib.sha256(_FORMAT)
    for path in (project_root / "pyproject.toml", *sources(project_root)):
        digest.update(f"{path.relative_to(project_root)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update(hashlib.sha256(_definitions().read_bytes()).digest())
    return digest.hexdigest()[:16]


def build(project_root: Path, cache_dir: Path, shell: Shell, rootfs: Path | None = None) -> Mapping[str, Path]:
    """The archive to unpack at `APP_DIR`, by role: <cache_dir>/app/labctl-<fingerprint>/<role>.zip.

    Byte code goes in where this host has the nodes' Python, on its PATH or in `rootfs`, a tree of a node.
    """
    if not (project_root / "pyproject.toml").exists():
        raise LabError(
            f"{project_root} is not labctl's source tree, so there is nothing to pack for the nodes",
            hint="run labctl from a clone (pip install -e .)",
        )
    python = node_python(rootfs, shell)
    folder = cache_dir / "app" / f"labctl-{fingerprint(project_root)}{'' if python else '-source'}"
    archives = {role: folder / f"{role}.zip" for role in _OF_ROLE}
    if folder.exists():
        return archives
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".build-") as scratch:
        tree = Path(scratch) / "tree"
        with zipfile.ZipFile(_wheel(project_root, Path(scratch))) as wheel:
            wheel.extractall(tree)
        target = tree / SCHEMAS
        target.parent.mkdir()
        target.write_text(json.dumps(json.loads(_definitions().read_bytes()), separators=(",", ":")))
        if python:
            _compile(tree, python, shell)
        fresh = Path(scratch) / folder.name
        fresh.mkdir()
        for role, parts in _OF_ROLE.items():
            _zip(tree, parts, fresh / f"{role}.zip")
        with contextlib.suppress(OSError):  # another labctl packed the same
            fresh.rename(folder)
    by_age = sorted(folder.parent.glob("labctl-*"), key=lambda path: path.stat().st_mtime)
    for old in by_age[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return archives


def node_python(rootfs: Path | None, shell: Shell) -> Sequence[str]:
    """How to run the nodes' Python here; empty where that cannot be."""
    for command in _candidates(rootfs):
        try:
            version = shell.run([*command, "-S", "-V"], timeout_s=20, env=_home(command)).stdout
        except CommandError:  # a version manager's shim, another architecture
            continue
        if version.startswith(_NODE_VERSION):
            return command
    return ()


def _candidates(rootfs: Path | None) -> Iterator[Sequence[str]]:
    program = f"usr/bin/{_NODE_PYTHON}"
    if rootfs is not None and (rootfs / program).exists():
        for loader in sorted((rootfs / "usr/lib").glob("*-linux-gnu/ld-linux*.so*")):  # no chroot, so no root, needed
            yield str(loader), "--library-path", str(loader.parent), str(rootfs / program)
    yield (_NODE_PYTHON,)


def _home(command: Sequence[str]) -> dict[str, str] | None:
    """Where the Python of a node's tree finds its standard library."""
    return {"PYTHONHOME": str(Path(command[-1]).parents[1])} if len(command) > 1 else None


def _wheel(project_root: Path, folder: Path) -> Path:
    try:
        return Path(next(WheelBuilder(str(project_root)).build(directory=str(folder), versions=["standard"])))
    except (OSError, ValueError, TypeError) as error:  # what hatchling raises on a broken pyproject.toml
        raise LabError(f"could not pack labctl for the nodes: {error}") from error


def _definitions() -> Path:
    package = importlib.util.find_spec("kubernetes_validate")
    if package is None or package.origin is None:
        raise LabError("kubernetes-validate is not installed", hint="pip install 'labctl[master]'")
    path = Path(package.origin).parent / _DEFINITIONS
    if not path.exists():
        raise LabError(f"{path} is missing", hint="pip install --upgrade 'kubernetes-validate>=1.37'")
    return path


def _compile(tree: Path, python: Sequence[str], shell: Shell) -> None:
    """Compile for the nodes; a node checks each file against its source's hash, so editing there still works."""
    command = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "-s", str(tree), "-p", APP_DIR]
    try:
        shell.run([*python, "-S", *command, str(tree)], timeout_s=120, env=_home(python))
    except CommandError as error:
        raise LabError(f"could not compile labctl for the nodes: {error}") from error


def _zip(tree: Path, parts: Sequence[str], target: Path) -> None:
    """Everything under `parts`, and the packages above them."""
    names = [path.relative_to(tree) for path in sorted(tree.rglob("*")) if path.is_file()]
    packages = {Path(part).parts[0] for part in parts}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in names:
            if any(name.is_relative_to(part) for part in parts) or _package_file(name, packages):
                entry = zipfile.ZipInfo(str(name), (2026, 1, 1, 0, 0, 0))
                entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
                archive.writestr(entry, (tree / name).read_bytes())


def _package_file(name: Path, packages: Collection[str]) -> bool:
    """Whether `name` is what makes one of `packages` importable: its __init__.py, or that file's byte code."""
    folder = name.parent.parent if name.parent.name == "__pycache__" else name.parent
    return str(folder) in packages and name.name.startswith("__init__.")
