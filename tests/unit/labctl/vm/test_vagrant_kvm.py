"""Whether KVM is of use here: tried once with a real kernel, remembered for as long as the host runs."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from labctl.runtime.clock import SystemClock
from labctl.vm.vagrant import kvm
from labctl.vm.vagrant.site import Hypervisor
from tests.unit.labctl.vm.vagrant_lab import IMAGE


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH; put a `qemu-system-x86_64` there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def install(folder: Path, script: str) -> None:
    path = folder / kvm.QEMU
    path.write_text(f"#!/bin/sh\necho x >> {folder}/runs\n{script}\n")
    path.chmod(0o755)


def judge(tmp_path: Path, device: Path) -> Hypervisor:
    (tmp_path / "cache").mkdir(exist_ok=True)
    return kvm.hypervisor(tmp_path / "cache", IMAGE, SystemClock(), device)


def test_kvm_is_used_where_a_kernel_boots_under_it_and_that_is_tried_once(tmp_path: Path, fake_qemu: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    install(fake_qemu, "echo 'labctl: the kernel runs'")
    assert judge(tmp_path, device).kvm
    assert judge(tmp_path, device).driver == "kvm"
    assert (fake_qemu / "runs").read_text().count("x") == 1
    assert kvm.describe(tmp_path / "cache", device) == "libvirt with KVM"


@pytest.mark.parametrize("script", ["echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60", "exit 1"])
def test_kvm_that_cannot_boot_a_kernel_is_not_used_and_that_is_said(
    tmp_path: Path, fake_qemu: Path, script: str
) -> None:
    device = tmp_path / "kvm"
    device.touch()
    install(fake_qemu, script)
    found = judge(tmp_path, device)
    assert (found.kvm, found.driver) == (False, "qemu")
    assert "does not boot" in found.why
    assert kvm.is_ruled_out(tmp_path / "cache", device)


def test_without_the_device_nothing_is_tried(tmp_path: Path, fake_qemu: Path) -> None:
    found = judge(tmp_path, tmp_path / "absent")
    assert not found.kvm
    assert "this host has no" in found.why
    assert not (fake_qemu / "runs").exists()


def test_a_verdict_of_an_earlier_boot_is_not_believed(tmp_path: Path) -> None:
    record = {"boot_id": "another", "image": "x", "kvm": True, "why": ""}
    (tmp_path / "kvm.json").write_bytes(msgspec.json.encode(record))
    assert kvm.remembered(tmp_path) is None
