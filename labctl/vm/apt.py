"""Installing packages on Debian and Ubuntu, newer ones from backports where the release's own are too old."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from labctl.runtime.errors import LabError
from labctl.runtime.shell import LocalShell, Shell
from labctl.vm.box.mirror import entries

# QEMU before 8 crashes guests under emulation; libvirt goes with it. Debian 12 has newer ones in its backports.
_BACKPORTED = {
    "bookworm": frozenset(
        {"qemu-system-x86", "qemu-utils", "libvirt-daemon-system", "libvirt-daemon-driver-qemu", "libvirt-clients"}
    )
}
_INSTALL_S = 1_200.0
_UPDATE_S = 300.0


def install(packages: Iterable[str], shell: Shell | None = None, root: Path = Path("/")) -> None:
    """Install `packages`, the index refreshed first; asks sudo for root's rights only where we lack them."""
    shell = shell or LocalShell()
    wanted = sorted(set(packages))
    if not wanted:
        return
    if shutil.which("apt-get") is None:
        raise LabError("this host has no apt-get", hint=f"install by hand: {' '.join(wanted)}")
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    codename = _os_release(root).get("VERSION_CODENAME", "")
    newer = [package for package in wanted if package in _BACKPORTED.get(codename, ())]
    if newer and not _has_suite(root, f"{codename}-backports"):
        source = backports_source(root, codename)
        target = root / "etc/apt/sources.list.d/labctl-backports.sources"
        shell.run([*as_root, "tee", str(target)], stdin=source)
    shell.run([*as_root, "apt-get", "update", "-q"], timeout_s=_UPDATE_S, check=False)  # one dead source is no reason
    apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qy", "--no-install-recommends"]
    others = [package for package in wanted if package not in newer]
    if others:
        shell.run([*apt, *others], timeout_s=_INSTALL_S)
    if newer:
        shell.run([*apt, "-t", f"{codename}-backports", *newer], timeout_s=_INSTALL_S)


def backports_source(root: Path, codename: str) -> str:
    """A deb822 source for the release's backports, at the mirror that the host itself uses."""
    for mirror, suites, signed_by in entries(root):
        if codename in suites:
            lines = ["Types: deb", f"URIs: {mirror}", f"Suites: {codename}-backports", "Components: main"]
            if signed_by:
                lines.append(f"Signed-By: {signed_by}")
            return "\n".join(lines) + "\n"
    raise LabError(f"no apt source of {codename} found", hint=f"add {codename}-backports to the apt sources by hand")


def _has_suite(root: Path, suite: str) -> bool:
    return any(suite in suites for _, suites, _ in entries(root))


def _os_release(root: Path) -> Mapping[str, str]:
    path = root / "etc/os-release"
    lines = path.read_text().splitlines() if path.exists() else []
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}
