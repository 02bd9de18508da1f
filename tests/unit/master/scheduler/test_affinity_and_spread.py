"""Pod affinity, anti-affinity and topology spread against their plain definitions, for any small cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.kube.selectors import Requirement
from master.scheduler.cluster import Cluster
from master.scheduler.cycle import Placed, decide
from master.scheduler.search import Profile, search
from master.scheduler.snapshot import Snapshot
from master.scheduler.views import Node, Pod, SpreadConstraint
from tests.unit.master.scheduler.cluster import ALL, node, placed, pod, snapshot, why_not

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
REQUIRED, PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


def term(app: str, key: str = ZONE, **more: Any) -> dict[str, Any]:
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}, **more}


def near(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"podAffinity": {REQUIRED: list(terms)}}


def away(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"podAntiAffinity": {REQUIRED: list(terms)}}


def app(name: str, label: str, **given: Any) -> Pod:
    more = dict(given)
    meta = {"labels": {"app": label, **more.pop("labels", {})}, **more.pop("meta", {})}
    return pod(name, meta=meta, **more)


A, B, C = (node(name, labels={ZONE: zone}) for name, zone in (("a", "z1"), ("b", "z1"), ("c", "z2")))


def fits(nodes: list[Node], item: Pod, running: dict[str, list[Pod]] | None = None, **more: Any) -> set[str]:
    seen = snapshot(nodes, [item], running, **more)
    cluster = Cluster(seen)
    return {verdict.node.name for verdict in search(seen.pending[0], cluster, Profile.of(ALL)).fitting}


def test_affinity_to_a_zone_lets_every_node_of_it_do() -> None:
    assert fits([A, B, C], app("p", "web", affinity=near(term("db"))), {"a": [app("r", "db")]}) == {"a", "b"}
    assert fits([A, B, C], app("p", "web", affinity=near(term("db", HOST))), {"a": [app("r", "db")]}) == {"a"}


def test_the_first_pod_of_a_group_that_wants_itself_may_go_anywhere_that_has_the_label() -> None:
    bare = node("bare")
    assert fits([A, C, bare], app("p", "web", affinity=near(term("web")))) == {"a", "c"}
    assert fits([A, C, bare], app("p", "web", affinity=near(term("db")))) == set()


@pytest.mark.parametrize(
    ("item", "other", "reason"),
    [
        (app("p", "web", affinity=near(term("db"))), app("r", "x"), "node(s) didn't match pod affinity rules"),
        (app("p", "web", affinity=away(term("db"))), app("r", "db"), "node(s) didn't match pod anti-affinity rules"),
        (
            app("p", "web"),
            app("r", "db", affinity=away(term("web"))),
            "node(s) didn't satisfy existing pods anti-affinity rules",
        ),
    ],
)
def test_each_rule_gives_upstream_s_reason(item: Pod, other: Pod, reason: str) -> None:
    assert f"1 {reason}." in why_not([A], item, {"a": [other]})


def test_namespaces_and_their_labels_say_whose_pods_are_meant() -> None:
    other = {"a": [app("r", "db", meta={"namespace": "prod"})]}
    spaces = {"default": {}, "prod": {"env": "prod"}}
    assert fits([A], app("p", "web", affinity=near(term("db"))), other, namespaces=spaces) == set()
    named = app("p", "web", affinity=near(term("db", namespaces=["prod"])))
    assert fits([A], named, other, namespaces=spaces) == {"a"}
    for labels, expected in (({"env": "prod"}, {"a"}), ({"env": "test"}, set()), ({}, {"a"})):
        chosen = near(term("db", namespaceSelector={"matchLabels": labels}))
        assert fits([A], app("p", "web", affinity=chosen), other, namespaces=spaces) == expected


def test_match_label_keys_ask_for_the_pod_s_own_values_and_mismatch_label_keys_for_others() -> None:
    running = {"a": [app("r", "web", labels={"version": "1"})], "c": [app("s", "web", labels={"version": "2"})]}
    same = near(term("web", matchLabelKeys=["version"]))
    assert fits([A, B, C], app("p", "web", labels={"version": "2"}, affinity=same), running) == {"c"}
    other = away(term("web", mismatchLabelKeys=["version"]))
    assert fits([A, B, C], app("p", "web", labels={"version": "2"}, affinity=other), running) == {"c"}


def wish(weight: int, kind: str, label: str) -> dict[str, Any]:
    return {kind: {PREFERRED: [{"weight": weight, "podAffinityTerm": term(label, HOST)}]}}


def test_wishes_of_the_pod_and_of_those_that_run_pull_and_push() -> None:
    running = {"a": [app("r", "db", cpu="2", memory="4Gi")]}
    assert placed(snapshot([A, B], [app("p", "web")], running)) == {"p": "b"}
    assert placed(snapshot([A, B], [app("p", "web", affinity=wish(100, "podAffinity", "db"))], running)) == {"p": "a"}
    pulling = {"a": [app("r", "db", cpu="2", memory="4Gi", affinity=wish(100, "podAffinity", "web"))]}
    assert placed(snapshot([A, B], [app("p", "web")], pulling)) == {"p": "a"}
    pushing = {"b": [app("r", "db", affinity=wish(100, "podAntiAffinity", "web"))], **running}
    assert placed(snapshot([A, B], [app("p", "web")], pushing)) == {"p": "a"}
    hard = {"a": [app("r", "db", cpu="2", memory="4Gi", affinity=near(term("web", HOST)))]}
    assert placed(snapshot([A, B], [app("p", "web")], hard)) == {"p": "a"}


def constraint(key: str = HOST, skew: int = 1, **more: Any) -> dict[str, Any]:
    selector = {"labelSelector": {"matchLabels": {"app": "web"}}}
    return {"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", **selector, **more}


def spread(name: str, *constraints: dict[str, Any], **more: Any) -> Pod:
    return app(name, "web", topologySpreadConstraints=list(constraints), **more)


def test_too_few_domains_count_as_if_one_more_were_empty() -> None:
    running = {"a": [app("r", "web")], "c": [app("s", "web")]}
    assert fits([A, C], spread("p", constraint(ZONE)), running) == {"a", "c"}
    assert fits([A, C], spread("p", constraint(ZONE, minDomains=2)), running) == {"a", "c"}
    assert fits([A, C], spread("p", constraint(ZONE, minDomains=3)), running) == set()


def test_nodes_that_the_pod_may_not_use_count_as_the_policies_say() -> None:
    running, ssd = {"a": [app("r", "web")]}, {"nodeSelector": {"disk": "ssd"}}
    fast, slow = node("a", labels={ZONE: "z1", "disk": "ssd"}), node("b", labels={ZONE: "z2"})
    assert fits([fast, slow], spread("p", constraint(ZONE), **ssd), running) == {"a"}
    assert fits([fast, slow], spread("p", constraint(ZONE, nodeAffinityPolicy="Ignore"), **ssd), running) == set()
    tainted = node("b", labels={ZONE: "z2"}, taints=("k:NoSchedule",))
    assert fits([fast, tainted], spread("p", constraint(ZONE)), running) == set()
    assert fits([fast, tainted], spread("p", constraint(ZONE, nodeTaintsPolicy="Honor")), running) == {"a"}


def test_match_label_keys_spread_each_revision_by_itself() -> None:
    running = {"a": [app("r", "web", labels={"rev": "1"})]}
    assert fits([A, B], spread("p", constraint(), labels={"rev": "2"}), running) == {"b"}
    each = constraint(matchLabelKeys=["rev"])
    assert fits([A, B], spread("p", each, labels={"rev": "2"}), running) == {"a", "b"}


def test_the_cluster_s_own_constraints_spread_pods_that_have_none() -> None:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": True}
    replica = app("p", "web", meta={"ownerReferences": [owner]})
    around: dict[str, Any] = {"sets": {("ReplicaSet", "default/web"): (Requirement("app", "In", ("web",)),)}}
    running = {"a": [app("r", "web")]}
    assert fits([A, B], replica, running, **around) == {"a", "b"}
    own = SpreadConstraint(max_skew=1, topology_key=HOST)
    assert fits([A, B], replica, running, default_spread=(own,), **around) == {"b"}
    assert fits([A, B], app("p", "web"), running, default_spread=(own,), **around) == {"a", "b"}  # of no set


def test_a_node_without_the_label_says_so() -> None:
    assert "(missing required label)" in why_not([node("bare")], spread("p", constraint(ZONE)))


LABELS = st.sampled_from(["red", "blue"])
KEYS = st.sampled_from([ZONE, HOST])
TERMS = st.lists(st.builds(term, LABELS, KEYS), max_size=2)
NODES = st.lists(st.sampled_from(["z1", "z2", ""]), min_size=1, max_size=4).map(
    lambda zones: [node(f"n{at}", labels={ZONE: zone} if zone else {}) for at, zone in enumerate(zones)]
)


@st.composite
def templates(draw: Any) -> dict[str, Any]:
    affinity = near(*draw(TERMS)) | away(*draw(TERMS))
    affinity["podAntiAffinity"][PREFERRED] = [{"weight": 10, "podAffinityTerm": entry} for entry in draw(TERMS)]
    entries = [constraint(key, minDomains=draw(st.integers(1, 3))) for key in draw(st.sets(KEYS, max_size=2))]
    for entry in entries:
        entry["labelSelector"] = {"matchLabels": {"app": draw(LABELS)}}
    return {"label": draw(LABELS), "cpu": "100m", "affinity": affinity, "topologySpreadConstraints": entries}


KINDS = st.lists(templates(), min_size=1, max_size=3)  # pods of one kind share what is worked out for them


Where = Mapping[str, tuple[Node, Pod]]  # pod name -> its node and itself


def value(item: Node, key: str) -> str | None:
    return item.metadata.labels.get(key)


def asks(entry: Any, other: Pod) -> bool:
    return bool(entry.label_selector.match_labels["app"] == other.metadata.labels["app"])


def together(one: Node, other: Node, key: str) -> bool:
    return value(one, key) is not None and value(one, key) == value(other, key)


def allowed(item: Pod, on: Node, nodes: list[Node], there: Where) -> bool:
    """The documented meaning of every required rule, pair by pair."""
    return near_enough(item, on, there) and apart(item, on, there) and even(item, on, nodes, there)


def near_enough(item: Pod, on: Node, there: Where) -> bool:
    terms = item.spec.affinity.pod_affinity.required_during_scheduling_ignored_during_execution
    if any(value(on, entry.topology_key) is None for entry in terms):
        return False
    group = [(at, other) for at, other in there.values() if all(asks(entry, other) for entry in terms)]
    seen = [at for at, _ in group if any(value(at, entry.topology_key) is not None for entry in terms)]
    if terms and not seen:
        return all(asks(entry, item) for entry in terms)
    return all(any(together(on, at, entry.topology_key) for at, _ in group) for entry in terms)


def apart(item: Pod, on: Node, there: Where) -> bool:
    def terms(of: Pod) -> Any:
        return of.spec.affinity.pod_anti_affinity.required_during_scheduling_ignored_during_execution

    return not any(
        any(asks(entry, other) and together(on, at, entry.topology_key) for entry in terms(item))
        or any(asks(entry, item) and together(on, at, entry.topology_key) for entry in terms(other))
        for at, other in there.values()
    )


def even(item: Pod, on: Node, nodes: list[Node], there: Where) -> bool:
    constraints = item.spec.topology_spread_constraints
    keys = [entry.topology_key for entry in constraints]
    if any(value(on, key) is None for key in keys):
        return False
    counted = [one for one in nodes if all(value(one, key) is not None for key in keys)]
    names = {one.metadata.name for one in counted}
    for entry in constraints:
        domains = {value(one, entry.topology_key): 0 for one in counted}
        for at, other in there.values():
            if at.metadata.name in names and asks(entry, other):
                domains[value(at, entry.topology_key)] += 1
        least = min(domains.values()) if len(domains) >= entry.min_domains else 0
        if domains[value(on, entry.topology_key)] + asks(entry, item) - least > entry.max_skew:
            return False
    return True


@settings(max_examples=200, deadline=None)
@given(NODES, KINDS, st.data())
def test_every_decision_of_a_cycle_is_what_the_definitions_say(nodes: list[Node], kinds: Any, data: Any) -> None:
    by_name = {item.metadata.name: item for item in nodes}
    running: dict[str, list[Pod]] = {name: [] for name in by_name}
    there: dict[str, tuple[Node, Pod]] = {}
    for number in range(data.draw(st.integers(0, 4))):
        item, at = app(f"r{number}", **data.draw(st.sampled_from(kinds))), data.draw(st.sampled_from(nodes))
        running[at.metadata.name].append(item)
        there[item.metadata.name] = (at, item)
    pending = [app(f"p{number}", **data.draw(st.sampled_from(kinds))) for number in range(data.draw(st.integers(1, 6)))]
    seen = snapshot(nodes, pending, running, namespaces={"default": {}})
    for decision in decide(seen, ALL):
        item = decision.pod.pod
        possible = {name for name, at in by_name.items() if allowed(item, at, nodes, there)}
        if isinstance(decision, Placed):
            assert decision.node in possible
            there[item.metadata.name] = (by_name[decision.node], item)
        else:
            assert not possible


@settings(max_examples=100, deadline=None)
@given(NODES, KINDS, st.data())
def test_a_kept_cluster_decides_as_a_new_one_would(nodes: list[Node], kinds: Any, data: Any) -> None:
    first = _any_moment(nodes, kinds, data, "x")
    kept = Cluster(first)
    assert decide(first, ALL, kept) == decide(first, ALL)
    again = _any_moment(nodes[data.draw(st.integers(0, 1)) :], kinds, data, "y", first)
    assert decide(again, ALL, kept) == decide(again, ALL)


def _any_moment(nodes: list[Node], kinds: Any, data: Any, prefix: str, before: Snapshot | None = None) -> Snapshot:
    """Nodes with pods; some nodes stay the very objects that they were `before`."""

    def some(name: str, most: int) -> list[Pod]:
        drawn = data.draw(st.lists(st.sampled_from(kinds), max_size=most))
        return [app(f"{name}{number}", **kind) for number, kind in enumerate(drawn)]

    running = {item.metadata.name: some(f"{prefix}-{item.metadata.name}-", 2) for item in nodes}
    seen = snapshot(nodes, some(prefix, 4), running, namespaces={"default": {}})
    if before is None:
        return seen
    same = {name: before.nodes[name] if data.draw(st.booleans()) else info for name, info in seen.nodes.items()}
    return Snapshot(same, seen.pending, namespaces=seen.namespaces)


def test_a_pod_placed_in_the_cycle_shuns_the_next_of_a_kind_that_was_looked_at_before_it() -> None:
    shunning = app("p2", "red", cpu="1", affinity=away(term("blue", HOST)))
    found = placed(snapshot([A, B], [app("p1", "blue", cpu="3"), shunning, app("p3", "blue", cpu="500m")]))
    assert found["p1"] != found["p2"]
    assert found["p3"] == found["p1"]  # although the other node is emptier
