"""The initial RAM disk of a node: busybox, a few drivers and `init.sh` in a cpio archive. Same tree, same bytes."""

from __future__ import annotations

import lzma
import stat
from dataclasses import dataclass
from pathlib import Path

from labctl.runtime.errors import LabError

DRIVERS = ("virtio_blk", "virtio_net", "virtio-rng")
_MAGIC = b"070701"  # the "newc" format, Documentation/driver-api/early-userspace/buffer-format.rst of the kernel


@dataclass(frozen=True, slots=True)
class Entry:
    """One member: its mode with the file type, its content, and the device number of a device node."""

    path: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def archive(entries: list[Entry]) -> bytes:
    """Pack `entries`, in their order, as a newc archive."""
    parts = []
    for number, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], start=1):
        name = entry.path.encode() + b"\0"
        fields = (number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
        head = _MAGIC + b"".join(b"%08X" % field for field in fields) + name
        parts += [head + b"\0" * (-len(head) % 4), entry.content + b"\0" * (-len(entry.content) % 4)]
    return b"".join(parts)


def initrd(rootfs: Path) -> bytes:
    """The initial RAM disk for the kernel in `rootfs`; raises LabError where a driver is missing."""
    modules = _drivers(next((rootfs / "usr/lib/modules").iterdir()))
    folder, program, plain = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFREG | 0o644
    return archive(
        [
            *(Entry(name, folder) for name in ("bin", "dev", "proc", "root", "modules")),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            Entry("bin/busybox", program, (rootfs / "usr/bin/busybox").read_bytes()),
            Entry("bin/true", stat.S_IFLNK | 0o777, b"busybox"),
            Entry("init", program, Path(__file__).with_name("init.sh").read_bytes()),
            Entry("modules/order", plain, "".join(f"{name}\n" for name in modules).encode()),
            *(Entry(f"modules/{name}", plain, content) for name, content in modules.items()),
        ]
    )


def _drivers(modules: Path) -> dict[str, bytes]:
    """File name to content of each driver and what it needs, in loading order (from depmod's modules.dep)."""
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    by_name = {Path(path).name.split(".")[0]: path for path in needs}
    found: dict[str, bytes] = {}
    for driver in DRIVERS:
        if driver not in by_name:
            raise LabError(f"the kernel in {modules} has no module {driver}")
        path = by_name[driver]
        for each in [*reversed(needs[path]), path]:  # depmod lists the nearest need first
            content = (modules / each).read_bytes()
            name = Path(each).name.removesuffix(".xz")
            found.setdefault(name, lzma.decompress(content) if each.endswith(".xz") else content)
    return found
