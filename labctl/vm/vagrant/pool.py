"""The storage pool that all labs share: base volumes, and the kernels that machines are booted with.

It lies in the cache, a plain folder that QEMU's own user can reach. A file appears in it whole or not at all,
and stays as long as any machine is made from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import IO

from labctl.runtime.errors import LabError
from labctl.vm.box.cache import locked
from labctl.vm.libvirt import Libvirt
from labctl.vm.vagrant.site import Image

_POOL = "labctl"
_SUFFIXES = ("vmlinuz", "initrd", "json")
_PARTS = {"vmlinuz": "vmlinuz", "initrd": "initrd"}  # member of the box -> suffix in the pool


class Pool:
    """The pool in one cache folder."""

    def __init__(self, libvirt: Libvirt, cache_dir: Path) -> None:
        self._libvirt, self._cache_dir = libvirt, cache_dir
        self.folder = cache_dir.resolve() / "pool"
        usual = self.folder == Path("/var/cache/labctl/pool")
        self.name = _POOL if usual else f"{_POOL}-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}"

    def image(self, box: Path) -> Image:
        """What `box` is, or will be, called in the pool."""
        status = box.stat()
        identity = f"{box.resolve()} {status.st_size} {status.st_mtime_ns}"
        return Image(self.name, hashlib.sha256(identity.encode()).hexdigest()[:16], self.folder)

    def add(self, box: Path) -> Image:
        """Put `box` into the pool, which is made and started where needed."""
        image = self.image(box)
        self._start()
        with locked(self._cache_dir, "pool"):
            if not all(path.exists() for path in (self.folder / image.volume, *map(image.file, _SUFFIXES))):
                self._unpack(box, image)
                self._libvirt.virsh("pool-refresh", self.name)
        return image

    def sweep(self, keep: Image | None = None) -> None:
        """Remove images that no machine is made from, but `keep`; the pool itself where nothing is left to keep."""
        if not self.folder.exists():
            return
        with locked(self._cache_dir, "pool"):
            used = self._kernels_in_use()
            for kernel in self.folder.glob("*.vmlinuz"):
                if str(kernel) not in used and (keep is None or kernel != keep.file("vmlinuz")):
                    image = Image(self.name, kernel.name.removesuffix(".vmlinuz"), self.folder)
                    for path in (self.folder / image.volume, *map(image.file, _SUFFIXES)):
                        path.unlink(missing_ok=True)
            if keep is None and not used:
                for command in ("pool-destroy", "pool-undefine"):
                    self._libvirt.virsh(command, self.name, check=False)
                shutil.rmtree(self.folder, ignore_errors=True)
            else:
                self._libvirt.virsh("pool-refresh", self.name, check=False)
            if keep is not None:
                _remove_boxes({Path(kernel).name.removesuffix(".vmlinuz") for kernel in used} | {keep.key})

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        listed = self._libvirt.virsh("pool-list", "--all").stdout.splitlines()
        states = {words[0]: words[1] for words in map(str.split, listed) if len(words) >= 2}
        if self.name not in states:
            self._libvirt.virsh("pool-define-as", self.name, "dir", "--target", str(self.folder), check=False)
        if states.get(self.name) != "active":
            self._libvirt.virsh("pool-start", self.name, check=False)
        if self._libvirt.virsh("pool-info", self.name, check=False).code != 0:
            raise LabError(
                f"libvirt cannot use {self.folder} as a storage pool",
                hint=f"`virsh -c qemu:///system pool-start {self.name}` says why",
            )

    def _unpack(self, box: Path, image: Image) -> None:
        catalog = {
            "name": image.box,
            "versions": [{"version": image.version, "providers": [{"name": "libvirt", "url": box.resolve().as_uri()}]}],
        }
        try:
            with tarfile.open(box) as tar:
                for member in ("vmlinuz", "initrd"):
                    _place(tar.extractfile(member), image.file(_PARTS[member]))
                _place(tar.extractfile("box.img"), self.folder / image.volume)
        except (KeyError, tarfile.TarError) as error:
            raise LabError(
                f"{box} is not a box that labctl can use: {error}",
                hint="`labctl box build` makes one; remove `box` from lab.yaml to use that",
            ) from error
        image.file("json").write_text(json.dumps(catalog))

    def _kernels_in_use(self) -> set[str]:
        used = set()
        for domain in self._libvirt.domains():
            kernel = self._libvirt.xml(domain).findtext("os/kernel")
            used.add(kernel or "")
        return {kernel for kernel in used if kernel.startswith(f"{self.folder}/")}


def _remove_boxes(keep: set[str]) -> None:
    """Remove Vagrant's own copies of boxes that no machine is made from."""
    home = Path(os.environ.get("VAGRANT_HOME") or Path.home() / ".vagrant.d")
    for folder in (home / "boxes").glob("labctl-VAGRANTSLASH-*"):
        if folder.name.rpartition("-")[2] not in keep:
            shutil.rmtree(folder, ignore_errors=True)


def _place(source: IO[bytes] | None, target: Path) -> None:
    if source is None:
        raise KeyError(target.name)
    part = target.with_name(f".{target.name}.part")
    with part.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    part.rename(target)
