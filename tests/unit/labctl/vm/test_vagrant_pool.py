"""Boxes in the pool: unpacked where QEMU finds them, kept while a machine is made from them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import msgspec
import pytest

from labctl.runtime.errors import LabError
from labctl.vm.libvirt import Libvirt
from labctl.vm.vagrant.pool import Pool
from tests.unit.labctl.vm.fake_virsh import Domain, FakeVirsh


def packed(path: Path, *members: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in members:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return path


def test_a_box_is_unpacked_into_the_pool_where_qemu_finds_it(tmp_path: Path) -> None:
    box = packed(tmp_path / "node.box", "box.img", "vmlinuz", "initrd")
    image = Pool(Libvirt(FakeVirsh()), tmp_path / "cache").add(box)
    assert (image.folder / image.volume).read_bytes() == b"box.img"
    assert image.file("vmlinuz").read_bytes() == b"vmlinuz"
    catalog = msgspec.json.decode(image.file("json").read_bytes())
    assert (catalog["name"], catalog["versions"][0]["version"]) == (image.box, image.version)


def test_a_box_without_a_kernel_is_refused(tmp_path: Path) -> None:
    box = packed(tmp_path / "node.box", "box.img")
    with pytest.raises(LabError, match="not a box that labctl can use"):
        Pool(Libvirt(FakeVirsh()), tmp_path / "cache").add(box)


def test_an_image_stays_as_long_as_a_machine_is_made_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "home"))
    virsh = FakeVirsh()
    pool = Pool(Libvirt(virsh), tmp_path / "cache")
    old = pool.add(packed(tmp_path / "old.box", "box.img", "vmlinuz", "initrd"))
    new = pool.add(packed(tmp_path / "new.box", "box.img", "vmlinuz", "initrd"))
    boxes = [tmp_path / "home/boxes" / f"labctl-VAGRANTSLASH-{image.key}" for image in (old, new)]
    for folder in boxes:
        folder.mkdir(parents=True)
    virsh.domains["labctl.x.w"] = Domain(kernel=str(old.file("vmlinuz")))
    pool.sweep(keep=new)
    assert old.file("vmlinuz").exists()
    assert boxes[0].exists()
    del virsh.domains["labctl.x.w"]
    pool.sweep(keep=new)
    assert not (old.folder / old.volume).exists()
    assert (new.folder / new.volume).exists()
    assert [folder.exists() for folder in boxes] == [False, True]
    pool.sweep()
    assert not pool.folder.exists()
    assert f"pool-undefine {pool.name}" in virsh.asked
