"""The lab's own SSH key, in <state_dir>/ssh: what this host shows to each machine. `hostkeys.py` has the other way."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from labctl.vm.state import write_atomically, write_changed


def ssh_key(state_dir: Path) -> Path:
    """Where the private half of the lab's own SSH key lies."""
    return state_dir / "ssh" / "id_ed25519"


def ensure_ssh_key(state_dir: Path) -> str:
    """Make the lab's SSH key at first use; the line that machines accept for it."""
    path = ssh_key(state_dir)
    if not path.exists():
        private = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        write_atomically(path, private)
    key = serialization.load_ssh_private_key(path.read_bytes(), password=None).public_key()
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    public = f"{line} labctl-{state_dir.name}"
    write_changed(path.with_name("id_ed25519.pub"), f"{public}\n".encode())
    return public
