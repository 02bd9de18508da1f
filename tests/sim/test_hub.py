"""Simulated processes: they wait in simulated time, stand still as a whole, and die where they are."""

from __future__ import annotations

from labctl.runtime.loop import Wake
from labctl.sim.hub import Hub, Process


def test_waits_pass_in_simulated_time_and_in_order() -> None:
    hub, seen = Hub(), list[tuple[str, float]]()

    def work(name: str, seconds: float) -> None:
        process.sleep(seconds)
        seen.append((name, hub.now_s))

    process = Process(hub, "p")
    process.spawn(lambda: work("late", 5.0))
    process.spawn(lambda: work("soon", 2.0))
    hub.run(10.0)
    assert seen == [("soon", 2.0), ("late", 5.0)]
    assert hub.now_s == 10.0


def test_a_paused_process_goes_on_later_with_what_was_due() -> None:
    hub, seen = Hub(), list[float]()
    process = Process(hub, "p")

    def work() -> None:
        process.sleep(1.0)
        seen.append(hub.now_s)

    process.spawn(work)
    hub.at(0.5, process.pause)
    hub.at(7.0, process.resume)
    hub.run(10.0)
    assert seen == [7.0]


def test_a_killed_process_does_nothing_more() -> None:
    hub, seen = Hub(), list[str]()
    process = Process(hub, "p")

    def work() -> None:
        process.sleep(1.0)
        seen.append("alive")

    process.spawn(work)
    hub.at(0.5, process.kill)
    hub.run(10.0)
    assert seen == []
    assert process.strands == {}


def test_a_ring_ends_a_wait() -> None:
    hub, seen, bell = Hub(), list[float](), Wake()
    process = Process(hub, "p")

    def ring() -> None:
        bell.ring()
        process.poke()

    def wait() -> None:
        for _ in range(2):
            process.wait(bell, 5.0)
            seen.append(hub.now_s)

    process.spawn(wait)
    hub.at(1.0, ring)
    hub.run(10.0)
    assert seen == [1.0, 6.0]


def test_a_thread_that_another_one_spawned_does_not_wake_it() -> None:
    hub, seen = Hub(), list[tuple[str, float]]()
    process = Process(hub, "p")

    def note(name: str, seconds: float) -> None:
        process.sleep(seconds)
        seen.append((name, hub.now_s))

    def work() -> None:
        process.spawn(lambda: note("child", 1.0))
        note("parent", 3.0)

    process.spawn(work)
    hub.run(10.0)
    assert seen == [("child", 1.0), ("parent", 3.0)]
