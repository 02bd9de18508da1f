"""Programs written with client-go: typed clients that speak nothing but protobuf, informers, leader election."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.kube.client import Client
from labctl.kube.resources import CONFIG_MAPS, LEASES, NAMESPACES
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from tests.e2e import client_go
from tests.e2e.apiserver import ApiServer
from tests.etcd import Etcd

pytestmark = pytest.mark.etcd
CLOCK = SystemClock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that these tests may restart."""
    folder: Path = tmp_path_factory.mktemp("goclient")
    etcd = Etcd(folder / "etcd")
    etcd.start()
    running = ApiServer(folder, etcd.url)
    try:
        yield running.start()
    finally:
        running.kill()
        etcd.kill()


@pytest.fixture
def namespace(server: ApiServer) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    server.client().create(NAMESPACES, {"metadata": {"name": name}})
    return name


def config_map(name: str, value: str) -> dict[str, object]:
    return {"metadata": {"name": name, "labels": {"a": value}}, "data": {"a": value}}


def test_typed_objects_go_through_every_verb(server: ApiServer, namespace: str) -> None:
    assert client_go.run(server.admin, "crud", namespace) == [
        "created web 25% 250m 1",
        "listed 1 web true",
        "patched 3 update lab.local/web:2 3",
        "scaled 1",
        'deleted true deployments.apps "web" not found',
        "invalid metadata.name",
    ]


def test_the_dynamic_client_does_the_same_without_types(server: ApiServer, namespace: str) -> None:
    assert client_go.run(server.admin, "dynamic", namespace) == ["dynamic 2 2 3"]


def test_the_version_and_the_resources_are_discovered(server: ApiServer) -> None:
    assert client_go.run(server.admin, "discover") == [
        "version 1 37 true true",
        "openapi true io.k8s.api.core.v1.Pod.spec [map[group: kind:Pod version:v1]]",
        "openapi v3 true true",
    ]


@pytest.mark.parametrize("kind", ["informer", "metadata"])
def test_an_informer_sees_every_change_once_across_a_restart_of_the_server(
    server: ApiServer, namespace: str, kind: str
) -> None:
    client = server.client()
    client.create(CONFIG_MAPS, config_map("first", "1"), namespace)
    with client_go.Running(server.admin, kind, namespace) as program:
        _seen(program, "synced")
        client.create(CONFIG_MAPS, config_map("second", "1"), namespace)
        _seen(program, "added second")
        server.kill()
        server.start()
        client = server.client()
        client.create(CONFIG_MAPS, config_map("third", "1"), namespace)
        client.patch(CONFIG_MAPS, "second", config_map("second", "2"), namespace)
        client.delete(CONFIG_MAPS, "first", namespace)
        _seen(program, "deleted first")
        _seen(program, "added third")
        _seen(program, "updated second")
    told = [f"{words[0]} {words[1]} {words[-1]}" for line in program.lines if len(words := line.split()) > 1]
    assert sorted(told) == ["added first 1", "added second 1", "added third 1", "deleted first 1", "updated second 2"]


def _seen(program: client_go.Running, start: str) -> None:
    wait_for(
        lambda: any(line.startswith(start) for line in program.lines),
        what=f"{start!r} among {program.lines}",
        deadline_s=60,
        clock=CLOCK,
    )


def test_one_of_two_leads_and_the_other_takes_over_when_it_dies(server: ApiServer, namespace: str) -> None:
    with client_go.Running(server.admin, "lead", namespace, "one") as one:
        _seen(one, "leading")
        with client_go.Running(server.admin, "lead", namespace, "two") as two:
            _seen(two, "leader one")
            assert "leading" not in two.lines
            one.kill()
            _seen(two, "leading")
            assert _holder(server.client(), namespace) == "two"


def _holder(client: Client, namespace: str) -> str:
    spec = client.get(LEASES, "goclient", namespace)["spec"]
    assert isinstance(spec, dict)
    return str(spec["holderIdentity"])
