"""Whether KVM really works here: found out by booting the box's own kernel under it, once per boot of this host.

/dev/kvm alone says little: some hosts have it and cannot run a stock kernel (nested without hardware support).
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import msgspec

from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import wait_for
from labctl.runtime.shell import CommandError, Shell
from labctl.vm.state import write_atomically
from labctl.vm.vagrant.site import Hypervisor, Image

QEMU = "qemu-system-x86_64"
OLDEST_QEMU = 8  # 7.2 crashes guests under emulation
_TRIAL_S = 20.0
_EMULATION_SLOWNESS = 10.0
_MARKER = b"labctl: the kernel runs"
_FAILURE = b"KVM internal error"


class _Verdict(msgspec.Struct, frozen=True):
    boot_id: str
    image: str  # the key of the box it was tried with
    kvm: bool
    why: str


def qemu_major(shell: Shell) -> int:
    """QEMU's major version; 0 where it is not installed."""
    try:
        told = shell.run([QEMU, "--version"], timeout_s=10, check=False).stdout
    except CommandError:
        return 0
    found = re.search(r"version (\d+)\.", told)
    return int(found[1]) if found else 0


def hypervisor(cache_dir: Path, image: Image, clock: Clock, device: Path = Path("/dev/kvm")) -> Hypervisor:
    """KVM where the box's kernel boots under it, else QEMU emulation, and why."""
    if why_not := _no_device(device):
        return _emulation(why_not)
    known = remembered(cache_dir)
    if known is None or known.image != image.key:
        kvm, why = _try(image, clock)
        known = _Verdict(_boot_id(), image.key, kvm, why)
        write_atomically(_record(cache_dir), msgspec.json.encode(known), mode=0o644)
    return Hypervisor(True, "libvirt with KVM") if known.kvm else _emulation(known.why)


def describe(cache_dir: Path, device: Path = Path("/dev/kvm")) -> str:
    """What `hypervisor` said or would say, without booting anything."""
    if why_not := _no_device(device):
        return _emulation(why_not).why
    known = remembered(cache_dir)
    if known is None:
        return "libvirt with KVM if the node's kernel boots under it (tried at the first `up`), else QEMU emulation"
    return "libvirt with KVM" if known.kvm else _emulation(known.why).why


def slowness(cache_dir: Path) -> float:
    """How much longer a machine's work takes than on this host's own processor."""
    known = remembered(cache_dir)
    return 1.0 if known is not None and known.kvm and not _no_device(Path("/dev/kvm")) else _EMULATION_SLOWNESS


def is_ruled_out(cache_dir: Path, device: Path = Path("/dev/kvm")) -> bool:
    """Whether machines here will surely be emulated."""
    known = remembered(cache_dir)
    return bool(_no_device(device)) or (known is not None and not known.kvm)


def remembered(cache_dir: Path) -> _Verdict | None:
    """The last trial's verdict, if this host has not been booted since."""
    try:
        verdict = msgspec.json.decode(_record(cache_dir).read_bytes(), type=_Verdict)
    except (OSError, msgspec.MsgspecError):
        return None
    return verdict if verdict.boot_id == _boot_id() else None


def _emulation(why: str) -> Hypervisor:
    return Hypervisor(False, f"libvirt with QEMU emulation (10 to 20 times slower): {why}")


def _no_device(device: Path) -> str:
    if not device.exists():
        return f"this host has no {device}"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} is not ours to use (join the group kvm)"
    return ""


def _record(cache_dir: Path) -> Path:
    return cache_dir / "kvm.json"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _try(image: Image, clock: Clock) -> tuple[bool, str]:
    """Boot the kernel up to its first process under KVM; (worked, why not)."""
    argv = [QEMU, "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-nographic", "-no-reboot"]
    argv += ["-serial", "stdio", "-kernel", str(image.file("vmlinuz"))]
    argv += ["-initrd", str(image.file("initrd")), "-append", "console=ttyS0 panic=-1 labctl.probe"]
    heard = bytearray()
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)

        def over() -> bool:
            ended = process.poll() is not None
            heard.extend(process.stdout.read() or b"")  # type: ignore[union-attr]
            return ended or _MARKER in heard or _FAILURE in heard

        try:
            wait_for(over, what="a kernel under KVM", deadline_s=_TRIAL_S, clock=clock, every_s=0.05)
        except LabError:
            return False, f"a Linux kernel did not boot under KVM within {_TRIAL_S:g} s"
        finally:
            process.kill()
    if _MARKER in heard:
        return True, ""
    return False, "/dev/kvm is there, but a Linux kernel does not boot under it"
