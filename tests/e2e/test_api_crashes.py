"""An API server over a real etcd, killed a hundred times at random moments, under writes and with watches running.

What etcd itself tells is the truth. Held against it: every write that was acknowledged is there, none that was refused
is, nothing is there that nobody asked for, and watches, resumed from the last revision they saw, tell each change once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from labctl.kube.informer import Informer
from labctl.kube.resources import CONFIG_MAPS
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop, wait_for
from master.store.etcd import EtcdStore
from tests.contract.store.reading import Reader
from tests.e2e.apiserver import ApiServer
from tests.e2e.recorded import KEPT, Watch, Writer, complaints, go_on, held, token, truth
from tests.etcd import Etcd

pytestmark = pytest.mark.etcd

CLOCK = SystemClock()
KILLS, WRITERS = 100, 4
SEED = 20_261_122


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    running = Etcd(tmp_path / "etcd")
    running.start()
    yield running
    running.kill()


def crash(server: ApiServer, writers: list[Writer], rng: random.Random) -> None:
    """Start the server and kill it: now and then while it starts, else after some number of acknowledged writes."""
    server.launch()
    if rng.random() < 0.2:
        Stop().wait_s(rng.uniform(0.0, 0.6))
    else:
        wanted = sum(writer.acknowledged for writer in writers) + rng.randrange(1, 60)
        wait_for(
            lambda: sum(writer.acknowledged for writer in writers) >= wanted,
            what=f"writes to go on\n{server.log[-2000:]}",
            deadline_s=60,
            clock=CLOCK,
            every_s=0.01,
        )
    server.kill()


def test_a_hundred_kills_lose_no_write_and_leave_no_gap_in_any_watch(etcd: Etcd, tmp_path: Path) -> None:
    server, store = ApiServer(tmp_path, etcd.url), EtcdStore([etcd.url], clock=CLOCK)
    enough, over, rng = Stop(), Stop(), random.Random(SEED)
    try:
        client = server.start().client(timeout_s=5)
        after = client.list(CONFIG_MAPS, "default").metadata.resource_version
        with Reader(store, KEPT, after=int(after)) as reader:
            watch = Watch(server.client(timeout_s=5), after, over)
            informer = Informer(client, CONFIG_MAPS, dict, namespace="default").start(over)
            writers = [Writer(server, number, enough) for number in range(WRITERS)]
            go_on(writers)
            server.kill()
            for _ in range(KILLS):
                crash(server, writers, rng)
            server.start()
            go_on(writers)
            enough.set()
            for writer in writers:
                writer.join()
            reader.until_revision(store.revision())
            happened = truth(reader)
            wait_for(lambda: watch.reached(happened[-1].revision), what="the watch", deadline_s=30, clock=CLOCK)
        attempts = [attempt for writer in writers for attempt in writer.attempts]
        assert list(complaints(attempts, happened)) == []
        assert {attempt.outcome for attempt in attempts} == {"acknowledged", "refused", "unknown"}
        assert watch.told == happened
        assert (watch.resumed > KILLS / 2, watch.expired) == (True, 0)
        entries = store.list(KEPT).entries
        standing = {"m-" + entry.key.removeprefix(KEPT): token(msgspec.json.decode(entry.value)) for entry in entries}
        wait_for(lambda: held(informer) == standing, what="the informer", deadline_s=30, clock=CLOCK)
    finally:
        enough.set()
        over.set()
        server.kill()
        store.close()
