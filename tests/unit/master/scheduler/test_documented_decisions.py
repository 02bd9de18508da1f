"""Every decision of `decisions.yaml`, by the whole cycle with every plugin."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from master.scheduler.cluster import Cluster
from master.scheduler.cycle import Placed, Unschedulable, decide
from master.scheduler.search import Profile, search
from master.scheduler.snapshot import Snapshot
from master.scheduler.views import Budget, Node, Pod
from tests.unit.master.scheduler.cluster import ALL, node, pod, snapshot

Case = dict[str, Any]
CASES: list[Case] = yaml.safe_load(Path(__file__).with_name("decisions.yaml").read_text())["cases"]
REQUIRED, PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)
RULES = ("require", "prefer", "near", "away", "avoid", "tolerate", "spread")
CHECKS = ("fits", "goes", "says", "victims", "where", "apart")


def test_there_are_enough_cases_each_with_its_source_and_a_check() -> None:
    assert len(CASES) >= 60
    assert len({case["case"] for case in CASES}) == len(CASES)
    for case in CASES:
        assert "#" in case["source"]
        assert any(check in case for check in CHECKS), case["case"]
        unknown = case.keys() - {"case", "source", "nodes", "running", "pod", "queue", "namespaces", "budgets"}
        assert unknown <= {*RULES, *CHECKS}, case["case"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_decision_is_as_documented(case: Case) -> None:
    seen = _snapshot(case)
    decisions = decide(seen, ALL)
    if "fits" in case:
        found = search(seen.pending[0], Cluster(seen), Profile.of(ALL))
        assert sorted(verdict.node.name for verdict in found.fitting) == sorted(case["fits"])
        assert isinstance(decisions[0], Placed) == bool(case["fits"])
    if "goes" in case:
        assert isinstance(decisions[0], Placed)
        assert decisions[0].node == case["goes"]
    if "says" in case:
        assert isinstance(decisions[0], Unschedulable)
        assert case["says"] in decisions[0].message
    if "victims" in case:
        assert isinstance(decisions[0], Unschedulable)
        assert [victim.meta.name for victim in decisions[0].victims] == case["victims"]
    where = {decision.pod.meta.name: decision.node if isinstance(decision, Placed) else "" for decision in decisions}
    if "where" in case:
        assert where == case["where"]
    if "apart" in case:
        taken = Counter(name for name in where.values() if name)
        assert (len(taken), set(taken.values())) == (case["apart"], {1})


def _snapshot(case: Case) -> Snapshot:
    numbers = itertools.count()
    running = {
        name: [_pod(item, f"r{next(numbers)}", {}) for item in items] for name, items in case.get("running", {}).items()
    }
    rules = {key: case[key] for key in RULES if key in case}
    pending = [_pod(item, "p", rules) for item in case.get("queue", [case.get("pod", {})])]
    budgets = tuple(_budget(app, allowed) for app, allowed in case.get("budgets", {}).items())
    nodes = [_node(name, item) for name, item in case["nodes"].items()]
    return snapshot(nodes, pending, running, namespaces=case.get("namespaces", {"default": {}}), budgets=budgets)


def _node(name: str, item: Case) -> Node:
    labels, taints = item.get("labels", {}), tuple(item.get("taints", ()))
    return node(name, item.get("room"), taints=taints, labels=labels, unschedulable=item.get("unschedulable", False))


def _budget(app: str, allowed: int) -> Budget:
    meta = {"name": app, "namespace": "default"}
    spec = {"selector": {"matchLabels": {"app": app}}}
    return msgspec.convert({"metadata": meta, "spec": spec, "status": {"disruptionsAllowed": allowed}}, Budget)


def _pod(item: Case, name: str, rules: Case) -> Pod:
    """`item` says what kind of pod; what is not ours goes into its spec."""
    spec = dict(item)
    meta: Case = {"labels": spec.pop("labels", {})}
    if "namespace" in spec:
        meta["namespace"] = spec.pop("namespace")
    if spec.pop("leaving", False):
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    if "requests" in spec:
        spec["container"] = {"resources": {"requests": spec.pop("requests")}}
    if "hostPort" in spec:
        spec["container"] = {"ports": [{"containerPort": 80, "hostPort": spec.pop("hostPort")}]}
    if "shuns" in spec:
        rules = {"away": [spec.pop("shuns")]}
    return pod(spec.pop("name", name), meta=meta, **spec, **_ruled(rules))


def _ruled(rules: Case) -> Case:
    affinity: Case = {}
    terms = [{"matchExpressions": term} for term in rules.get("require", ())]
    wishes = [
        {"weight": weight, "preference": {"matchExpressions": [term]}} for weight, term in rules.get("prefer", ())
    ]
    if terms or wishes:
        required = {REQUIRED: {"nodeSelectorTerms": terms}} if terms else {}
        affinity["nodeAffinity"] = {**required, PREFERRED: wishes}
    affinity["podAffinity"] = {REQUIRED: rules.get("near", [])}
    avoided = [{"weight": weight, "podAffinityTerm": term} for weight, term in rules.get("avoid", ())]
    affinity["podAntiAffinity"] = {REQUIRED: rules.get("away", []), PREFERRED: avoided}
    spec: Case = {"affinity": affinity}
    if "tolerate" in rules:
        spec["tolerations"] = rules["tolerate"]
    if "spread" in rules:
        spec["topologySpreadConstraints"] = rules["spread"]
    return spec
