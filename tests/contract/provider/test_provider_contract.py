"""What every provider promises (labctl/vm/provider.py). The lab is shared; a test that needs it up says so."""

from __future__ import annotations

import pytest

from labctl.runtime.errors import LabError, UsageError
from labctl.vm.provider import Link, Power
from tests.contract.provider.world import World, eventually


def power(world: World) -> list[Power]:
    return list(world.provider.power(world.site).values())


def test_a_lab_never_made_is_absent_and_destroying_it_is_no_error(world: World) -> None:
    world.destroy()
    assert world.provider.power(world.site) == dict.fromkeys(world.machines, Power.ABSENT)


def test_the_host_has_what_the_provider_needs_and_says_how_it_runs_machines(world: World) -> None:
    assert list(world.provider.problems()) == []
    assert world.provider.describe()


def test_one_machine_can_be_made_alone_and_up_then_makes_the_rest(world: World) -> None:
    world.up("worker1")
    assert world.provider.power(world.site) == {"master1": Power.ABSENT, "worker1": Power.RUNNING}
    world.up()
    assert power(world) == [Power.RUNNING, Power.RUNNING]
    assert all(world.reaches(name) for name in world.machines)
    assert {name for name, _ in world.told} >= set(world.machines)


def test_up_leaves_running_machines_alone(world: World) -> None:
    world.up()
    before = [world.boot(name) for name in world.machines]
    world.up()
    assert [world.boot(name) for name in world.machines] == before


def test_power_off_cuts_one_machine_and_power_on_brings_it_back(world: World) -> None:
    world.up()
    before = world.boot("worker1")
    world.provider.power_off(world.site, "worker1")
    assert world.provider.power(world.site) == {"master1": Power.RUNNING, "worker1": Power.OFF}
    assert not world.reaches("worker1")
    world.provider.power_on(world.site, "worker1")
    assert eventually(lambda: world.reaches("worker1"), "worker1 to answer")
    assert world.boot("worker1") != before


def test_power_operations_may_be_repeated(world: World) -> None:
    world.up()
    world.provider.power_off(world.site, "worker1")
    world.provider.power_off(world.site, "worker1")
    world.provider.power_on(world.site, "worker1")
    world.provider.power_on(world.site, "worker1")
    assert power(world) == [Power.RUNNING, Power.RUNNING]


def test_reset_starts_the_machine_anew(world: World) -> None:
    world.up()
    before = world.boot("worker1")
    world.provider.reset(world.site, "worker1")
    assert eventually(lambda: world.reaches("worker1"), "worker1 to answer")
    assert world.boot("worker1") != before


def test_a_suspended_machine_is_silent_and_resumes_where_it_was(world: World) -> None:
    world.up()
    before = world.boot("worker1")
    world.provider.suspend(world.site, "worker1")
    assert world.provider.power(world.site) == {"master1": Power.RUNNING, "worker1": Power.SUSPENDED}
    assert not world.reaches("worker1")
    world.provider.resume(world.site, "worker1")
    assert eventually(lambda: world.reaches("worker1"), "worker1 to answer")
    assert world.boot("worker1") == before


def test_the_power_of_a_suspended_machine_can_be_cut(world: World) -> None:
    world.up()
    world.provider.suspend(world.site, "worker1")
    world.provider.power_off(world.site, "worker1")
    assert power(world) == [Power.RUNNING, Power.OFF]


def test_up_resumes_a_suspended_machine(world: World) -> None:
    world.up()
    world.provider.suspend(world.site, "worker1")
    world.up()
    assert power(world) == [Power.RUNNING, Power.RUNNING]
    assert world.reaches("worker1")


def test_a_pulled_cable_silences_a_running_machine_until_it_is_back(world: World) -> None:
    world.up()
    world.provider.set_link(world.site, "worker1", Link.DOWN)
    assert power(world) == [Power.RUNNING, Power.RUNNING]
    assert not world.reaches("worker1")
    assert world.reaches("master1")
    world.provider.set_link(world.site, "worker1", Link.UP)
    assert eventually(lambda: world.reaches("worker1"), "worker1 to answer")


def test_halt_stops_what_is_named_and_up_starts_it_again(world: World) -> None:
    world.up()
    world.provider.halt(world.site, ("worker1",), world.progress)
    assert power(world) == [Power.RUNNING, Power.OFF]
    world.provider.halt(world.site, (), world.progress)
    assert power(world) == [Power.OFF, Power.OFF]
    world.up()
    assert all(world.reaches(name) for name in world.machines)


def test_snapshots_are_kept_by_name_and_restoring_leaves_all_machines_running(world: World) -> None:
    world.up()
    world.provider.snapshot_save(world.site, "one")
    world.provider.snapshot_save(world.site, "two")
    assert list(world.provider.snapshot_list(world.site)) == ["one", "two"]
    world.provider.power_off(world.site, "worker1")
    world.provider.snapshot_restore(world.site, "one")
    assert power(world) == [Power.RUNNING, Power.RUNNING]
    assert eventually(lambda: all(world.reaches(name) for name in world.machines), "all machines to answer")
    world.provider.snapshot_delete(world.site, "one")
    world.provider.snapshot_delete(world.site, "one")
    assert list(world.provider.snapshot_list(world.site)) == ["two"]
    world.provider.snapshot_delete(world.site, "two")


def test_a_snapshot_is_not_overwritten_and_an_unknown_one_not_restored(world: World) -> None:
    world.up()
    world.provider.snapshot_save(world.site, "kept")
    with pytest.raises(LabError, match="kept"):
        world.provider.snapshot_save(world.site, "kept")
    with pytest.raises(LabError, match="absent"):
        world.provider.snapshot_restore(world.site, "absent")
    assert power(world) == [Power.RUNNING, Power.RUNNING]
    world.provider.snapshot_delete(world.site, "kept")


def test_an_unknown_machine_is_refused_by_name(world: World) -> None:
    with pytest.raises(UsageError, match="worker9"):
        world.provider.power_off(world.site, "worker9")
    with pytest.raises(UsageError, match="worker9"):
        world.up("worker9")


def test_what_needs_a_running_machine_says_that_it_is_off(world: World) -> None:
    world.up()
    world.provider.power_off(world.site, "worker1")
    with pytest.raises(LabError, match="worker1"):
        world.provider.suspend(world.site, "worker1")


def test_destroy_leaves_nothing_whatever_state_the_machines_are_in(world: World) -> None:
    world.up()
    world.provider.suspend(world.site, "worker1")
    world.destroy()
    assert power(world) == [Power.ABSENT, Power.ABSENT]
    assert world.leftovers() == []
    with pytest.raises(LabError, match="worker1"):
        world.provider.power_on(world.site, "worker1")
