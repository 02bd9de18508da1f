"""The lab's own known_hosts file: what each machine's sshd must show. Providers that make the keys write it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from labctl.vm.state import write_atomically


def known_hosts(state_dir: Path) -> Path:
    """Where the lab keeps it."""
    return state_dir / "ssh" / "known_hosts"


def remember(state_dir: Path, lines: Iterable[str]) -> None:
    """Put `lines` ("address type key") in, each in place of what was known of its address."""
    path = known_hosts(state_dir)
    old = path.read_text().splitlines() if path.exists() else []
    known = {line.split()[0]: line for line in [*old, *lines] if line.strip()}
    text = "".join(f"{line}\n" for line in known.values())
    if text != "".join(f"{line}\n" for line in old):
        write_atomically(path, text.encode())
