"""From a root file system to a Vagrant box: ext4 over the whole disk, qcow2, kernel and initial RAM disk beside it.

No boot loader, no loop device, no libguestfs: libvirt boots the kernel directly (the box's own Vagrantfile says so).
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path

from labctl.runtime.shell import Shell
from labctl.vm.box.initrd import initrd

DISK_GIB = 8  # virtual; the file holds only what is used
KERNEL, INITRD = "vmlinuz", "initrd"
_STEP_S = 300.0

# Each of these saves an emulated machine time. mitigations: the guest is its user's own. lsm: containers here are
# confined by namespaces and control groups. cryptomgr: the self-tests of ciphers are the kernel builder's business.
KERNEL_ARGUMENTS = (
    "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off audit=0 lsm=capability cryptomgr.notests "
    "no_timer_check random.trust_cpu=on quiet panic=5"
)

_VAGRANTFILE = """\
# What this box needs to start: no boot loader is in it, the hypervisor loads the kernel.
here = File.dirname(File.expand_path(__FILE__))
Vagrant.configure("2") do |config|
  config.vm.guest = :debian
  config.ssh.username = "root"
  config.ssh.insert_key = false
  config.vm.synced_folder ".", "/vagrant", disabled: true
  config.vm.provider :libvirt do |libvirt|
    libvirt.disk_bus = "virtio"
    libvirt.kernel = File.join(here, "vmlinuz")
    libvirt.initrd = File.join(here, "initrd")
    libvirt.cmd_line = "%s"
  end
end
"""


def pack(rootfs: Path, folder: Path, shell: Shell) -> None:
    """Make `folder` with node.box, and the kernel and initial RAM disk that are in it."""
    folder.mkdir()
    (folder / KERNEL).write_bytes((rootfs / "boot/vmlinuz").read_bytes())
    (folder / INITRD).write_bytes(initrd(rootfs))
    with tempfile.TemporaryDirectory(prefix=".disk-", dir=folder.parent) as scratch:
        image = _image(rootfs, Path(scratch), shell)
        metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": DISK_GIB}
        (Path(scratch) / "metadata.json").write_text(json.dumps(metadata))
        (Path(scratch) / "Vagrantfile").write_text(_VAGRANTFILE % KERNEL_ARGUMENTS)
        with tarfile.open(folder / "node.box", "w") as tar:
            for path in (Path(scratch) / "metadata.json", Path(scratch) / "Vagrantfile", image):
                tar.add(path, arcname=path.name)
            for name in (KERNEL, INITRD):
                tar.add(folder / name, arcname=name)


def _image(rootfs: Path, scratch: Path, shell: Shell) -> Path:
    raw, image = scratch / "raw.img", scratch / "box.img"
    with raw.open("wb") as file:
        file.truncate(DISK_GIB << 30)
    # The journal is small, the inodes are plenty for images, no block is kept back for root.
    options = ["-L", "root", "-O", "^metadata_csum", "-J", "size=16", "-m", "0", "-N", "262144"]
    options += ["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]
    shell.run(["mkfs.ext4", "-q", "-F", *options, "-d", str(rootfs), str(raw)], timeout_s=_STEP_S)
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"]
    shell.run([*convert, str(raw), str(image)], timeout_s=_STEP_S)
    raw.unlink()
    return image
