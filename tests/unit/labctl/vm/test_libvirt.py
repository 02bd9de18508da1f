from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from labctl.runtime.clock import FakeClock
from labctl.runtime.errors import LabError
from labctl.runtime.shell import CommandError, Output
from labctl.vm.libvirt import Libvirt
from labctl.vm.provider import Power
from tests.unit.labctl.vm.fake_virsh import Domain, FakeVirsh


class Host:
    """A host where libvirtd answers once one of `cures` was run."""

    def __init__(self, *cures: str) -> None:
        self.cures, self.asked = cures, [""]

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
        if argv[0] == "virsh":
            return Output(0 if any(" ".join(self.asked).count(cure) for cure in self.cures) else 1, "", "")
        self.asked.append(" ".join(argv))
        return Output(0, "", "")


def test_each_state_of_a_domain_is_one_of_ours() -> None:
    states = {"a": "running", "b": "paused", "c": "shut off", "d": "crashed", "e": "in shutdown", "f": "pmsuspended"}
    libvirt = Libvirt(FakeVirsh({name: Domain(state) for name, state in states.items()}))
    assert libvirt.domains() == {
        "a": Power.RUNNING,
        "b": Power.SUSPENDED,
        "c": Power.OFF,
        "d": Power.OFF,
        "e": Power.RUNNING,
        "f": Power.SUSPENDED,
    }


def test_domains_are_told_apart_by_prefix() -> None:
    libvirt = Libvirt(FakeVirsh({"labctl.a.w": Domain(), "labctl.ab.w": Domain(), "other": Domain()}))
    assert list(libvirt.domains("labctl.a.")) == ["labctl.a.w"]


def test_a_daemon_that_answers_is_left_alone(tmp_path: Path) -> None:
    host = Host("")
    Libvirt(host).start(FakeClock(), tmp_path)
    assert host.asked == [""]


def test_systemd_starts_the_daemon_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    host = Host("systemctl start libvirtd.service")
    Libvirt(host).start(FakeClock(), tmp_path)
    assert host.asked[1:] == ["systemctl start libvirtd.service"]


def test_without_systemd_the_daemons_are_started_by_hand(tmp_path: Path) -> None:
    host = Host("libvirtd --daemon")
    Libvirt(host).start(FakeClock(), tmp_path)
    assert host.asked[1:] == ["virtlogd --daemon", "libvirtd --daemon"]


def test_a_daemon_that_never_answers_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="does not answer") as caught:
        Libvirt(Host()).start(FakeClock(), tmp_path)
    assert "virtlogd" in caught.value.hint


def test_an_error_of_the_monitor_is_an_error_though_virsh_ends_well() -> None:
    libvirt = Libvirt(FakeVirsh({"d": Domain(snapshots={"s": "now"})}))
    libvirt.monitor("d", "loadvm s")
    with pytest.raises(LabError, match="does not exist"):
        libvirt.monitor("d", "loadvm t")


def test_a_failing_command_raises() -> None:
    with pytest.raises(CommandError):
        Libvirt(FakeVirsh()).virsh("dumpxml", "nobody")
