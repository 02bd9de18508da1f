"""Volumes: what is in them, how they change, and that nothing outside is touched when they go."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.kubelet.runtime import RuntimeFailure
from agents.kubelet.views import Pod
from agents.kubelet.volumes import NodeVolumes, Place
from labctl.kube.client import Client
from labctl.kube.errors import NotFound, Unavailable
from labctl.kube.resources import Resource
from labctl.runtime.clock import FakeClock
from labctl.runtime.shell import LocalShell, Output


class Api(Client):
    """Config maps and secrets by path, and tokens."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.down, self.accounts = False, True
        self.tokens = 0

    def request(self, method: str, path: str, **_: Any) -> bytes:
        if self.down:
            raise Unavailable("nobody answers")
        if path not in self.objects:
            raise NotFound(f"{path} not found")
        return json.dumps(self.objects[path]).encode()

    def post(self, resource: Resource, name: str, subresource: str, body: Any, namespace: str = "") -> dict[str, Any]:
        if self.down:
            raise Unavailable("nobody answers")
        if not self.accounts:
            raise NotFound(f'serviceaccounts "{name}" not found')
        self.tokens += 1
        spec = body["spec"]
        token = f"{namespace}/{name}/{spec['boundObjectRef']['name']}/{self.tokens}"
        return {"spec": {"expirationSeconds": spec["expirationSeconds"]}, "status": {"token": token}}

    def config_map(self, data: Mapping[str, str], **more: Any) -> None:
        self.objects["/api/v1/namespaces/default/configmaps/settings"] = {"data": dict(data), **more}

    def secret(self, data: Mapping[str, bytes]) -> None:
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        self.objects["/api/v1/namespaces/default/secrets/keys"] = {"data": encoded}


class Node:
    """A node's volumes over an API that the test owns."""

    def __init__(self, folder: Path) -> None:
        self.api, self.clock, self.folder = Api(), FakeClock(), folder
        self.volumes = self.again()

    def again(self) -> NodeVolumes:
        place = Place(str(self.folder / "root"), str(self.folder / "memory"), "10.0.0.5", 2000, 1 << 30)
        return NodeVolumes(self.api, LocalShell(), self.clock, place)

    def prepare(self, volume: dict[str, Any], **spec: Any) -> Path:
        """The one volume of a pod, brought here."""
        self.clock.advance(1)
        return Path(self.volumes.prepare(pod(volume, **spec))["v"])


def pod(*volumes: dict[str, Any], **spec: Any) -> Pod:
    found = {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", "labels": {"b": "2", "app": 'w"eb'}},
        "spec": {
            "nodeName": "w1",
            "containers": [{"name": "main", "resources": {"limits": {"memory": "64Mi"}}}],
            "volumes": [{"name": "v", **volume} for volume in volumes],
            **spec,
        },
        "status": {"podIP": "10.1.0.9"},
    }
    return msgspec.convert(found, Pod)


def contents(folder: Path) -> dict[str, str]:
    """What a reader finds, by visible path."""
    visible = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith("..")]
    files = [file for entry in visible for file in (entry.rglob("*") if entry.is_dir() else [entry])]
    return {str(file.relative_to(folder)): file.read_text() for file in files if file.is_file()}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    found = Node(tmp_path)
    yield found
    found.volumes.remove("u1")


def test_an_empty_directory_is_shared_by_anyone_and_keeps_its_content(node: Node) -> None:
    path = node.prepare({"emptyDir": {}})
    assert path.stat().st_mode & 0o7777 == 0o777
    (path / "x").write_text("kept")
    assert (node.prepare({"emptyDir": {}}) / "x").read_text() == "kept"


def test_an_empty_directory_of_a_group_is_that_groups(node: Node) -> None:
    found = node.prepare({"emptyDir": {}}, securityContext={"fsGroup": 2000}).stat()
    assert (found.st_gid, found.st_mode & 0o7777) == (2000, 0o2777)


def test_an_empty_directory_in_memory_is_a_tmpfs_of_its_size_and_goes_with_the_pod(node: Node) -> None:
    path = node.prepare({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
    assert os.path.ismount(path)
    assert node.prepare({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}) == path
    size = os.statvfs(path)
    assert size.f_blocks * size.f_frsize == 1 << 20
    node.volumes.remove("u1")
    assert not path.exists()
    assert str(path) not in Path("/proc/self/mounts").read_text()


def test_a_config_map_appears_as_files_with_text_and_binary_keys(node: Node) -> None:
    node.api.config_map({"a": "1", "b.conf": "x\ny"}, binaryData={"raw": base64.b64encode(b"\0z").decode()})
    path = node.prepare({"configMap": {"name": "settings"}})
    assert contents(path) == {"a": "1", "b.conf": "x\ny", "raw": "\0z"}
    assert os.readlink(path / "a") == "..data/a"
    assert (path / "a").stat().st_mode & 0o7777 == 0o644


def test_items_choose_keys_paths_and_modes(node: Node) -> None:
    node.api.config_map({"a": "1", "b": "2"})
    items = [{"key": "b", "path": "deep/er/b", "mode": 0o400}]
    path = node.prepare({"configMap": {"name": "settings", "items": items, "defaultMode": 0o600}})
    assert contents(path) == {"deep/er/b": "2"}
    assert (path / "deep/er/b").stat().st_mode & 0o7777 == 0o400


def test_an_update_is_swapped_in_whole_and_leaves_nothing_of_the_old(node: Node) -> None:
    node.api.config_map({"a": "1", "gone": "x"})
    path = node.prepare({"configMap": {"name": "settings"}})
    first = os.readlink(path / "..data")
    node.prepare({"configMap": {"name": "settings"}})
    assert os.readlink(path / "..data") == first  # nothing changed, nothing moves
    node.api.config_map({"a": "2", "new": "y"})
    node.prepare({"configMap": {"name": "settings"}})
    assert contents(path) == {"a": "2", "new": "y"}
    assert os.readlink(path / "..data") != first
    assert {entry.name for entry in path.iterdir()} == {"..data", os.readlink(path / "..data"), "a", "new"}


def test_a_writer_killed_halfway_is_made_good_by_the_next(node: Node) -> None:
    node.api.config_map({"a": "1"})
    path = node.prepare({"configMap": {"name": "settings"}})
    (path / "..2020_half").mkdir()
    (path / "..data_tmp").symlink_to("..2020_half")
    (path / "a").unlink()
    node.prepare({"configMap": {"name": "settings"}})
    assert contents(path) == {"a": "1"}
    assert not (path / "..2020_half").exists()


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ({"configMap": {"name": "settings"}}, 'configmap "settings" not found'),
        ({"secret": {"secretName": "keys"}}, 'secret "keys" not found'),
        ({"hostPath": {"path": "/nope", "type": "Directory"}}, "is not a directory"),
        ({"persistentVolumeClaim": {"claimName": "c"}}, "a persistentVolumeClaim is not supported"),
        ({"nfs": {"server": "x"}}, "its kind is not supported"),
    ],
)
def test_what_cannot_be_had_is_said_with_the_volumes_name(node: Node, volume: dict[str, Any], words: str) -> None:
    with pytest.raises(RuntimeFailure, match=f'volume "v": .*{words}') as failure:
        node.prepare(volume)
    assert failure.value.reason == "FailedMount"


def test_what_is_optional_may_be_absent(node: Node) -> None:
    assert contents(node.prepare({"configMap": {"name": "settings", "optional": True}})) == {}
    node.api.config_map({"a": "1"})
    items = [{"key": "nope", "path": "x"}]
    assert contents(node.prepare({"configMap": {"name": "settings", "optional": True, "items": items}})) == {}


def test_a_key_that_is_not_optional_must_be_there(node: Node) -> None:
    node.api.config_map({"a": "1"})
    with pytest.raises(RuntimeFailure, match="no key 'nope'"):
        node.prepare({"configMap": {"name": "settings", "items": [{"key": "nope", "path": "x"}]}})


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "..x"])
def test_a_file_never_leaves_its_volume(node: Node, path: str) -> None:
    node.api.config_map({"a": "1"})
    with pytest.raises(RuntimeFailure, match="not a path within"):
        node.prepare({"configMap": {"name": "settings", "items": [{"key": "a", "path": path}]}})


def test_a_volume_stays_while_the_api_is_away_or_its_object_is_gone(node: Node) -> None:
    node.api.secret({"k": b"v"})
    path = node.prepare({"secret": {"secretName": "keys"}})
    node.api.down = True
    assert contents(node.prepare({"secret": {"secretName": "keys"}})) == {"k": "v"}
    node.api.down = False
    node.api.objects.clear()
    node.volumes = node.again()
    assert contents(node.prepare({"secret": {"secretName": "keys"}})) == {"k": "v"}
    assert path == node.folder / "memory/u1/v"


def test_secrets_lie_in_memory_only(node: Node) -> None:
    node.api.secret({"k": b"v"})
    node.prepare({"secret": {"secretName": "keys"}})
    assert not list((node.folder / "root").rglob("*"))
    assert Place("/var/lib/labctl/kubelet").memory_dir.startswith("/run/")


def test_the_downward_api_tells_of_pod_and_resources(node: Node) -> None:
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {
            "path": "memory",
            "resourceFieldRef": {"containerName": "main", "resource": "limits.memory", "divisor": "1Mi"},
        },
        {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu"}},
    ]
    found = contents(node.prepare({"downwardAPI": {"items": items}}))
    assert found == {"labels": 'app="w\\"eb"\nb="2"', "memory": "64", "cpu": "2"}


PROJECTED = {
    "projected": {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
            {"configMap": {"name": "settings", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]
    }
}


def test_a_projected_volume_joins_its_sources(node: Node) -> None:
    node.api.config_map({"ca.crt": "CA"})
    found = contents(node.prepare(PROJECTED, serviceAccountName="robot"))
    assert found == {"token": "default/robot/web/1", "ca.crt": "CA", "namespace": "default"}


def test_a_token_is_kept_until_most_of_its_life_is_over(node: Node) -> None:
    node.api.config_map({"ca.crt": "CA"})
    node.prepare(PROJECTED)
    node.clock.advance(470)
    assert contents(node.prepare(PROJECTED))["token"].endswith("/1")
    node.clock.advance(10)
    assert contents(node.prepare(PROJECTED))["token"].endswith("/2")


def test_a_pod_waits_for_its_token_and_its_authority(node: Node) -> None:
    node.api.accounts = False
    node.api.config_map({"ca.crt": "CA"})
    with pytest.raises(RuntimeFailure, match=r"serviceaccounts .* not found"):
        node.prepare(PROJECTED)
    node.api.accounts = True
    node.api.objects.clear()
    with pytest.raises(RuntimeFailure, match='configmap "settings" not found'):
        node.prepare(PROJECTED)
    node.api.config_map({"ca.crt": "CA"})
    assert contents(node.prepare(PROJECTED))["ca.crt"] == "CA"


def test_a_pod_keeps_its_token_while_there_is_no_other(node: Node) -> None:
    node.api.config_map({"ca.crt": "CA"})
    node.prepare(PROJECTED)
    node.clock.advance(10_000)
    node.api.accounts = False
    assert contents(node.prepare(PROJECTED))["token"].endswith("/1")


@pytest.mark.parametrize(("kind", "exists"), [("", True), ("Directory", True), ("DirectoryOrCreate", False)])
def test_a_host_path_is_the_nodes_own(node: Node, kind: str, exists: bool) -> None:
    place = node.folder / "host" / "dir"
    if exists:
        place.mkdir(parents=True)
    assert node.prepare({"hostPath": {"path": str(place), "type": kind}}) == place
    assert place.is_dir()
    (place / "precious").write_text("x")
    node.volumes.remove("u1")
    assert (place / "precious").exists()


def test_host_path_types_are_checked(node: Node, tmp_path: Path) -> None:
    assert node.prepare({"hostPath": {"path": str(tmp_path / "f"), "type": "FileOrCreate"}}).is_file()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert node.prepare({"hostPath": {"path": str(tmp_path / "s"), "type": "Socket"}})
    with pytest.raises(RuntimeFailure, match="not a socket"):
        node.prepare({"hostPath": {"path": str(tmp_path / "f"), "type": "Socket"}})
    with pytest.raises(RuntimeFailure, match="not a directory"):
        node.prepare({"hostPath": {"path": str(tmp_path / "f"), "type": "DirectoryOrCreate"}})


def test_pods_lists_whoever_has_something_here(node: Node) -> None:
    assert node.volumes.pods() == frozenset()
    node.api.secret({"k": b"v"})
    node.volumes.prepare(pod({"emptyDir": {}}))
    other = msgspec.structs.replace(pod({"secret": {"secretName": "keys"}}))
    node.volumes.prepare(msgspec.structs.replace(other, metadata=msgspec.structs.replace(other.metadata, uid="u2")))
    assert node.again().pods() == {"u1", "u2"}
    node.volumes.remove("u1")
    node.volumes.remove("u2")
    assert node.again().pods() == frozenset()


def test_nothing_is_deleted_through_a_mount_that_stays(node: Node) -> None:
    path = node.prepare({"emptyDir": {"medium": "Memory"}})
    (path / "x").write_text("precious")

    class Stubborn(LocalShell):
        def run(self, argv: Sequence[str], **more: Any) -> Output:
            return LocalShell.run(self, ["false"] if argv[0] == "umount" else argv, **more)

    place = node.volumes.place
    stubborn = NodeVolumes(node.api, Stubborn(), node.clock, place)
    with pytest.raises(RuntimeFailure):
        stubborn.remove("u1")
    assert (path / "x").read_text() == "precious"
