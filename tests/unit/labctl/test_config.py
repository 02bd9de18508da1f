from pathlib import Path

import pytest

from labctl import config
from labctl.config import LabConfig, NodeConfig, TaintConfig
from labctl.runtime.errors import UsageError
from labctl.vm.layout import lay_out

FULL = """\
name: edge
provider: lxc
network: 10.80.1.0/24
profile: kubernetes
masters: 1
workers:
  - cpus: 2
    memory: 2Gi
    labels: {zone: a}
    taints: [{key: spot, effect: NoSchedule}]
  - {}
"""


def test_a_full_file_is_read_field_by_field() -> None:
    lab = config.parse(FULL, "lab.yaml")
    assert (lab.name, lab.provider, lab.profile, lab.masters) == ("edge", "lxc", "kubernetes", 1)
    assert lab.workers == (
        NodeConfig(cpus=2, memory="2Gi", labels={"zone": "a"}, taints=(TaintConfig("spot", "NoSchedule"),)),
        NodeConfig(),
    )


def test_an_empty_file_says_nothing() -> None:
    assert config.parse("", "lab.yaml") == LabConfig()


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("name: lab\nworker: 2\n", "lab.yaml:2: worker: ", "unknown field; known are name, provider"),
        ("workers:\n  - cpus: 1\n  - cpu: 1\n", "lab.yaml:3: workers[1].cpu: ", "known are cpus, memory"),
        ("workers:\n  - cpus: 0\n", "lab.yaml:2: workers[0].cpus: ", ">= 1"),
        ("workers:\n  - memory: 64Mi\n", "lab.yaml:2: workers[0].memory: ", "at least 256Mi"),
        ("workers:\n  - memory: lots\n", "lab.yaml:2: workers[0].memory: ", "not a size"),
        ("\nmasters: 2\n", "lab.yaml:2: masters: ", "quorum"),
        ("masters: 0\n", "lab.yaml:1: masters: ", "quorum"),
        ("workers: 900\n", "lab.yaml:1: workers: ", "at most 200"),
        ("profile: quick\n", "lab.yaml:1: profile: ", "'quick' is not one of fast, kubernetes"),
        ("name: Lab_1\n", "lab.yaml:1: name: ", "matching regex"),
        ("network: 10.77.0.0/16\n", "lab.yaml:1: network: ", "/24"),
        ("network: 10.77.0.1/24\n", "lab.yaml:1: network: ", "host bits"),
        ("network: 10.77.0.0/24\ncluster_cidr: 10.77.0.0/16\n", "lab.yaml:2: cluster_cidr: ", "overlaps network"),
        ("workers: [\n", "lab.yaml:2: ", "not YAML"),
        ("- a\n", "lab.yaml:1: ", "expected `object`"),
    ],
)
def test_an_error_names_file_line_and_field(text: str, where: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.parse(text, "lab.yaml")
    assert str(caught.value).startswith(where)
    assert what in str(caught.value)
    assert caught.value.exit_code == 2


def test_flags_win_over_the_file_and_none_changes_nothing() -> None:
    lab = config.parse(FULL, "lab.yaml").merged(provider="vagrant", workers=3, profile=None)
    assert (lab.provider, lab.workers, lab.profile) == ("vagrant", 3, "kubernetes")


def test_flags_are_checked_like_the_file() -> None:
    with pytest.raises(UsageError, match="profile"):
        config.check(LabConfig().merged(profile="slow"))


def test_a_named_file_that_is_missing_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        config.load(tmp_path / "none.yaml")


def test_the_current_folder_needs_no_file(tmp_path: Path) -> None:
    assert config.load(None, cwd=tmp_path) == LabConfig()


def test_state_is_found_from_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / ".labctl").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    assert config.settings({}, tmp_path / "deep" / "er").state_root == tmp_path / ".labctl"


def test_the_environment_names_state_and_cache(tmp_path: Path) -> None:
    found = config.settings(
        {"LABCTL_STATE_DIR": str(tmp_path / "s"), "LABCTL_CACHE_DIR": str(tmp_path / "c")}, tmp_path
    )
    assert (found.state_root, found.cache_dir) == (tmp_path / "s", tmp_path / "c")


@pytest.mark.parametrize(
    ("text", "fencing", "command"),
    [
        ("", "power", ""),
        ("fencing: self", "self", ""),
        ("fencing: {command: poweroff $LABCTL_NODE}", "power", "poweroff $LABCTL_NODE"),
        ("fencing: {mode: none}", "none", ""),
    ],
)
def test_fencing_is_a_mode_or_a_mode_and_a_command(text: str, fencing: str, command: str) -> None:
    topology = lay_out(config.parse(text, "lab.yaml"), None, [])
    assert (topology.fencing, topology.fencing_command) == (fencing, command)
    again = lay_out(config.LabConfig(), topology, [])
    assert (again.fencing, again.fencing_command) == (fencing, command)


@pytest.mark.parametrize(("text", "said"), [("fencing: gently", "fencing"), ("fencing: {how: off}", "mode, command")])
def test_a_wrong_fencing_is_named(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        config.parse(text, "lab.yaml")
