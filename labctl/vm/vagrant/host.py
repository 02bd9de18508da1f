"""What the vagrant provider needs of this host, and what it will run machines with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from labctl.config import settings
from labctl.runtime.shell import Shell
from labctl.vm import tools
from labctl.vm.provider import Problem
from labctl.vm.vagrant import kvm

_TOOLS = {
    "vagrant": "vagrant",
    "virsh": "libvirt-clients",
    "libvirtd": "libvirt-daemon-system",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "dnsmasq": "dnsmasq-base",
    "socat": "socat",  # how Vagrant waits for a machine's sshd
}


def problems(shell: Shell) -> Sequence[Problem]:
    """What is missing; see `Provider.problems`."""
    found = []
    if os.geteuid() != 0:
        found.append(Problem("virtual machines on a network of their own need root", "run labctl with sudo"))
    missing = dict(tools.absent(_TOOLS))
    if "vagrant" in missing or not _has_plugin():
        missing["vagrant-libvirt"] = "vagrant-libvirt"
    found += tools.problems(missing)
    if kvm.is_ruled_out(settings().cache_dir):
        found += too_old(shell)
    return found


def too_old(shell: Shell) -> Sequence[Problem]:
    """A QEMU that cannot be trusted with emulation; with KVM any will do."""
    major = kvm.qemu_major(shell)
    if not 0 < major < kvm.OLDEST_QEMU:
        return ()
    what = f"QEMU {major} crashes machines under emulation; {kvm.OLDEST_QEMU} or newer is needed"
    mend = "`labctl doctor --fix` installs it from the release's backports"
    packages = ("qemu-system-x86", "qemu-utils", "libvirt-daemon-system", "libvirt-clients")
    return (Problem(what, mend, packages),)


def describe() -> str:
    """See `Provider.describe`."""
    return f"virtual machines, {kvm.describe(settings().cache_dir)}"


def _has_plugin() -> bool:
    """Whether Vagrant has its libvirt provider: from the distribution, or installed by the user."""
    places = [Path("/usr/share/rubygems-integration"), Path("/usr/share/vagrant-plugins")]
    places.append(Path(os.environ.get("VAGRANT_HOME") or Path.home() / ".vagrant.d") / "gems")
    return any(next(place.glob("**/vagrant-libvirt*"), None) is not None for place in places if place.exists())
