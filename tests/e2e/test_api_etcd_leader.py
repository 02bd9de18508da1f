"""Three etcd members whose leader changes: by its own will, by a kill, by a freeze. Writes and watches go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from labctl.kube.resources import CONFIG_MAPS
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop, wait_for
from master.store.etcd import EtcdStore
from master.store.gateway import Gateway
from master.store.protocol import StoreError
from tests.contract.store.reading import Reader
from tests.e2e.apiserver import ApiServer
from tests.e2e.recorded import KEPT, Watch, Writer, complaints, go_on, truth
from tests.etcd import Etcd

pytestmark = pytest.mark.etcd

CLOCK = SystemClock()


class _Header(msgspec.Struct):
    member_id: int


class _Status(msgspec.Struct):
    header: _Header
    leader: int = 0


_STATUS = msgspec.json.Decoder(_Status, strict=False)


class Cluster:
    """Three members on loopback."""

    def __init__(self, folder: Path) -> None:
        self.members = [Etcd(folder / name, name=name) for name in ("a", "b", "c")]
        peers = {member.name: member.peer_url for member in self.members}
        for member in self.members:
            member.cluster = peers
            member.launch()
        for member in self.members:
            member.wait_healthy()

    @property
    def url(self) -> str:
        return ",".join(member.url for member in self.members)

    def leader(self, *, other_than: Etcd | None = None) -> Etcd:
        """The member that leads, once one does."""

        def find() -> Etcd | None:
            for member in self.members:
                if (
                    member is not other_than
                    and (status := _status(member))
                    and status.leader == status.header.member_id
                ):
                    return member
            return None

        return wait_for(find, what="a leader", deadline_s=30, clock=CLOCK, every_s=0.05)

    def hand_over(self) -> None:
        """Make another member lead."""
        old = self.leader()
        heir = next(_status(member) for member in self.members if member is not old)
        assert heir is not None
        gateway = Gateway([old.url], clock=CLOCK, deadline_s=10)
        gateway.call("/v3/maintenance/transfer-leadership", msgspec.json.encode({"targetID": heir.header.member_id}))
        gateway.close()
        self.leader(other_than=old)

    def kill_leader(self) -> None:
        old = self.leader()
        old.kill()
        self.leader(other_than=old)
        old.start()

    def freeze_leader(self) -> None:
        old = self.leader()
        old.freeze()
        self.leader(other_than=old)
        old.thaw()


def _status(member: Etcd) -> _Status | None:
    gateway = Gateway([member.url], clock=CLOCK, deadline_s=1.0, unreachable_s=0.2)
    try:
        answer, _ = gateway.call("/v3/maintenance/status", b"{}")
    except StoreError:
        return None
    finally:
        gateway.close()
    return _STATUS.decode(answer)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path)
    yield running
    for member in running.members:
        member.kill()


def test_a_watch_goes_on_without_gap_or_duplicate_whoever_leads_etcd(cluster: Cluster, tmp_path: Path) -> None:
    server, store = ApiServer(tmp_path, cluster.url), EtcdStore(cluster.url.split(","), clock=CLOCK)
    enough, over = Stop(), Stop()
    changes: tuple[Callable[[], None], ...] = (cluster.hand_over, cluster.kill_leader, cluster.freeze_leader)
    try:
        client = server.start().client(timeout_s=30)
        after = client.list(CONFIG_MAPS, "default").metadata.resource_version
        with Reader(store, KEPT, after=int(after)) as reader:
            watch = Watch(client, after, over)
            writers = [Writer(server, number, enough) for number in range(3)]
            for change in changes:
                go_on(writers)
                change()
            go_on(writers)
            enough.set()
            for writer in writers:
                writer.join()
            reader.until_revision(store.revision(), deadline_s=30)
            happened = truth(reader)
            wait_for(lambda: watch.reached(happened[-1].revision), what="the watch", deadline_s=30, clock=CLOCK)
        assert list(complaints([attempt for writer in writers for attempt in writer.attempts], happened)) == []
        assert watch.told == happened
        assert (watch.resumed, watch.expired) == (0, 0)  # the API server bridges it: clients notice nothing
    finally:
        enough.set()
        over.set()
        server.kill()
        store.close()
