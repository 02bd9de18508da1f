"""nerdctl's command line and answers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agents.kubelet import nerdctl_cli as cli
from agents.kubelet.nerdctl_cli import Settings
from agents.kubelet.runtime import ContainerSpec, Limits, Mount, PodRef, Sandbox

POD = PodRef("u1", "default", "web")
SPEC = ContainerSpec(
    pod=POD,
    name="main",
    attempt=2,
    image="web:1",
    command=(),
    args=(),
    env={},
    mounts=(),
    sandbox=Sandbox(POD, "10.1.0.2", "/run/netns/pod-u1", 1.0),
    hostname="web",
)


def words(spec: ContainerSpec = SPEC) -> list[str]:
    return cli.run_arguments(spec, Settings(), image_id="sha256:1", pid_file="/p", id_file="/i")


def values(option: str, spec: ContainerSpec = SPEC) -> list[str]:
    """What follows each occurrence of an option."""
    found = words(spec)
    return [found[at + 1] for at, word in enumerate(found) if word == option]


def test_a_container_is_named_and_labelled_as_upstreams() -> None:
    assert values("--name") == ["k8s_main_web_default_u1_2"]
    assert "io.kubernetes.pod.uid=u1" in values("--label")
    assert "io.kubernetes.container.attempt=2" in values("--label")
    assert values("--cgroup-parent") == ["/kubepods/podu1"]
    assert values("--pull") == ["never"]


def test_our_labels_win_over_the_callers() -> None:
    labels = values("--label", replace(SPEC, labels={"a": "b", cli.POD_UID: "forged"}))
    assert "a=b" in labels
    assert [label for label in labels if label.startswith(cli.POD_UID)] == ["io.kubernetes.pod.uid=u1"]


def test_the_network_is_the_pods_or_the_hosts() -> None:
    assert (values("--network"), values("--hostname")) == (["ns:/run/netns/pod-u1"], ["web"])
    on_host = replace(SPEC, sandbox=Sandbox(POD, "", "", 1.0), hostname="")
    assert (values("--network", on_host), values("--hostname", on_host)) == (["host"], [])


def test_the_command_replaces_the_entrypoint_and_arguments_come_last() -> None:
    spec = replace(SPEC, command=("sh", "-c"), args=("echo --name",))
    assert values("--entrypoint", spec) == ["sh", "-c"]
    assert words(spec)[-2:] == ["web:1", "echo --name"]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), {"--cpu-shares": ["2"], "--cpu-quota": [], "--memory": [], "--oom-score-adj": ["0"]}),
        (Limits(cpu_request_milli=1500), {"--cpu-shares": ["1536"]}),
        (Limits(cpu_limit_milli=250), {"--cpu-quota": ["25000"], "--cpu-period": ["100000"]}),
        (Limits(cpu_limit_milli=1), {"--cpu-quota": ["1000"]}),
        (Limits(memory_limit_bytes=5), {"--memory": ["5"], "--memory-swap": ["5"]}),
        (Limits(oom_score_adj=-997), {"--oom-score-adj": ["-997"]}),
    ],
)
def test_limits_are_upstreams_figures(limits: Limits, expected: dict[str, list[str]]) -> None:
    spec = replace(SPEC, limits=limits)
    assert {option: values(option, spec) for option in expected} == expected


def test_mounts_carry_mode_and_propagation() -> None:
    mounts = (
        Mount("/a", "/b"),
        Mount("/a", "/c", read_only=True),
        Mount("/a", "/d", read_only=True, propagation="rslave"),
    )
    assert values("--volume", replace(SPEC, mounts=mounts)) == ["/a:/b", "/a:/c:ro", "/a:/d:ro,rslave"]


def test_security_is_passed_on() -> None:
    spec = replace(
        SPEC,
        user="5:6",
        groups=(7, 8),
        read_only_root=True,
        add_capabilities=("NET_ADMIN",),
        drop_capabilities=("ALL",),
        host_pid=True,
        tty=True,
    )
    assert (values("--user", spec), values("--group-add", spec)) == (["5:6"], ["7", "8"])
    assert (values("--cap-add", spec), values("--cap-drop", spec), values("--pid", spec)) == (
        ["NET_ADMIN"],
        ["ALL"],
        ["host"],
    )
    assert {"--read-only", "--tty"} <= set(words(spec))
    assert "--privileged" not in words(spec)
    assert "--privileged" in words(replace(SPEC, privileged=True))


def test_a_log_goes_where_it_should_and_is_rotated() -> None:
    spec = replace(SPEC, log_path="/var/log/pods/x/0.log")
    assert values("--log-opt", spec) == ["log-path=/var/log/pods/x/0.log", "max-size=10485760", "max-file=5"]
    assert values("--log-driver") == ["none"]


def entry(status: str, **state: Any) -> dict[str, Any]:
    """An inspected container."""
    spec = replace(SPEC, log_path="/l")
    return {
        "Id": "c1",
        "Image": "web:1",
        "State": {"Status": status, "Pid": 7, "ExitCode": 0, "StartedAt": "", "FinishedAt": "", **state},
        "Config": {"Labels": cli.identity(spec, "sha256:1")},
    }


def test_an_inspected_container_is_read() -> None:
    found = cli.status_of(entry("running", StartedAt="2026-01-01T00:00:00.5Z"))
    assert found is not None
    assert (found.phase, found.pid, found.pod, found.name, found.attempt) == ("running", 7, POD, "main", 2)
    assert (found.started_s, found.image_id, found.log_path) == (1767225600.5, "sha256:1", "/l")


@pytest.mark.parametrize(
    ("status", "phase"),
    [("running", "running"), ("paused", "running"), ("exited", "exited"), ("created", "created"), ("", "created")],
)
def test_containerds_states_become_ours(status: str, phase: str) -> None:
    found = cli.status_of(entry(status))
    assert found is not None
    assert found.phase == phase
    assert (found.pid == 0) == (phase != "running")


def test_a_strangers_container_is_none_of_ours() -> None:
    stranger = entry("running") | {"Config": {"Labels": None}}
    assert cli.status_of(stranger) is None


def test_a_container_whose_end_nobody_saw_is_lost() -> None:
    created = cli.status_of(entry(""))
    assert created is not None
    found = cli.lost(created, started_s=5.0, seen_s=9.0)
    assert (found.phase, found.exit_code, found.started_s, found.finished_s) == ("exited", 255, 5.0, 9.0)


def test_inspect_writes_a_list_for_each_container() -> None:
    assert list(cli.entries_of('[\n {"Id": "a"}\n]\n\n[\n {"Id": "b"}\n]\n')) == [{"Id": "a"}, {"Id": "b"}]
    assert list(cli.entries_of("\n")) == []


def test_images_join_their_names_and_read_their_size() -> None:
    lines = [
        json.dumps({"ID": "sha256:1", "Name": "a:1", "Size": "2.019MB"}),
        json.dumps({"ID": "sha256:1", "Name": "b:1", "Size": "2.019MB"}),
        json.dumps({"ID": "sha256:2", "Repository": "<none>", "Tag": "<none>", "Size": "1 KiB"}),
        "noise",
    ]
    one, two = cli.images_of(lines)
    assert (one.names, one.size_bytes) == (("a:1", "b:1"), 2_019_000)
    assert (two.names, two.size_bytes) == ((), 1024)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("me/app:2", "docker.io/me/app:2"),
        ("lab.local/web:1", "lab.local/web:1"),
        ("localhost/x", "localhost/x:latest"),
        ("lab.local:5000/x", "lab.local:5000/x:latest"),
        ("lab.local/x@sha256:ab", "lab.local/x@sha256:ab"),
    ],
)
def test_short_names_are_completed_as_nerdctl_does(name: str, full: str) -> None:
    assert cli.short_name(name) == full


FATAL = 'time="2026-11-22T19:03:26Z" level=fatal msg="{}"'


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (r"image not available: \"x\"", "ErrImageNeverPull"),
        (r"failed to create shim task: OCI runtime create failed: runc create failed: x", "RunContainerError"),
        (r"no users found", "CreateContainerError"),
    ],
)
def test_failures_have_upstreams_reasons(message: str, reason: str) -> None:
    assert cli.reason_of(FATAL.format(message)) == reason


def test_messages_lose_their_dressing() -> None:
    text = 'time="x" level=warning msg="a"\n' + FATAL.format(r"bad \"thing\"\nhappened")
    assert cli.message_of(text) == 'bad "thing" happened'
    assert cli.message_of("plain words\n") == "plain words"
    assert cli.message_of("") == "no output"


def test_a_taken_name_tells_by_whom() -> None:
    taken = r"name-store error\nname \"c2\" is already used by ID \"" + "8" * 64 + r"\""
    assert cli.taken_by(FATAL.format(taken)) == "8" * 64
    assert cli.taken_by("something else") == ""
