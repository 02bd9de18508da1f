"""The drill file: what it decodes to, the drill it becomes, how it tells of mistakes; and the schema for editors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from labctl.drills import faults, kinds, language, starter
from labctl.drills.build import drill_of
from labctl.drills.contract import silent_node
from labctl.drills.faults import Lift, Pause, PowerOff, Together, heals_of
from labctl.drills.faults_api import DeletePods, Drain
from labctl.drills.faults_network import Cut
from labctl.drills.faults_process import Freeze, Kill
from labctl.drills.model import Demand, Drill, Facts, Options
from labctl.drills.records import Scene
from labctl.drills.registry import drill_from, drill_of_run
from labctl.kube.timing import FAST
from labctl.runtime.errors import LabError, UsageError
from tests.unit.labctl.drills.drill_tales import pod

HEAD = "name: mine\n"
STEPS = "steps:\n  - {do: freeze, node: $victim, component: kubelet}\n"
SCENE = Scene(
    nodes=("worker1", "worker2", "worker3"), victims=("worker2", "worker3"), namespace="default", deployment="web",
    service="web", selector={"app": "web"}, node_port=30080, replicas=3, on_victims=2, masters=("master1",),
    machines={"master1": "10.0.0.10", "worker1": "10.0.0.21", "worker2": "10.0.0.22", "worker3": "10.0.0.23"},
    pod_networks={"worker1": "10.244.1.0/24", "worker2": "10.244.2.0/24", "worker3": "10.244.3.0/24"},
)  # fmt: skip
PODS = (pod("a", "worker2"), pod("b", "worker2"), pod("c", "worker3"))
FACTS = Facts(SCENE.nodes, PODS, SCENE.masters)


def drill(text: str) -> Drill:
    return drill_of(language.parse(HEAD + text, "mine.yaml"))


def steps(text: str) -> list[object]:
    indented = "".join(f"  {line}\n" for line in text.strip().splitlines())
    return list(drill(f"steps:\n{indented}").faults(SCENE))


# -- what steps become ------------------------------------------------------------------------------------------------


def test_steps_follow_each_other_as_written() -> None:
    found = steps(
        "- {do: power-off, node: worker1}\n- {do: wait, seconds: 5}\n- {do: kill, node: $master, component: etcd}"
    )
    assert found == [PowerOff("worker1"), Pause(5), Kill("master1", "etcd")]


def test_a_reference_to_several_nodes_strikes_them_at_once() -> None:
    assert steps("- {do: power-off, node: $victims}") == [Together((PowerOff("worker2"), PowerOff("worker3")))]
    assert steps("- {do: power-off, node: $victim2}") == [PowerOff("worker3")]
    assert steps("- {do: power-off, node: $survivor}") == [PowerOff("worker1")]


def test_a_reference_that_stands_for_nobody_is_misuse() -> None:
    with pytest.raises(UsageError, match=r"\$victim3 stands for no machine"):
        steps("- {do: power-off, node: $victim3}")


def test_peers_bear_their_own_addresses_and_those_of_their_pods() -> None:
    assert steps("- {do: cut, node: $victim, peers: [$masters, $victims], one_way: true}") == [
        Cut(
            node="worker2",
            peers=(("master1", ("10.0.0.10",)), ("worker3", ("10.0.0.23", "10.244.3.0/24"))),
            one_way=True,
        )
    ]


def test_what_is_done_to_pods_is_done_to_the_workloads() -> None:
    assert steps("- {do: delete-pods, on: [$victims], number: 2}\n- {do: drain, node: $survivor, patience_s: 9}") == [
        DeletePods(on=("worker2", "worker3"), namespace="default", selector={"app": "web"}, number=2),
        Drain(node="worker1", namespace="default", selector={"app": "web"}, patience_s=9),
    ]


def test_parallel_faults_are_one_step() -> None:
    text = (
        "- do: parallel\n  steps:\n    - {do: power-off, node: $victims}\n"
        "    - {do: kill, node: $master, component: etcd}"
    )
    assert steps(text) == [Together((PowerOff("worker2"), PowerOff("worker3"), Kill("master1", "etcd")))]


def test_a_repeat_is_written_out_and_a_lift_undoes_the_step_of_its_label() -> None:
    text = (
        "- do: repeat\n  times: 2\n  steps:\n    - {do: freeze, node: $victim, component: kubelet, label: a}\n"
        "    - {do: lift, label: a}"
    )
    frozen = Freeze("worker2", "kubelet")
    assert steps(text) == [frozen, Lift(frozen), frozen, Lift(frozen)]


def test_a_fault_that_is_repeated_is_undone_once() -> None:
    twice = "- do: repeat\n  times: 9\n  steps: [{do: power-off, node: worker1}, {do: power-off, node: worker2}]"
    found = heals_of([step for step in steps(twice) if isinstance(step, PowerOff)], Slow())  # type: ignore[arg-type]
    assert [action.text for action in found] == ["power worker1 on", "power worker2 on"]


class Slow:
    """All that these faults ask of a target."""

    slowness = 1.0


CHANCE = (
    "- do: one-of\n  steps: [{do: wait, seconds: 1}, {do: wait, seconds: 2}, {do: wait, seconds: 3}]\n"
    "- do: any-order\n  steps: [{do: wait, seconds: 4}, {do: wait, seconds: 5}, {do: wait, seconds: 6}]\n"
    "- {do: wait, seconds: 10, up_to: 20}\n"
)


def chosen(seed: int) -> list[float]:
    indented = "".join(f"  {line}\n" for line in CHANCE.splitlines())
    made = drill(f"seed: {seed}\nsteps:\n{indented}")
    first, second = ([step.seconds for step in made.faults(SCENE) if isinstance(step, Pause)] for _ in range(2))
    assert first == second  # a dry run tells what the run will do
    return first


def test_chance_comes_from_the_seed_alone() -> None:
    seen = [chosen(seed) for seed in range(12)]
    assert len({tuple(one) for one in seen}) > 6
    for one in seen:
        assert one[0] in {1, 2, 3}
        assert sorted(one[1:4]) == [4, 5, 6]
        assert 10 <= one[4] <= 20


# -- victims, bounds, checks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("victims", "asked", "expected"),
    [
        ("{}", (), ("worker2",)),
        ("{pick: idlest}", (), ("worker1",)),
        ("{count: 2}", (), ("worker2", "worker3")),
        ("{names: [worker3]}", (), ("worker3",)),
        ("{names: [worker3]}", ("worker1",), ("worker1",)),
        ("{count: 0}", (), ()),
    ],
)
def test_victims_are_chosen_as_the_file_says(victims: str, asked: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert drill(f"victims: {victims}\n{STEPS}").choose(FACTS, asked) == expected


def test_random_victims_follow_the_seed() -> None:
    picked = [drill(f"seed: {seed}\nvictims: {{pick: random}}\n{STEPS}").choose(FACTS, ()) for seed in range(12)]
    assert len(set(picked)) == 3
    again = [drill(f"seed: {seed}\nvictims: {{pick: random}}\n{STEPS}").choose(FACTS, ()) for seed in range(12)]
    assert picked == again


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("victims: {count: 3}\n" + STEPS, "needs 4 workers"),
        ("victims: {names: [worker9]}\n" + STEPS, "no node 'worker9'"),
        ("steps:\n  - {do: power-off, node: worker9}\n", "no machine 'worker9'"),
        ("steps:\n  - {do: cut, node: $victim, peers: [mastr1]}\n", "no machine 'mastr1'"),
        ("steps:\n  - {do: repeat, times: 2, steps: [{do: power-off, node: worker8}]}\n", "no machine 'worker8'"),
    ],
)
def test_a_lab_that_has_not_what_the_file_names_is_refused_before_anything_is_done(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        drill(text).choose(FACTS, ())


def test_bounds_are_the_contracts_with_the_files_own_in_their_place() -> None:
    made = drill(
        f"contract: silent-node\nexpect:\n  detected_s: {{at_most: 2}}\n  ready_again_s: {{at_most: 9}}\n{STEPS}"
    )
    bounds = {bound.measure: bound for bound in made.bounds(FAST, SCENE)}
    theirs = {bound.measure: bound for bound in silent_node(FAST, SCENE)}
    assert set(bounds) == {*theirs, "ready_again_s"}
    assert bounds["tainted_s"] == theirs["tainted_s"]
    assert (bounds["detected_s"].lower_s, bounds["detected_s"].upper_s) == (None, 2)
    assert bounds["detected_s"].title == theirs["detected_s"].title
    assert drill(STEPS).bounds(FAST, SCENE) == ()


def test_checks_stand_beside_those_that_are_always_made() -> None:
    assert set(drill(STEPS).checkers) == set("ABCDEF")
    assert set(drill(f"checks: [no-eviction, same-pods]\n{STEPS}").checkers) == {*"ABCDEF", "no eviction", "same pods"}


def test_the_load_is_the_files() -> None:
    demand = drill(f"load: {{rate_per_s: 5, path: /slow, writes_per_s: 4, stateful: self}}\n{STEPS}").demand
    assert (demand.rate_per_s, demand.path, demand.writes_per_s, demand.stateful) == (5, "/slow", 4, "self")


# -- kinds ------------------------------------------------------------------------------------------------------------


def test_a_new_fault_class_is_a_new_kind_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, slots=True)
    class HeatUp(PowerOff):
        """Warm a machine."""

        degrees: float = 40.0

    HeatUp.__module__ = faults.__name__
    monkeypatch.setattr(faults, "HeatUp", HeatUp, raising=False)
    kinds.kinds.cache_clear()
    kinds.step_types.cache_clear()
    try:
        made = kinds.step_types()["heat-up"]
        assert set(made.__struct_fields__) == {"label", "node", "degrees"}
        assert kinds.make("heat-up", {"node": "worker1", "degrees": 50.0}) == HeatUp("worker1", 50.0)
    finally:
        kinds.kinds.cache_clear()
        kinds.step_types.cache_clear()


def test_every_fault_can_be_named_in_a_file_but_those_that_are_made_of_others() -> None:
    offered = {found.__name__ for found in kinds.kinds().values()}
    there = {found.__name__ for _, found in kinds._classes()}
    assert there - offered <= {"Together"}
    assert {"PowerOff", "Reset", "Suspend", "Freeze", "Kill", "StopUnit", "Cut"} <= offered


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "1: ", "missing required field `steps`"),
        ("steps: []\n", "2: steps: ", "length >= 1"),
        ("steps:\n  - {do: freez, node: $victim}\n", "3: steps[0].do: ", "did you mean 'freeze'?"),
        ("steps:\n  - do: freeze\n    nod: $victim\n", "4: steps[0].nod: ", "did you mean 'node'?"),
        ("steps:\n  - do: freeze\n    component: kubelet\n", "3: steps[0]: ", "missing required field `node`"),
        ("steps:\n  - do: freeze\n    node: $victin\n    component: kubelet\n", "4: steps[0].node: ", "'$victim'?"),
        ("steps:\n  - do: kill\n    node: a\n    component: kubelt\n", "5: steps[0].component: ", "mean 'kubelet'?"),
        ("steps:\n  - do: repeat\n    times: 0\n", "4: steps[0].times: ", ">= 1"),
        (
            "steps:\n  - do: repeat\n    times: 2\n    steps:\n      - {do: wait, secs: 1}\n",
            "6: steps[0].steps[0].secs: ", "known are seconds, up_to",
        ),
        ("steps:\n  - {do: parallel, steps: [{do: wait, seconds: 1}]}\n", "3: steps[0].steps[0].do: ", "'wait' is not"),
        (STEPS + "  - do: lift\n    label: nobody\n", "5: steps[1].label: ", "no earlier step is labelled 'nobody'"),
        ("steps:\n  - do: wait\n    seconds: 5\n    up_to: 4\n", "5: steps[0].up_to: ", "less than seconds"),
        (STEPS + "chekcs: []\n", "4: chekcs: ", "did you mean 'checks'?"),
        (STEPS + "checks:\n  - no-evicton\n", "5: checks[0]: ", "did you mean 'no-eviction'?"),
        (STEPS + "contract: silent\n", "4: contract: ", "did you mean 'silent-node'?"),
        (STEPS + "victims:\n  pick: bussiest\n", "5: victims.pick: ", "did you mean 'busiest'?"),
        (STEPS + "victims: {names: [a, a]}\n", "4: victims.names: ", "twice"),
        (STEPS + "expect:\n  detectd_s: {at_most: 1}\n", "5: expect.detectd_s: ", "did you mean 'detected_s'?"),
        (STEPS + "expect:\n  detected_s: {at_mst: 1}\n", "5: expect.detected_s.at_mst: ", "did you mean 'at_most'?"),
        (STEPS + "expect:\n  detected_s: {at_least: 2, at_most: 1}\n", "5: expect.detected_s: ", "more than"),
        (STEPS + "load: {rate_per_s: 0}\n", "4: load.rate_per_s: ", "> 0"),
        (STEPS + "load: {path: x y}\n", "4: load.path: ", "regex"),
        ("steps: [\n", "3: ", "not YAML"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_line_and_field(text: str, place: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        language.parse(HEAD + text, "mine.yaml")
    assert str(caught.value).startswith(f"mine.yaml:{place}"), str(caught.value)
    assert words in str(caught.value)


def test_repeats_of_repeats_have_an_end() -> None:
    inner = "{do: wait, seconds: 0}"
    for _ in range(3):
        inner = f"{{do: repeat, times: 100, steps: [{inner}]}}"
    with pytest.raises(UsageError, match="1000000 steps once repeats are written out; at most 1000"):
        language.parse(f"{HEAD}steps: [{inner}]\n", "mine.yaml")


def test_a_file_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        drill_from(tmp_path / "none.yaml")


# -- schema and starter -----------------------------------------------------------------------------------------------


def validator() -> Any:
    schema = json.loads(starter.schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


GOOD = [
    STEPS,
    f"steps:\n{''.join(f'  {line}' + chr(10) for line in CHANCE.splitlines())}",
    "victims: {count: 2}\nexpect: {detected_s: {at_most: 3}}\nchecks: [no-eviction]\ncontract: silent-node\n" + STEPS,
]
BAD = [
    "steps: []\n",
    "steps:\n  - {do: freez, node: $victim}\n",
    "steps:\n  - {do: freeze, node: $victin, component: kubelet}\n",
    "steps:\n  - {do: freeze, node: $victim, component: kubelt}\n",
    "steps:\n  - {do: parallel, steps: [{do: wait, seconds: 1}]}\n",
    STEPS + "checks: [no-evicton]\n",
    STEPS + "expect: {detectd_s: {}}\n",
    STEPS + "more: 1\n",
]


@pytest.mark.parametrize("text", [*GOOD, *BAD])
def test_the_schema_takes_and_refuses_what_labctl_does(text: str) -> None:
    try:
        language.parse(HEAD + text, "mine.yaml")
        taken = True
    except UsageError:
        taken = False
    assert taken is (text in GOOD)
    assert validator().is_valid(yaml.safe_load(HEAD + text)) is taken


def test_the_schema_knows_every_fault_check_contract_and_measure() -> None:
    text = starter.schema_text()
    from labctl.drills.vocabulary import contracts, expectations  # noqa: PLC0415

    for word in (*kinds.kinds(), *expectations(), *contracts(), "detected_s", "one-of", "any-order"):
        assert f'"{word}"' in text, word


def test_the_starter_is_a_drill_that_uses_its_own_name_and_satisfies_the_schema(tmp_path: Path) -> None:
    path, schema = starter.write("flaky-kubelet", tmp_path / "flaky.yaml")
    made = drill_from(path)
    assert made.name == "flaky-kubelet"
    assert made.faults(SCENE)
    assert path.read_text().startswith(f"# yaml-language-server: $schema=./{schema.name}\n")
    assert "labctl drill run -f flaky.yaml" in path.read_text()
    assert validator().is_valid(yaml.safe_load(path.read_text()))
    assert schema.read_text() == starter.schema_text()


@pytest.mark.parametrize("name", ["Flaky", "a b", "", "worker-power-loss", "x" * 80])
def test_a_name_that_cannot_be_a_drills_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        starter.write(name, tmp_path / "new.yaml")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("precious")
    with pytest.raises(UsageError, match="is there already"):
        starter.write("mine", tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == "precious"


def test_a_folder_that_is_not_there_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="No such file"):
        starter.write("mine", tmp_path / "none" / "mine.yaml")


def test_an_interrupted_run_finds_the_file_that_was_kept_with_it(tmp_path: Path) -> None:
    (tmp_path / "drill.yaml").write_text(HEAD + STEPS)
    assert drill_of_run(tmp_path, "mine").name == "mine"
    assert drill_of_run(tmp_path / "none", "worker-power-loss").name == "worker-power-loss"


def test_the_faults_modules_are_all_looked_into() -> None:
    modules = {found.__module__ for found in kinds.kinds().values()}
    assert isinstance(faults, ModuleType)
    assert {"labctl.drills.faults", "labctl.drills.faults_network", "labctl.drills.faults_process"} <= modules


@pytest.mark.parametrize(
    ("asked", "slowness", "rates"),
    [
        (Demand(), 1.0, (20, 2)),
        (Demand(), 2.0, (10, 1)),
        (Demand(), 12.0, (5, 0.5)),
        (Demand(rate_per_s=30), 12.0, (30, 0.5)),
    ],
)
def test_slow_machines_bear_a_smaller_load_unless_a_drill_names_one(
    asked: Demand, slowness: float, rates: tuple[float, float]
) -> None:
    under = Options().under(asked, slowness)
    assert (under.rate_per_s, under.writes_per_s) == rates
