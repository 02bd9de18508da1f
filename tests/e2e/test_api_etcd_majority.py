"""An API server over three etcd members of which too few are left, or which are full: nothing is promised in vain."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from labctl.kube.client import Client
from labctl.kube.errors import ApiError
from labctl.kube.resources import CONFIG_MAPS
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from master.store.gateway import Gateway
from tests.e2e.apiserver import ApiServer
from tests.e2e.test_api_etcd_leader import Cluster, _status

pytestmark = pytest.mark.etcd
CLOCK = SystemClock()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("etcd"))
    yield running
    for member in running.members:
        member.kill()


@pytest.fixture(scope="module")
def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    running = ApiServer(tmp_path_factory.mktemp("api"), cluster.url)
    yield running.start()
    running.kill()


def made(client: Client, name: str) -> bool:
    try:
        client.create(CONFIG_MAPS, {"metadata": {"name": name}}, "default")
    except ApiError:
        return False
    return True


def readyz(client: Client) -> tuple[int, str]:
    """Status and text, whatever they are."""
    servers = client._servers
    answer = servers._http.request("GET", servers.order[0] + "/readyz?verbose", headers=client._headers)
    return answer.status, answer.data.decode()


def test_without_a_majority_nothing_is_acknowledged_and_readyz_says_which_member_fails(
    cluster: Cluster, server: ApiServer
) -> None:
    client = server.client(timeout_s=90)
    assert made(client, "kept")
    assert client.list(CONFIG_MAPS, "default").items
    _, *others = cluster.members
    others[0].kill()
    wait_for(lambda: made(client, "with-two"), what="a write with two of three", deadline_s=60, clock=CLOCK)
    status, text = readyz(client)
    assert (status, f"warn: etcd member {others[0].url}: " in text) == (200, True)
    others[1].kill()
    with pytest.raises(ApiError) as refused:
        client.create(CONFIG_MAPS, {"metadata": {"name": "unheard"}}, "default")
    assert refused.value.code in (503, 504)
    listed = client.list(CONFIG_MAPS, "default", resource_version="0").items  # from the cache, as upstream
    assert {msgspec.json.decode(raw)["metadata"]["name"] for raw in listed} >= {"kept", "with-two"}
    status, text = readyz(client)
    assert status == 500
    assert all(f"warn: etcd member {member.url}: " in text for member in cluster.members)
    for member in others:
        member.launch()
    wait_for(lambda: made(client, "again"), what="writes with all three", deadline_s=90, clock=CLOCK)
    names = {msgspec.json.decode(raw)["metadata"]["name"] for raw in client.list(CONFIG_MAPS, "default").items}
    assert names >= {"kept", "with-two", "again"}


def test_a_full_etcd_says_what_is_wrong_and_how_to_mend_it(cluster: Cluster, server: ApiServer) -> None:
    client = server.client(timeout_s=90)
    gateway = Gateway([member.url for member in cluster.members], clock=CLOCK)
    status = wait_for(lambda: _status(cluster.members[0]), what="a member", deadline_s=30, clock=CLOCK)
    alarm = {"memberID": str(status.header.member_id), "alarm": "NOSPACE"}
    gateway.call("/v3/maintenance/alarm", msgspec.json.encode({"action": "ACTIVATE", **alarm}))
    try:
        with pytest.raises(ApiError, match=r"database space exceeded.*etcdctl alarm disarm") as refused:
            client.create(CONFIG_MAPS, {"metadata": {"name": "more"}}, "default")
        assert refused.value.code == 503
        assert client.list(CONFIG_MAPS, "default").items  # reads go on
        assert "NOSPACE" in readyz(client)[1]
    finally:
        gateway.call("/v3/maintenance/alarm", msgspec.json.encode({"action": "DEACTIVATE", **alarm}))
        gateway.close()
    wait_for(lambda: made(client, "more"), what="a write", deadline_s=30, clock=CLOCK)
