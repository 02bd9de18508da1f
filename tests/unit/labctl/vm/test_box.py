from __future__ import annotations

import os
import stat
import tarfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from labctl.runtime.errors import LabError
from labctl.runtime.shell import CommandError, Output
from labctl.vm import box, nerdctl
from labctl.vm.box import disk, mirror, recipe
from labctl.vm.box.cache import cached, hold, key_of
from labctl.vm.box.initrd import Entry, archive, initrd


class BuilderShell:
    """Stands in for nerdctl, mmdebstrap, mkfs.ext4 and qemu-img; `fails` makes mmdebstrap say that and fail."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.asked: list[list[str]] = []
        self.env: Mapping[str, str] = {}

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        stdin: str | bytes = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Output:
        self.asked.append(list(argv))
        if argv[0] == "mmdebstrap":
            self.env = env or {}
            if self.fails:
                raise CommandError("mmdebstrap exited with 25", code=25, stderr=self.fails)
            tree(Path(argv[argv.index(recipe.SUITE) + 1]))
        if argv[0] == "qemu-img":
            Path(argv[-1]).write_bytes(b"qcow2")
        return Output(0, "nerdctl version 2.0.3", "")

    def built(self) -> int:
        return sum(argv[0] == "mmdebstrap" for argv in self.asked)


def tree(path: Path) -> Path:
    modules = path / "usr/lib/modules/6.12-cloud"
    drivers = {"kernel/net/failover.ko": "", "kernel/drivers/virtio_net.ko": "kernel/net/failover.ko"}
    drivers |= {"kernel/drivers/virtio_blk.ko": "", "kernel/drivers/virtio-rng.ko": ""}
    for name in drivers:
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        (modules / name).write_bytes(name.encode())
    (modules / "modules.dep").write_text("".join(f"{name}: {needs}\n" for name, needs in drivers.items()))
    for name in ("usr/bin/busybox", "usr/bin/kubectl", "boot/vmlinuz"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode())
    return path


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> BuilderShell:
    monkeypatch.setattr(nerdctl, "binary", lambda *_: Path("/opt/nerdctl"))
    monkeypatch.setattr(box, "problems", list)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return BuilderShell()


def quiet(name: str, text: str) -> None:
    """Tell nobody."""


# -- the root file system and the box ---------------------------------------------------------------------------------


def test_a_root_file_system_is_built_once_and_then_found(tmp_path: Path, shell: BuilderShell) -> None:
    first = box.rootfs(tmp_path, quiet, shell)
    assert box.rootfs(tmp_path, quiet, shell) == first
    assert shell.built() == 1
    assert shell.env["NERDCTL"] == "/opt/nerdctl"
    assert box.kubectl(tmp_path) == str(first / "usr/bin/kubectl")


def test_a_box_holds_what_vagrant_and_libvirt_need_to_start_it(tmp_path: Path, shell: BuilderShell) -> None:
    path = box.box(tmp_path, quiet, shell)
    with tarfile.open(path) as tar:
        assert sorted(tar.getnames()) == ["Vagrantfile", "box.img", "initrd", "metadata.json", "vmlinuz"]
        vagrantfile = tar.extractfile("Vagrantfile")
        assert vagrantfile is not None
        assert disk.KERNEL_ARGUMENTS in vagrantfile.read().decode()
    assert (path.parent / "vmlinuz").read_bytes() == b"boot/vmlinuz"


def test_nothing_in_the_tree_opens_a_machine_to_a_stranger() -> None:
    script = Path(box.__file__).with_name("customise.sh").read_text()
    assert "usermod -p '*' root" in script
    assert "PasswordAuthentication no" in script
    assert "authorized_keys" not in script
    assert 'rm -f "$tree"/etc/ssh/ssh_host_*' in script


def test_a_failed_build_says_why_and_leaves_nothing(tmp_path: Path, shell: BuilderShell) -> None:
    shell.fails = "I: running apt-get update...\nE: The repository has no Release file.\nE: run_chroot failed"
    with pytest.raises(LabError, match="has no Release file"):
        box.rootfs(tmp_path, quiet, shell)
    assert not list(tmp_path.glob("*rootfs-*"))


def test_what_our_own_script_said_last_is_what_a_person_reads(tmp_path: Path, shell: BuilderShell) -> None:
    script = "/somewhere/customise.sh"
    shell.fails = f'{script}: 25: unxz: not found\nE: setup failed: E: command failed: sh "{script}" "$1"'
    with pytest.raises(LabError, match="unxz: not found"):
        box.rootfs(tmp_path, quiet, shell)


def test_without_root_a_build_is_refused_with_a_hint(
    tmp_path: Path, shell: BuilderShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError) as caught:
        box.rootfs(tmp_path, quiet, shell)
    assert "sudo" in caught.value.hint
    assert shell.built() == 0


def test_another_nerdctl_makes_another_tree(tmp_path: Path, shell: BuilderShell) -> None:
    first = box.rootfs(tmp_path, quiet, shell)

    class Newer(BuilderShell):
        def run(self, argv: Sequence[str], **options: object) -> Output:
            super().run(argv, **options)  # type: ignore[arg-type]
            return Output(0, "nerdctl version 2.1.0", "")

    assert box.rootfs(tmp_path, quiet, Newer()) != first


# -- the cache --------------------------------------------------------------------------------------------------------


def test_keys_tell_parts_apart() -> None:
    assert key_of(b"ab", b"c") != key_of(b"a", b"bc")


def test_two_builders_at_once_build_once(tmp_path: Path) -> None:
    built: list[int] = []
    both = threading.Barrier(2)

    def build(path: Path) -> None:
        built.append(1)
        path.mkdir()

    def want() -> None:
        both.wait()
        cached(tmp_path, "thing", "1", build)

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(built) == 1
    assert (tmp_path / "thing-1").is_dir()


def test_an_old_version_goes_when_a_new_one_is_built_unless_a_lab_holds_it(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    old, held = (cached(tmp_path, "thing", key, Path.mkdir) for key in ("old", "held"))
    assert not old.exists()  # building `held` swept it
    hold(held, lab)
    new = cached(tmp_path, "thing", "new", Path.mkdir)
    assert (held.exists(), new.exists()) == (True, True)
    lab.rmdir()
    cached(tmp_path, "thing", "newer", Path.mkdir)
    assert not held.exists()


def test_what_a_crashed_builder_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".thing-1").mkdir()
    (tmp_path / ".thing-1/half").touch()
    item = cached(tmp_path, "thing", "1", Path.mkdir)
    assert list(item.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError) as caught:
        cached(tmp_path / "file/cache", "thing", "1", Path.mkdir)
    assert "LABCTL_CACHE_DIR" in caught.value.hint


# -- the initial RAM disk ---------------------------------------------------------------------------------------------


def members(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Name to (mode, content) of a newc archive, read by the format's own description."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        fields = [int(data[at + 6 + 8 * index : at + 14 + 8 * index], 16) for index in range(13)]
        assert data[at : at + 6] == b"070701"
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        start = (at + 110 + fields[11] + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], data[start : start + fields[6]])
        at = (start + fields[6] + 3) & ~3


def test_an_archive_can_be_read_back() -> None:
    entries = [Entry("bin", stat.S_IFDIR | 0o755), Entry("bin/x", stat.S_IFREG | 0o755, b"12345")]
    assert members(archive(entries))["bin/x"] == (stat.S_IFREG | 0o755, b"12345")


def test_drivers_are_loaded_after_what_they_need(tmp_path: Path) -> None:
    found = members(initrd(tree(tmp_path)))
    order = found["modules/order"][1].decode().split()
    assert order.index("failover.ko") < order.index("virtio_net.ko")
    assert found["modules/virtio_net.ko"][1] == b"kernel/drivers/virtio_net.ko"
    assert found["init"][0] == stat.S_IFREG | 0o755


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    assert initrd(tree(tmp_path / "a")) == initrd(tree(tmp_path / "b"))


def test_a_kernel_without_a_needed_driver_is_refused(tmp_path: Path) -> None:
    modules = tree(tmp_path) / "usr/lib/modules/6.12-cloud"
    (modules / "modules.dep").write_text("kernel/drivers/virtio_net.ko:\n")
    with pytest.raises(LabError, match="virtio_blk"):
        initrd(tmp_path)


# -- the mirror -------------------------------------------------------------------------------------------------------


def host(root: Path, *, release: str = "ID=debian\nVERSION_CODENAME=bookworm\n", **files: str) -> Path:
    (root / "etc/apt/sources.list.d").mkdir(parents=True)
    (root / "etc/os-release").write_text(release)
    for name, text in files.items():
        where = "sources.list" if name == "classic" else f"sources.list.d/{name}.sources"
        (root / "etc/apt" / where).write_text(text)
    return root


def test_the_mirrors_of_the_hosts_deb822_sources_are_used(tmp_path: Path) -> None:
    text = """\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
"""
    assert mirror.sources("trixie", host(tmp_path, debian=text)) == [
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/security trixie-security main",
    ]


def test_the_mirror_of_a_classic_list_is_used(tmp_path: Path) -> None:
    text = "# deb http://off.example bookworm main\ndeb [arch=amd64] http://m.example/debian bookworm main non-free\n"
    assert mirror.sources("trixie", host(tmp_path, classic=text)) == ["deb http://m.example/debian trixie main"]


def test_a_disabled_source_is_not_used(tmp_path: Path) -> None:
    text = "Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: bookworm\nComponents: main\n"
    assert mirror.sources("trixie", host(tmp_path, debian=text)) == []


def test_a_host_that_is_not_debian_leaves_the_choice_to_mmdebstrap(tmp_path: Path) -> None:
    text = "deb http://ubuntu.example noble main\n"
    assert mirror.sources("trixie", host(tmp_path, release="ID=ubuntu\nVERSION_CODENAME=noble\n", classic=text)) == []
