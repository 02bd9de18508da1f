"""Owners of fields through any sequence of writes and applies, without a server."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from labctl.kube.fieldset import Fields, difference, paths
from labctl.kube.managed import APPLY, UPDATE, Application, Conflicts, Managers, apply, decode, encode, track, writer
from labctl.kube.merging import flaws, merge, prune
from labctl.kube.typed import Difference, Rule, compare, object_set, rule_of
from master.apiserver import schemas

Document = dict[str, Any]


def rule(name: str) -> Rule:
    return rule_of(schemas.load().shape(name))


POD = rule("io.k8s.api.core.v1.Pod")
SPEC = rule("io.k8s.api.core.v1.PodSpec")


@dataclass
class Thing:
    """An object and its owners."""

    document: Document = field(default_factory=lambda: {"apiVersion": "v1", "kind": "Pod", "metadata": {"uid": "u"}})
    owners: Managers = field(default_factory=dict)
    hour: int = 0

    def differs(self, new: Document) -> Any:
        old = self.document

        def at(version: str) -> Difference | None:
            return compare(old, new, POD) if version == "v1" else None

        return at

    def update(self, name: str, new: Document) -> None:
        self.hour += 1
        new = {**self.document, **new}
        self.owners = track(self.owners, writer(name, UPDATE, "v1", ""), "v1", f"{self.hour:04}", self.differs(new))
        self.document = new

    def apply(self, name: str, config: Document, *, force: bool = False) -> None:
        self.hour += 1
        config = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, **config}
        wanted = Application(writer(name, APPLY, "v1", ""), config, POD, f"{self.hour:04}", force)
        done = apply(self.document, self.owners, wanted, self.differs)
        self.document, self.owners = done.document, done.managers

    def of(self, name: str) -> list[str]:
        for manager, entry in self.owners.items():
            if manager.name == name:
                return list(paths(entry.fields))
        return []


def started() -> Thing:
    """A thing that somebody keeps track of."""
    thing = Thing()
    thing.update("creator", {"spec": {"restartPolicy": "Always"}})
    thing.owners = {}
    thing.apply("founder", {"spec": {"restartPolicy": "Always"}})
    return thing


# --- any sequence of writes -----------------------------------------------------------------------------------------

NAMES: some.SearchStrategy[Any] = some.sampled_from("abc")
CONTAINER: some.SearchStrategy[Any] = some.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "image": some.sampled_from(["1", "2"]),
        "args": some.lists(NAMES, max_size=2),
        "ports": some.lists(
            some.fixed_dictionaries({"containerPort": some.sampled_from([80, 81])}, optional={"name": NAMES}),
            max_size=2,
            unique_by=lambda port: port["containerPort"],
        ),
        "resources": some.fixed_dictionaries({}, optional={"limits": some.dictionaries(NAMES, NAMES, max_size=2)}),
    },
)
CONTAINERS = some.lists(CONTAINER, max_size=3, unique_by=lambda item: item["name"])
CONFIGS: some.SearchStrategy[Any] = some.fixed_dictionaries(
    {},
    optional={
        "spec": some.fixed_dictionaries(
            {},
            optional={
                "containers": CONTAINERS,
                "hostname": NAMES,
                "nodeSelector": some.dictionaries(NAMES, NAMES, max_size=2),
                "tolerations": some.lists(some.fixed_dictionaries({"key": NAMES}), max_size=2),
                "securityContext": some.fixed_dictionaries({}, optional={"runAsUser": some.integers(0, 2)}),
            },
        ),
        "metadata": some.fixed_dictionaries(
            {"name": some.just("p")},
            optional={
                "labels": some.dictionaries(NAMES, NAMES, max_size=3),
                "finalizers": some.lists(NAMES, max_size=3, unique=True),
            },
        ),
    },
)
WRITES = some.lists(
    some.tuples(some.sampled_from(["update", "apply", "force"]), some.sampled_from(["x", "y", "z"]), CONFIGS),
    max_size=6,
)


def run(writes: list[tuple[str, str, Document]]) -> Thing:
    thing = started()
    for how, name, config in writes:
        if how == "update":
            kept = {"uid": "u", "name": "p"}
            thing.update(name, {**config, "metadata": {**(config.get("metadata") or {}), **kept}})
        else:
            try:
                thing.apply(name, config, force=how == "force")
            except Conflicts:
                assert how == "apply"
    return thing


def holds(whole: Any, part: Any, where: Rule) -> bool:
    """Whether applying `part` to `whole` changes nothing."""
    return bool(merge(whole, part, where) == whole)


@given(WRITES, CONFIGS)
def test_what_was_applied_is_there_and_applying_it_again_changes_nothing(writes: Any, config: Document) -> None:
    thing = run(writes)
    thing.apply("x", config, force=True)
    assert holds(thing.document, config, POD)
    once, owners = copy.deepcopy(thing.document), {key: entry.fields for key, entry in thing.owners.items()}
    thing.apply("x", config)
    assert thing.document == once
    assert {key: entry.fields for key, entry in thing.owners.items()} == owners


@given(WRITES, CONFIGS)
def test_an_apply_without_force_never_changes_what_others_own(writes: Any, config: Document) -> None:
    thing = run(writes)
    before, owners = copy.deepcopy(thing.document), thing.owners
    try:
        thing.apply("w", config)
    except Conflicts as conflicts:
        assert thing.document == before
        for manager, path in conflicts.found:
            assert path in set(paths(owners[manager].fields))
        return
    changed = compare(before, thing.document, POD)
    for entry in owners.values():
        assert not set(paths(entry.fields)) & set(paths(changed.changed))
        assert difference(entry.fields, changed.gone) == entry.fields


@given(WRITES, CONFIGS)
def test_a_newcomer_who_takes_back_their_additions_leaves_no_trace(writes: Any, config: Document) -> None:
    thing = run(writes)
    before = copy.deepcopy(thing.document)
    added = copy.deepcopy(thing)
    try:
        added.apply("w", config)
    except Conflicts:
        return
    added.apply("w", {})
    assert "w" not in {manager.name for manager in added.owners}
    gained = compare(before, added.document, POD)
    # Only an empty shell can stay (or go): a field that somebody named without anything in it.
    assert not [path for path in paths(gained.changed) if _value(added.document, path)]


def _value(document: Document, path: str) -> Any:
    node: Any = document
    for part in path.strip(".").split("."):
        if not isinstance(node, dict):
            return None
        node = node.get(part)
    return node


@given(WRITES)
def test_nobody_owns_what_nobody_ever_wrote(writes: Any) -> None:
    thing = run(writes)
    everything = {path for _, _, config in writes for path in paths(object_set(config, POD, dotted=True))}
    everything |= {".spec.restartPolicy"}
    for entry in thing.owners.values():
        assert set(paths(entry.fields)) <= everything


@given(WRITES)
def test_the_list_of_owners_survives_its_wire_form(writes: Any) -> None:
    owners = run(writes).owners
    assert decode(encode(owners)) == owners


@given(CONFIGS, CONFIGS)
def test_merging_leaves_its_inputs_alone(live: Document, config: Document) -> None:
    before = copy.deepcopy((live, config))
    merged = merge(live, config, POD)
    prune(merged, object_set(live, POD), object_set(config, POD), POD)
    assert (live, config) == before


@given(CONFIGS, CONFIGS)
def test_a_change_is_empty_exactly_where_nothing_changed(old: Document, new: Document) -> None:
    one, two = ({"spec": config.get("spec", {})} for config in (old, new))
    assert bool(compare(one, two, POD)) == (one != two)


# --- documented cases -----------------------------------------------------------------------------------------------


def test_items_keep_their_places_and_shared_ones_follow_the_configuration() -> None:
    def names(spec: Any) -> str:
        return "".join(item["name"] for item in spec["containers"])

    def spec(text: str) -> Document:
        return {"containers": [{"name": name} for name in text]}

    for live, config, merged in (
        ("abc", "c", "abc"),
        ("abc", "cb", "acb"),
        ("abc", "dc", "abdc"),
        ("", "ba", "ba"),
        ("ab", "", "ab"),
        ("abcde", "ec", "abdec"),
    ):
        assert names(merge(spec(live), spec(config), SPEC)) == merged, (live, config)


def test_an_atomic_list_is_replaced_whole() -> None:
    live, config = {"tolerations": [{"key": "a"}, {"key": "b"}]}, {"tolerations": [{"key": "c"}]}
    assert merge(live, config, SPEC) == config


def test_an_empty_map_says_nothing_about_what_is_in_it() -> None:
    assert merge({"securityContext": {"runAsUser": 1}}, {"securityContext": {}}, SPEC) == {
        "securityContext": {"runAsUser": 1}
    }


def test_items_that_come_twice_or_without_a_key_are_told() -> None:
    config = {
        "containers": [{"name": "a", "ports": [{"containerPort": 1}, {"protocol": "TCP", "containerPort": 1}]}],
        "volumes": [{"name": "v"}, {"name": "v"}],
        "hostAliases": [{"hostnames": ["h"]}],
    }
    assert flaws(config, SPEC, ".spec") == [
        '.spec.containers[name="a"].ports: duplicate entries for key [containerPort=1,protocol="TCP"]',
        '.spec.volumes: duplicate entries for key [name="v"]',
        '.spec.hostAliases: element 0: associative list with keys has an element that omits all key fields ["ip"]',
    ]


def test_items_that_come_twice_in_what_is_stored_are_kept() -> None:
    live = {"containers": [{"name": "a", "image": "1"}, {"name": "a", "image": "2"}, {"name": "b"}]}
    merged = merge(live, {"containers": [{"name": "b", "image": "3"}]}, SPEC)
    assert merged == {"containers": [*live["containers"][:2], {"name": "b", "image": "3"}]}


def test_an_item_goes_whole_with_what_was_defaulted_in_it() -> None:
    thing = started()
    thing.apply("x", {"spec": {"containers": [{"name": "a", "image": "1"}]}})
    thing.document["spec"]["containers"][0]["imagePullPolicy"] = "Always"  # a default: nobody's
    thing.apply("x", {"spec": {"hostname": "h"}})
    assert "containers" not in thing.document["spec"]


def test_an_item_that_another_owns_too_stays_with_what_they_own() -> None:
    thing = started()
    thing.apply("x", {"spec": {"containers": [{"name": "a", "image": "1", "tty": True}]}})
    thing.apply("y", {"spec": {"containers": [{"name": "a", "image": "1"}]}})
    thing.apply("x", {})
    assert thing.document["spec"]["containers"] == [{"name": "a", "image": "1"}]


def test_an_updater_takes_what_it_changes_and_only_that() -> None:
    thing = started()
    thing.apply("x", {"spec": {"containers": [{"name": "a", "image": "1", "tty": True}]}})
    new = copy.deepcopy(thing.document)
    new["spec"]["containers"][0]["image"] = "2"
    thing.update("setter", new)
    assert thing.of("setter") == ['.spec.containers[name="a"].image']
    assert '.spec.containers[name="a"].image' not in thing.of("x")
    assert '.spec.containers[name="a"].tty' in thing.of("x")


def test_an_owner_in_a_version_that_is_no_more_is_forgotten() -> None:
    thing = started()
    (manager, entry), *_ = thing.owners.items()
    old = {**encode({manager: entry})[0], "apiVersion": "v1alpha1", "manager": "old"}
    thing.owners = decode([*encode(thing.owners), old])
    thing.apply("x", {"spec": {"hostname": "h"}})
    assert {manager.name for manager in thing.owners} == {"before-first-apply", "founder", "x"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "io.k8s.api.core.v1.Service",
            {"f:spec": {"f:ports": {'k:{"port":1,"protocol":"TCP"}': {".": {}, "f:port": {}}}}},
        ),
        ("io.k8s.api.apps.v1.Deployment", {"f:spec": {"f:selector": {}}}),
        ("io.k8s.api.core.v1.Pod", {"f:spec": {"f:nodeSelector": {}}}),
        ("io.k8s.api.core.v1.ConfigMap", {"f:data": {"f:a": {}}, "f:binaryData": {}}),
        ("io.k8s.api.core.v1.Secret", {"f:data": {"f:a": {}}, "f:type": {}}),
        (
            "io.k8s.api.core.v1.ServiceAccount",
            {"f:imagePullSecrets": {}, "f:secrets": {'k:{"name":"s"}': {}}},
        ),
    ],
)
def test_fields_divide_as_upstreams_schemas_say(name: str, expected: Fields) -> None:
    documents: dict[str, Document] = {
        "Service": {"spec": {"ports": [{"port": 1}]}},
        "Deployment": {"spec": {"selector": {"matchLabels": {"a": "b"}}}},
        "Pod": {"spec": {"nodeSelector": {"a": "b"}}},
        "ConfigMap": {"data": {"a": "1"}, "binaryData": {}},
        "Secret": {"data": {"a": "Zg=="}, "type": "Opaque"},
        "ServiceAccount": {"imagePullSecrets": [{"name": "x"}], "secrets": [{"name": "s"}]},
    }
    found = object_set({"metadata": {"name": "n", "uid": "u"}, **documents[name.rpartition(".")[2]]}, rule(name))
    assert found == expected


def test_without_a_schema_objects_divide_and_lists_do_not() -> None:
    found = object_set({"spec": {"a": {"b": 1}, "c": [{"name": "x"}]}}, rule_of(None))
    assert found == {"f:spec": {"f:a": {"f:b": {}}, "f:c": {}}}
