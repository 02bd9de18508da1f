import pytest

from labctl.config import LabConfig, NodeConfig
from labctl.runtime.errors import UsageError
from labctl.vm.layout import lay_out, overloads
from labctl.vm.topology import Topology, bridge_of, mac_of


def first(**wishes: object) -> Topology:
    return lay_out(LabConfig().merged(**wishes), None, ())


def test_one_master_and_two_workers_without_any_wish() -> None:
    lab = first()
    assert [machine.name for machine in lab.machines] == ["master1", "worker1", "worker2"]
    assert [machine.address for machine in lab.machines] == ["10.77.0.10", "10.77.0.20", "10.77.0.21"]
    assert (lab.lab, lab.provider, lab.profile, lab.host_address) == ("lab", "vagrant", "fast", "10.77.0.1")


def test_the_network_is_the_first_that_nobody_uses() -> None:
    assert lay_out(LabConfig(), None, ["10.77.0.7/24", "10.77.1.0/25"]).network_cidr == "10.77.2.0/24"


def test_sizes_labels_and_taints_reach_the_machine() -> None:
    worker = first(workers=(NodeConfig(cpus=2, memory="1536Mi", disk="5Gi", labels={"zone": "a"}),)).workers[0]
    assert (worker.cpus, worker.memory_mib, worker.disk_gib, worker.labels) == (2, 1536, 5, {"zone": "a"})


def test_an_existing_lab_is_kept_where_nothing_is_said() -> None:
    lab = first(provider="lxc", network="10.80.3.0/24", profile="kubernetes")
    assert lay_out(LabConfig(), lab, ["10.80.3.0/24"]) == lab


def test_a_lab_grows_without_moving_what_it_has() -> None:
    lab = first(workers=(NodeConfig(cpus=4), NodeConfig()))
    assert (lab.masters[0].cpus, lab.workers[1].cpus) == (2, 1)
    lab = first(workers=(NodeConfig(cpus=4),))
    grown = lay_out(LabConfig(workers=3), lab, ())
    assert grown.workers[0] == lab.workers[0]
    assert [machine.name for machine in grown.workers] == ["worker1", "worker2", "worker3"]


@pytest.mark.parametrize(
    "wish", [{"provider": "lxc"}, {"network": "10.90.0.0/24"}, {"masters": 3}, {"workers": 1}, {"box": "other.box"}]
)
def test_a_wish_against_what_the_lab_is_is_refused_with_a_way_out(wish: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        lay_out(LabConfig().merged(**wish), first(), ())
    assert "destroy" in caught.value.hint


def test_the_profile_of_an_existing_lab_may_change() -> None:
    assert lay_out(LabConfig(profile="kubernetes"), first(), ()).profile == "kubernetes"


def test_bridges_fit_the_kernel_and_differ() -> None:
    names = {bridge_of(name) for name in ("lab", "a-very-long-lab-name-1", "a-very-long-lab-name-2")}
    assert len(names) == 3
    assert all(len(name) <= 15 for name in names)


def test_a_mac_follows_the_address() -> None:
    assert mac_of("10.77.0.20") == "52:54:0a:4d:00:14"


def test_only_several_emulated_masters_on_few_processors_overload_a_host() -> None:
    alone, three = first(masters=1, workers=8), first(masters=3, workers=2)
    assert overloads(three, slowness=12.0, processors=2)
    assert not overloads(three, slowness=1.0, processors=2)
    assert not overloads(three, slowness=12.0, processors=16)
    assert not overloads(alone, slowness=12.0, processors=2)
