from __future__ import annotations

import threading
from typing import Any, cast

from labctl.kube.client import Client
from labctl.kube.errors import Document, NotFound, Unavailable
from labctl.kube.events import Correlator, Happening, Recorder, Write
from labctl.kube.meta import Reference
from labctl.kube.resources import Resource
from labctl.runtime.clock import FakeClock, SystemClock
from labctl.runtime.loop import Stop

CLOCK = FakeClock()


def about(name: str = "web", **more: Any) -> Reference:
    return Reference(api_version="v1", kind="Pod", namespace="default", name=name, uid=f"uid-{name}", **more)


def happening(message: str = "it did", *, name: str = "web", reason: str = "Started", version: str = "") -> Happening:
    return Happening(about(name, resource_version=version), "Normal", reason, message)


def take(correlator: Correlator, what: Happening, now_s: float = 0.0) -> Write | None:
    return correlator.take(what, now_s, CLOCK.now())


def test_an_event_has_what_kubectl_describe_shows() -> None:
    write = take(Correlator("kubelet", "worker1"), happening())
    assert write is not None
    assert write.first
    body = write.body
    assert (body["reason"], body["message"], body["type"], body["count"]) == ("Started", "it did", "Normal", 1)
    assert body["source"] == {"component": "kubelet", "host": "worker1"}
    assert body["firstTimestamp"] == body["lastTimestamp"] == "2026-01-01T00:00:00Z"
    assert body["metadata"]["namespace"] == "default"
    assert write.name.startswith("web.")


def test_the_same_again_raises_the_count_whatever_version_the_object_has() -> None:
    correlator = Correlator("kubelet")
    first, second = take(correlator, happening(version="1")), take(correlator, happening(version="2"))
    assert first is not None
    assert second is not None
    assert (second.first, second.body["count"], second.name) == (False, 2, first.name)


def test_different_events_have_different_names_even_in_the_same_instant() -> None:
    correlator = Correlator("kubelet")
    names = [write.name for text in "abc" if (write := take(correlator, happening(text)))]
    assert len(set(names)) == 3


def test_many_that_differ_only_in_their_message_become_one() -> None:
    correlator = Correlator("kubelet")
    writes = [take(correlator, happening(f"try {number}")) for number in range(14)]
    created = [write for write in writes if write is not None and write.first]
    assert len(created) == 10
    last = writes[-1]
    assert last is not None
    assert last.body["message"] == "(combined from similar events): try 13"
    assert last.body["count"] == 5


def test_an_object_gets_25_at_once_and_then_one_every_five_minutes() -> None:
    correlator = Correlator("kubelet")
    assert sum(take(correlator, happening()) is not None for _ in range(40)) == 25
    assert take(correlator, happening(), 299.0) is None
    assert take(correlator, happening(), 300.0) is not None
    assert take(correlator, happening(name="other"), 300.0) is not None


def test_events_of_cluster_wide_objects_go_to_the_namespace_default() -> None:
    node = Happening(Reference(api_version="v1", kind="Node", name="w1"), "Warning", "NodeNotReady", "it is not")
    write = take(Correlator("controller"), node)
    assert write is not None
    assert write.body["metadata"]["namespace"] == "default"


def test_a_message_is_cut_at_the_api_s_limit() -> None:
    write = take(Correlator("kubelet"), happening("x" * 5_000))
    assert write is not None
    assert len(write.body["message"]) == 1_024


class Api:
    """Takes events; `fail` is raised instead, once for each entry."""

    def __init__(self, *fail: Exception) -> None:
        self.fail = list(fail)
        self.created, self.patched = list[Document](), list[Document]()
        self.hold = threading.Event()
        self.hold.set()

    def create(self, resource: Resource, body: Document, namespace: str) -> Document:
        self.hold.wait(10)
        if self.fail:
            raise self.fail.pop()
        self.created.append(body)
        return {}

    def patch(self, resource: Resource, name: str, body: Document, namespace: str) -> Document:
        if self.fail:
            raise self.fail.pop()
        self.patched.append(body)
        return {}


def recorder(api: Api) -> Recorder:
    return Recorder(cast(Client, api), "kubelet", clock=FakeClock())


def test_a_repeat_patches_and_an_expired_one_is_written_anew() -> None:
    api = Api()
    told = recorder(api)
    told.normal(about(), "Started", "it did")
    told.normal(about(), "Started", "it did")
    told.flush()
    assert [body["count"] for body in api.patched] == [2]
    api.fail = [NotFound("expired")]
    told.normal(about(), "Started", "it did")
    told.flush()
    assert [body["count"] for body in api.created] == [1, 3]


def test_the_caller_never_waits_and_what_waits_is_bounded() -> None:
    api, stop, clock = Api(), Stop(), SystemClock()
    api.hold.clear()
    told = recorder(api).start(stop)
    began_s = clock.monotonic_s()
    for number in range(5_000):
        told.normal(about(str(number)), "Started", "it did")
    assert clock.monotonic_s() - began_s < 1.0
    assert len(told._waiting) <= 1_000
    stop.set()
    api.hold.set()


def test_an_api_that_is_away_loses_events_and_nothing_else() -> None:
    api = Api(Unavailable("away"))
    told = recorder(api)
    told.normal(about("a"), "Started", "lost")
    told.normal(about("b"), "Started", "kept")
    told.flush()
    assert [body["message"] for body in api.created] == ["kept"]


def test_a_retried_write_arrives() -> None:
    api, stop = Api(Unavailable("away")), Stop()
    told = recorder(api).start(stop)
    told.normal(about(), "Started", "it did")
    clock = SystemClock()
    end_s = clock.monotonic_s() + 5
    while not api.created and clock.monotonic_s() < end_s:
        clock.sleep_s(0.01)
    stop.set()
    assert len(api.created) == 1
