"""A lab's etcd, over ssh and by etcd's own tools: its members, a backup of it, and a backup put back."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.errors import LabError, UsageError
from labctl.runtime.loop import wait_for
from labctl.runtime.shell import CommandError
from labctl.vm import members, ssh
from labctl.vm.parallel import each
from labctl.vm.provider import Progress, Site
from labctl.vm.topology import Machine

DATA = "/var/lib/etcd/lab"
_JOIN = "/etc/labctl/etcd-join.env"  # read by the unit; without a meaning once the member has data
_PKI = "/etc/labctl/pki/etcd"
_ETCDCTL = (
    f"ETCDCTL_API=3 etcdctl --endpoints=https://127.0.0.1:2379 --cacert={_PKI}/ca.crt --cert={_PKI}/client.crt "
    f"--key={_PKI}/client.key --dial-timeout=5s --command-timeout=30s"
)
_CLIENTS = "labctl-controllers labctl-scheduler labctl-apiserver"
_STARTED_S = 60.0
_SNAPSHOT_S = 300.0
_HASH_BYTES = 32
# More than a lab writes in a lifetime: what clients remember of the time after the backup is older than what comes.
_BUMP = 1_000_000_000
# A restart that was asked for is over, etcd answers with a majority behind it, and the API server is ready.
_HEALTHY = (
    "! systemctl list-jobs --no-legend | grep -qE 'etcd|labctl|keepalived' "
    "&& curl -sf -m 5 http://127.0.0.1:2381/health | grep -q '\"true\"' "
    "&& curl -skf -m 5 -o /dev/null https://127.0.0.1:6443/readyz"
)


class Snapshot(msgspec.Struct, frozen=True, rename={"total_key": "totalKey", "total_size": "totalSize"}):
    """What `etcdutl snapshot status` says of a file."""

    hash: int
    revision: int
    total_key: int
    total_size: int


class _Member(msgspec.Struct, frozen=True, rename={"id": "ID", "peer_urls": "peerURLs"}):
    id: int
    name: str = ""
    peer_urls: tuple[str, ...] = ()


class _Members(msgspec.Struct, frozen=True):
    members: tuple[_Member, ...]


def checked(data: bytes, source: str) -> bytes:
    """A snapshot that is whole: etcd ends each with the SHA-256 of what comes before. UsageError."""
    body, digest = data[:-_HASH_BYTES], data[-_HASH_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise UsageError(f"{source} is no whole snapshot of etcd", hint="`labctl backup FILE` makes one")
    return data


class Etcd:
    """See the module. Every call raises LabError (SshError, CommandError) with the machine's own words."""

    def __init__(self, site: Site, clock: Clock | None = None) -> None:
        self._site, self._clock = site, clock or SystemClock()
        self._masters = site.topology.masters

    # -- members ----------------------------------------------------------------------------------------------------

    def with_data(self) -> frozenset[str]:
        """The masters whose etcd has started once and still has its data."""
        answers = self._on_each(self._masters, f"test -d {DATA}/member && echo yes || echo no")
        return frozenset(m.name for m, answer in zip(self._masters, answers, strict=True) if answer.strip() == "yes")

    def rejoin(self, event: Progress) -> tuple[str, ...]:
        """Make members again of masters that lost their data, as far as it can be done before they start; their names.

        Safe to repeat after a crash at any point. A lab whose etcd never ran has nothing to rejoin.
        """
        with_data = self.with_data()
        if not with_data or len(with_data) == len(self._masters):
            return ()
        members.plan(self._masters, (), with_data)  # refuses where there is no majority, before anybody waits for one
        with self._connection(next(m for m in self._masters if m.name in with_data)) as connection:
            decided = members.plan(self._masters, self._members(connection), with_data)
            for member in decided.remove:
                connection.run(f"{_ETCDCTL} member remove {member.id}")
                event(member.name, "removed from etcd: its data are gone")
            for master in decided.add:
                connection.run(f"{_ETCDCTL} member add {master.name} --peer-urls={members.peer_url(master)}")
                event(master.name, "added to etcd")
        cluster = members.initial_cluster(self._masters)
        join = f"ETCD_INITIAL_CLUSTER_STATE=existing\nETCD_INITIAL_CLUSTER={cluster}\n"
        for master in decided.joining:
            with self._connection(master) as connection:
                connection.put(_JOIN, join.encode())
        return tuple(master.name for master in decided.joining)

    def forget_data(self, master: Machine) -> None:
        """Stop a master's etcd and remove what it knows."""
        with self._connection(master) as connection:
            connection.run(f"systemctl stop {_CLIENTS} etcd || true; rm -rf {DATA}")

    def wait_healthy(self, master: Machine, deadline_s: float) -> None:
        """Wait until a master's etcd and API server serve again."""
        with self._connection(master) as connection:
            wait_for(
                lambda: connection.run(_HEALTHY, check=False).code == 0,
                what=f"etcd and the API server of {master.name}",
                deadline_s=deadline_s,
                clock=self._clock,
            )

    def _members(self, connection: ssh.Connection) -> tuple[members.Member, ...]:
        def ask() -> tuple[members.Member, ...] | None:
            try:
                answer = connection.run(f"{_ETCDCTL} member list -w json")
            except CommandError:  # it starts, or waits for a majority to come
                return None
            found = msgspec.json.decode(answer.stdout, type=_Members).members
            return tuple(members.Member(f"{one.id:x}", one.name, next(iter(one.peer_urls), "")) for one in found)

        return wait_for(ask, what="etcd to tell its members", deadline_s=_STARTED_S, clock=self._clock)

    # -- backup and restore -----------------------------------------------------------------------------------------

    def backup(self, event: Progress) -> tuple[bytes, Snapshot]:
        """A snapshot of what a member knows that has a majority behind it, and what is in it."""
        master = self._serving()
        path = "/var/lib/etcd/labctl-backup.db"
        data = bytearray()
        with self._connection(master) as connection, self._scratch(connection, path):
            connection.run(f"{_ETCDCTL} --command-timeout=300s snapshot save {path}", timeout_s=_SNAPSHOT_S)
            told = connection.run(f"etcdutl snapshot status {path} -w json", timeout_s=_SNAPSHOT_S).stdout
            code = connection.stream(f"cat {path}", data.extend, lambda _: None, timeout_s=_SNAPSHOT_S)
        if code != 0:
            raise LabError(f"{master.name}: the snapshot could not be read", hint="is its disk full? try again")
        event(master.name, "snapshot taken")
        return checked(bytes(data), f"what {master.name} sent"), msgspec.json.decode(told, type=Snapshot)

    def restore(self, data: bytes, event: Progress) -> None:
        """Begin a new etcd cluster from a snapshot, on every master; the API is away meanwhile.

        Revisions go on far above any that the lab has seen, and all before is marked as compacted: who remembers a
        later state than the snapshot's is told that it expired, and lists again.
        """
        cluster = members.initial_cluster(self._masters)
        token = f"{self._site.topology.lab}-{hashlib.sha256(data + repr(self._clock.now()).encode()).hexdigest()[:12]}"
        fresh, snapshot = f"{DATA}.restored", f"{DATA}.snapshot"

        def unpack(master: Machine) -> None:
            with self._connection(master) as connection, self._scratch(connection, snapshot):
                connection.put(snapshot, data, mode=0o600)
                connection.run(
                    f"rm -rf {fresh} && etcdutl snapshot restore {snapshot} --data-dir {fresh} --name {master.name} "
                    f"--initial-cluster {cluster} --initial-cluster-token {token} "
                    f"--initial-advertise-peer-urls {members.peer_url(master)} "
                    f"--bump-revision {_BUMP} --mark-compacted && chown -R etcd:etcd {fresh} && chmod 700 {fresh}",
                    timeout_s=_SNAPSHOT_S,
                )
            event(master.name, "snapshot unpacked")

        each(self._masters, unpack)
        self._on_each(self._masters, f"systemctl stop {_CLIENTS}")  # while etcd is there: they end what they are at
        self._on_each(self._masters, "systemctl stop etcd")
        event("", "the control plane is stopped")
        # One after the other: the old data are kept until the new ones are in their place on every master.
        self._on_each(
            self._masters,
            f"[ -e {DATA}.before ] || [ ! -e {DATA} ] || mv {DATA} {DATA}.before; rm -rf {DATA}; mv {fresh} {DATA}",
        )
        self._on_each(self._masters, f"rm -f {_JOIN}; systemctl start --no-block etcd {_CLIENTS}; rm -rf {DATA}.before")

    # -- inside -----------------------------------------------------------------------------------------------------

    def _serving(self) -> Machine:
        """A master whose etcd has a majority behind it."""
        for master in self._masters:
            with contextlib.suppress(LabError), self._connection(master) as connection:
                connection.run("curl -sf -m 5 http://127.0.0.1:2381/health | grep -q '\"true\"'")
                return master
        raise LabError("no etcd member serves", hint="`labctl status` and `labctl logs NODE etcd` say why")

    @contextlib.contextmanager
    def _scratch(self, connection: ssh.Connection, path: str) -> Iterator[None]:
        try:
            yield
        finally:
            with contextlib.suppress(LabError):
                connection.run(f"rm -f {path} {path}.part")

    def _connection(self, master: Machine) -> ssh.Connection:
        return ssh.connect(self._site, master, clock=self._clock)

    def _on_each(self, machines: Sequence[Machine], command: str) -> list[str]:
        def one(machine: Machine) -> str:
            with self._connection(machine) as connection:
                return connection.run(command, timeout_s=120).stdout

        return list(each(machines, one))
