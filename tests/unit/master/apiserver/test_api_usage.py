"""metrics.k8s.io: rates of two samples, and the API that `kubectl top` asks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from labctl.runtime.clock import FakeClock
from master.apiserver.usage import Meter, Sample, Summary, Usage, node_usage, pod_usage
from tests.unit.master.apiserver.harness import Api, soon

Document = dict[str, Any]
GROUP = "/apis/metrics.k8s.io/v1beta1"
MIB = 1024 * 1024


def summary(node_s: float, *, pods: dict[str, float] | None = None) -> bytes:
    """A kubelet's summary: seconds of CPU used by the node and by each pod's one container."""
    return msgspec.json.encode(
        {
            "node": {"cpu": {"usageCoreNanoSeconds": int(node_s * 1e9)}, "memory": {"workingSetBytes": 512 * MIB}},
            "pods": [
                {
                    "podRef": {"name": uid, "namespace": "default", "uid": uid},
                    "containers": [
                        {
                            "name": "c",
                            "cpu": {"usageCoreNanoSeconds": int(used_s * 1e9)},
                            "memory": {"workingSetBytes": 3 * MIB},
                        }
                    ],
                }
                for uid, used_s in (pods or {}).items()
            ],
        }
    )


def sample(at_s: float, node_s: float, **pods: float) -> Sample:
    return Sample(at_s, msgspec.json.decode(summary(node_s, pods=pods), type=Summary))


def test_a_rate_is_the_difference_over_our_own_time() -> None:
    assert node_usage((sample(10, 100), sample(14, 102))) == {"cpu": "500000000n", "memory": "524288Ki"}


def test_a_counter_that_began_anew_has_no_rate() -> None:
    assert node_usage((sample(10, 100), sample(14, 3))) is None


def test_a_pod_counts_once_both_samples_know_its_containers() -> None:
    before, now = sample(10, 0, old=1.0), sample(12, 0, old=1.5, new=0.2)
    assert list(pod_usage((before, now))) == [
        ("old", [{"name": "c", "usage": {"cpu": "250000000n", "memory": "3072Ki"}}])
    ]


class Kubelets:
    """Nodes that use as much CPU as they are told, by the clock; each question is counted."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.cores = clock, {"w1": 0.5, "w2": 1.5}
        self.pods: dict[str, dict[str, float]] = {"w1": {}, "w2": {}}
        self.down: set[str] = set()
        self.asked = 0

    def ask(self, node: Document) -> bytes:
        name = node["metadata"]["name"]
        self.asked += 1
        if name in self.down:
            raise ConnectionRefusedError
        now_s = self.clock.monotonic_s()
        return summary(self.cores[name] * now_s, pods={uid: cores * now_s for uid, cores in self.pods[name].items()})


NODES = [{"metadata": {"name": "w1"}}, {"metadata": {"name": "w2"}}]


def test_whoever_asks_first_waits_for_a_second_sample_and_the_next_one_does_not() -> None:
    clock = FakeClock()
    kubelets = Kubelets(clock)
    meter = Meter(kubelets.ask, clock)
    began_s = clock.monotonic_s()
    assert set(meter.measure(NODES)) == {"w1", "w2"}
    assert (clock.monotonic_s() - began_s, kubelets.asked) == (1.0, 4)
    clock.advance(10)
    assert node_usage(meter.measure(NODES)["w2"]) == {"cpu": "1500000000n", "memory": "524288Ki"}
    assert kubelets.asked == 6


def test_a_node_that_does_not_answer_is_left_out() -> None:
    clock = FakeClock()
    kubelets = Kubelets(clock)
    kubelets.down = {"w1"}
    assert set(Meter(kubelets.ask, clock).measure(NODES)) == {"w2"}


@pytest.fixture
def kubelets(api: Api) -> Kubelets:
    """Two nodes and a pod on one of them."""
    clock = FakeClock()
    found = Kubelets(clock)
    for name in ("w1", "w2"):
        api.create("/api/v1/nodes", {"metadata": {"name": name, "labels": {"zone": name}}})
    spec = {"nodeName": "w1", "containers": [{"name": "c", "image": "x:1"}]}
    pod = api.create(
        "/api/v1/namespaces/default/pods", {"metadata": {"name": "p", "labels": {"app": "a"}}, "spec": spec}
    )
    found.pods["w1"][pod["metadata"]["uid"]] = 0.25
    usage = Usage(api.server.context, found.ask)
    usage._meter._clock = clock
    api.server._usage = usage
    return found


def test_nodes_are_listed_with_their_use(api: Api, kubelets: Kubelets) -> None:
    found = api.get(f"{GROUP}/nodes").document
    assert (found["kind"], found["apiVersion"]) == ("NodeMetricsList", "metrics.k8s.io/v1beta1")
    assert [(item["metadata"]["name"], item["usage"]["cpu"], item["window"]) for item in found["items"]] == [
        ("w1", "500000000n", "1.000s"),
        ("w2", "1500000000n", "1.000s"),
    ]


def test_a_selector_and_a_name_choose_among_them(api: Api, kubelets: Kubelets) -> None:
    found = api.get(f"{GROUP}/nodes?labelSelector=zone%3Dw2").document
    assert [item["metadata"]["name"] for item in found["items"]] == ["w2"]
    assert api.get(f"{GROUP}/nodes/w1").document["usage"]["memory"] == "524288Ki"
    assert api.get(f"{GROUP}/nodes/w3").message == 'nodemetrics.metrics.k8s.io "w3" not found'


def test_a_pod_shows_each_container(api: Api, kubelets: Kubelets) -> None:
    [found] = api.get(f"{GROUP}/namespaces/default/pods?labelSelector=app%3Da").document["items"]
    assert found["containers"] == [{"name": "c", "usage": {"cpu": "250000000n", "memory": "3072Ki"}}]
    assert kubelets.asked == 2  # of the pod's node alone


def test_without_an_answer_of_its_kubelet_a_pod_has_no_metrics(api: Api, kubelets: Kubelets) -> None:
    kubelets.down = {"w1"}
    assert api.get(f"{GROUP}/pods").document["items"] == []
    assert api.get(f"{GROUP}/namespaces/default/pods/p").code == 404


def test_kubectl_gets_a_table_of_them(api: Api, kubelets: Kubelets) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    found = api.call("GET", f"{GROUP}/nodes", accept=accept).document
    assert [column["name"] for column in found["columnDefinitions"]] == ["Name", "cpu", "memory", "window"]
    assert found["rows"][0]["cells"] == ["w1", "500000000n", "524288Ki", "1.000s"]


def test_they_cannot_be_written(api: Api, kubelets: Kubelets) -> None:
    assert api.post(f"{GROUP}/nodes", {}).code == 405
    assert api.delete(f"{GROUP}/nodes/w1").code == 405


def test_who_may_view_may_see_the_use_of_pods(api: Api, kubelets: Kubelets) -> None:
    someone = api.as_user("viewer")
    assert someone.get(f"{GROUP}/namespaces/default/pods").code == 403
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "viewer"}
    api.create(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
        {"metadata": {"name": "v"}, "roleRef": role, "subjects": [subject]},
    )
    soon(lambda: someone.get(f"{GROUP}/namespaces/default/pods"), 200)
