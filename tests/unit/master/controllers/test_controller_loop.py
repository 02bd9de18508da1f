from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from labctl.kube.client import Client
from labctl.kube.errors import Conflict, Document, Forbidden, NotFound
from labctl.kube.events import Recorder
from labctl.kube.informer import Informer
from labctl.kube.meta import Reference
from labctl.kube.resources import EVENTS, PODS, Resource
from labctl.runtime.clock import FakeClock, SystemClock
from labctl.runtime.loop import Stop
from master.controllers import process
from master.controllers.loop import Informers, Runner, Surroundings, interval_s
from master.controllers.protocol import Controller, Delete, Failure, Kind, Patch, Plan, Settings, Step, Tell, World
from master.controllers.views import Pod
from tests.unit.master.controllers.world import world


class Api:
    """Answers writes as `answer` says, remembers them, and lists nothing."""

    def __init__(self, answer: Callable[[str], Document] = lambda _: {}) -> None:
        self.answer, self.calls, self.events = answer, list[str](), list[str]()

    def patch(self, resource: Resource, name: str, *_: Any, **__: Any) -> Document:
        if resource != EVENTS:
            self.calls.append(f"patch {name}")
        return self.answer(name)

    def delete(self, resource: Resource, name: str, *_: Any, **__: Any) -> Document:
        self.calls.append(f"delete {name}")
        return self.answer(name)

    def create(self, resource: Resource, body: Document, *_: Any) -> Document:
        self.events.append(f"{body['reason']}: {body['message']}")
        return {}


def about(name: str) -> Reference:
    return Reference(api_version="v1", kind="Pod", namespace="default", name=name, uid=f"uid-{name}")


def change(name: str) -> Patch:
    return Patch(resource=PODS, namespace="default", name=name, body={})


class Bench:
    """A runner of one plan over a fake API and clock."""

    def __init__(self, api: Api, plan: Callable[[World, Any], Plan]) -> None:
        self.clock = FakeClock()
        client = cast(Client, api)
        self.recorder = Recorder(client, "test", clock=self.clock)
        self.around = Surroundings(self.clock, Informers(client, self.clock), self.recorder, Settings())
        self.runner = Runner(
            Controller(name="test", reads=(Kind(PODS, Pod),), plan=plan, memory=0), client, self.around
        )

    @property
    def pods(self) -> Informer[Pod]:
        return self.around.informers.by_resource[PODS]

    def run(self) -> float:
        wait_s = self.runner.run_pass(Stop())
        self.recorder.flush()
        return wait_s


def steps(*names: str) -> Callable[[World, Any], Plan]:
    return lambda _, memory: Plan(
        tuple(Step(about(name), (change(name),), failure_reason="FailedUpdate") for name in names), memory=memory
    )


def fail(name: str, error: Exception) -> Callable[[str], Document]:
    def answer(asked: str) -> Document:
        if asked == name:
            raise error
        return {}

    return answer


def test_a_step_that_fails_leaves_the_others_alone_and_says_why() -> None:
    api = Api(fail("a", Forbidden("not you")))
    Bench(api, steps("a", "b")).run()
    assert api.calls == ["patch a", "patch b"]
    assert api.events == ["FailedUpdate: not you"]


def test_a_failed_step_waits_its_own_backoff_while_the_others_go_on() -> None:
    api = Api(fail("a", Forbidden("not you")))
    bench = Bench(api, steps("a", "b"))
    assert bench.run() <= 0.05
    bench.run()
    assert api.calls == ["patch a", "patch b", "patch b"]
    bench.clock.advance(1.0)
    bench.run()
    assert api.calls[-2:] == ["patch a", "patch b"]


def test_a_status_is_written_though_what_comes_before_it_fails() -> None:
    api = Api(fail("a", Forbidden("not you")))
    create = Step(about("a"), (change("a"),), failure_reason="FailedCreate")
    report = Step(about("a"), (change("status"),))
    Bench(api, lambda _, memory: Plan((create, create, report), memory=memory)).run()
    assert api.calls == ["patch a", "patch status"]


def test_after_a_conflict_nothing_more_is_done_for_the_object() -> None:
    api = Api(fail("a", Conflict("stale")))
    create = Step(about("a"), (change("a"),), failure_reason="FailedCreate")
    report = Step(about("a"), (change("status"),))
    Bench(api, lambda _, memory: Plan((create, report), memory=memory)).run()
    assert api.calls == ["patch a"]


def test_a_plan_learns_why_its_step_failed_until_it_no_longer_asks_for_it() -> None:
    seen: list[dict[str, Any]] = []

    def plan(world: World, memory: int) -> Plan:
        seen.append(dict(world.failures))
        return Plan(steps("a")(world, 0).steps if memory < 2 else (), memory=memory + 1)

    bench = Bench(Api(fail("a", Forbidden("not you"))), plan)
    waits = [bench.run() for _ in range(4)]
    assert waits[0] == waits[2] == 0.0  # what has changed may be reported
    failure = {"uid-a": Failure("FailedUpdate", "not you")}
    assert seen == [{}, failure, failure, {}]


def test_an_object_that_cannot_be_read_is_told_of_once_and_the_others_go_on() -> None:
    api = Api()
    bench = Bench(api, steps("b"))
    bench.pods.absorb({**stored("a", 7), "spec": {"hostNetwork": "perhaps"}})
    bench.run()
    bench.run()
    assert [event.partition(" - ")[0] for event in api.events] == [
        "FailedSync: cannot read this Pod: Expected `bool`, got `str`"
    ]
    assert api.calls == ["patch b", "patch b"]


def test_a_conflict_is_looked_at_again_without_an_event() -> None:
    api = Api(fail("a", Conflict("stale")))
    wait_s = Bench(api, steps("a")).run()
    assert 0 < wait_s <= 0.05
    assert api.events == []


def test_the_rest_of_a_step_is_not_done_after_a_failure() -> None:
    api = Api(fail("a", Conflict("stale")))
    step = Step(about("a"), (change("a"), Tell(reason="Done", message="done"), change("b")))
    Bench(api, lambda _, memory: Plan((step,), memory=memory)).run()
    assert api.calls == ["patch a"]
    assert api.events == []


def stored(name: str, version: int, **more: Any) -> Document:
    head = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": str(version), **more}
    return {"kind": "Pod", "metadata": head}


def test_the_next_pass_sees_what_this_one_wrote() -> None:
    seen: list[list[str]] = []

    def plan(world: World, memory: Any) -> Plan:
        seen.append(sorted(world.objects[PODS]))
        return Plan((Step(about("a"), (change("a"),)),), memory=memory)

    bench = Bench(Api(lambda name: stored(name, 7)), plan)
    bench.run()
    bench.run()
    assert seen == [[], ["default/a"]]


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (stored("a", 8, deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=30), ["default/a"]),
        (stored("a", 8, deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=0), []),
        ({"kind": "Status", "status": "Success"}, []),
    ],
)
def test_a_delete_is_seen_at_once_as_far_as_it_went(answer: Document, left: list[str]) -> None:
    deletion = Delete(resource=PODS, namespace="default", name="a", uid="uid-a")
    bench = Bench(Api(lambda _: answer), lambda _, memory: Plan((Step(about("a"), (deletion,)),), memory=memory))
    bench.pods.absorb(stored("a", 7))
    bench.run()
    assert list(bench.pods.snapshot()) == left


def test_deleting_what_is_gone_already_is_success() -> None:
    deletion = Delete(resource=PODS, namespace="default", name="a", uid="uid-a")
    told = Tell(reason="Done", message="done")
    api = Api(fail("a", NotFound("gone")))
    Bench(api, lambda _, memory: Plan((Step(about("a"), (deletion, told)),), memory=memory)).run()
    assert api.events == ["Done: done"]


def test_a_controller_that_crashes_goes_on_and_no_other_notices() -> None:
    crashes, passes = threading.Semaphore(0), threading.Semaphore(0)

    def broken(world: World, memory: Any) -> Plan:
        crashes.release()
        raise RuntimeError("boom")

    def sound(world: World, memory: Any) -> Plan:
        passes.release()
        return Plan(wake_after_s=0.01)

    clock, stop, client = SystemClock(), Stop(), cast(Client, Api())
    around = Surroundings(clock, Informers(client, clock), Recorder(client, "test", clock=clock), Settings())
    for plan in (broken, sound):
        Runner(Controller(name=plan.__name__, reads=(), plan=plan), client, around).start(stop)
    try:
        for many in (crashes, passes):
            for _ in range(3):
                assert many.acquire(timeout=5)
    finally:
        stop.set()


def test_memory_goes_from_pass_to_pass() -> None:
    bench = Bench(Api(), lambda _, memory: Plan(memory=memory + 1, wake_after_s=memory))
    assert [bench.run() for _ in range(3)] == [0, 1, 2]


def test_the_catalog_is_complete_and_reads_what_it_should() -> None:
    found = process.controllers()
    assert {"deployment", "replicaset", "node_lifecycle", "taint_eviction", "pod_gc", "namespace"} <= found.keys()
    assert {"garbage_collector", "endpoint_slice", "node_ipam", "service_account"} <= found.keys()
    assert all(one.name == name and callable(one.plan) for name, one in found.items())


@pytest.mark.parametrize("name", sorted(process.controllers()))
def test_every_controller_has_nothing_to_do_in_an_empty_world(name: str) -> None:
    controller = process.controllers()[name]
    empty = world({}, settings=Settings(kinds=process.collectable()))
    assert controller.plan(empty, controller.memory).steps == ()


@pytest.mark.parametrize(
    ("planned_s", "least_s", "interval"),
    [
        (0.0, 0.01, 0.01),
        (0.001, 0.01, 0.01),  # a lab's plans take no time worth a break
        (0.02, 0.01, 0.1),
        (0.02, 1.0, 1.0),  # the controller's own interval is longer
        (3.0, 0.01, 0.25),  # a machine that crawls is not told later than this
    ],
)
def test_the_longer_a_plan_takes_the_seldomer_it_is_made(planned_s: float, least_s: float, interval: float) -> None:
    assert interval_s(planned_s, least_s) == pytest.approx(interval)
