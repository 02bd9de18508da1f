"""A node's disk: an overlay over the shared root file system, and real directories where an overlay will not do."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from labctl.runtime.errors import LabError
from labctl.runtime.shell import Shell
from labctl.vm.lxc.config import REAL_DIRECTORIES, Node, render
from labctl.vm.state import write_atomically

_HOST_KEY = "etc/ssh/ssh_host_ed25519_key"


def exists(node: Node) -> bool:
    """Whether the node was made completely; its configuration is written last."""
    return (node.folder / "config").exists()


def prepare(node: Node, rootfs: Path, public_key: str, *, unified: bool) -> None:
    """Make what is absent of `node`'s disk and write its configuration anew. The node must be off.

    A node keeps the root file system it was made over: its disk holds only the differences.
    """
    lower = _lower(node, rootfs)
    node.upper.mkdir(parents=True, exist_ok=True, mode=0o755)
    for path in REAL_DIRECTORIES:
        _real_directory(lower / path, node.folder / "disk" / path)
    for path, content, mode in _identity(node, public_key).values():
        _write(node.upper, lower, path, content, mode)
    write_atomically(node.folder / "config", render(node, lower, unified=unified).encode())


def host_key_line(node: Node) -> str:
    """The node's line for a known_hosts file."""
    public = (node.upper / f"{_HOST_KEY}.pub").read_text().split()
    return f"{node.machine.address} {public[0]} {public[1]}"


def copy(node: Node, target: Path, shell: Shell) -> None:
    """Copy the node's disk to `target`, extended attributes and holes included."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    argv = ["cp", "-a", "--reflink=auto", "--sparse=always", str(node.folder / "disk"), str(target)]
    shell.run(argv, timeout_s=300)


def restore(node: Node, source: Path, shell: Shell) -> None:
    """Replace the node's disk by a copy of `source`. The node must be off; a crash leaves the old disk or the new."""
    disk, fresh, old = (node.folder / name for name in ("disk", "disk.new", "disk.old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shell.run(["cp", "-a", "--reflink=auto", "--sparse=always", str(source), str(fresh)], timeout_s=300)
    if disk.exists():
        disk.rename(old)
    fresh.rename(disk)
    shutil.rmtree(disk / "work", ignore_errors=True)  # the overlay's scratch space belongs to one mount
    shutil.rmtree(old, ignore_errors=True)


def _lower(node: Node, rootfs: Path) -> Path:
    record = node.folder / "rootfs"
    if not record.exists():
        write_atomically(record, str(rootfs.resolve()).encode())
    lower = Path(record.read_text())
    if not (lower / "sbin/init").exists():
        raise LabError(
            f"{node.machine.name} was made over {lower}, which is gone",
            hint="`labctl destroy` the lab and bring it up again",
        )
    return lower


def _real_directory(model: Path, path: Path) -> None:
    """Make `path` with the owner and mode that the packages gave `model`."""
    if path.exists():
        return
    path.mkdir(parents=True, mode=0o755)
    if model.exists():
        like = model.stat()
        os.chown(path, like.st_uid, like.st_gid)
        path.chmod(like.st_mode & 0o7777)


def _identity(node: Node, public_key: str) -> Mapping[str, tuple[str, bytes, int]]:
    """What makes this node itself: (path, content, mode). Keys that exist are kept."""
    name = node.machine.name
    files = [
        ("etc/hostname", f"{name}\n".encode(), 0o644),
        ("etc/machine-id", hashlib.md5(str(node.folder).encode(), usedforsecurity=False).hexdigest().encode(), 0o444),
        ("etc/fstab", b"", 0o644),  # the box's names a disk
        ("root/.ssh/authorized_keys", f"{public_key.strip()}\n".encode(), 0o600),
    ]
    if not (node.upper / "etc/hosts").exists():
        files.append(("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n".encode(), 0o644))
    if not (node.upper / f"{_HOST_KEY}.pub").exists():
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        files += [(_HOST_KEY, private, 0o600), (f"{_HOST_KEY}.pub", public + f" {name}\n".encode(), 0o644)]
    return {path: (path, content, mode) for path, content, mode in files}


def _write(upper: Path, lower: Path, path: str, content: bytes, mode: int) -> None:
    """Write a file of the node; folders above it look as they do in the root file system."""
    folder = Path()
    for part in Path(path).parent.parts:
        folder /= part
        if not (upper / folder).exists():
            (upper / folder).mkdir()
            (upper / folder).chmod((lower / folder).stat().st_mode & 0o7777 if (lower / folder).exists() else 0o700)
    target = upper / path
    if not target.exists() or target.read_bytes() != content:
        write_atomically(target, content, mode=mode)
