"""The pod network: a namespace per pod, attached by Debian's CNI plugins, run directly as the CNI specification says.

A record per pod is written before anything is made and ends as the sandbox's own, so that a crash at any point leaves
a trace from which address and namespace are given back. All of it lives under /run: it is as old as the boot.
Source: https://www.cni.dev/docs/spec/ (1.0.0), plugins `bridge`, `host-local` and `portmap`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import msgspec

from agents.kubelet.runtime import PodRef, RuntimeFailure, Sandbox
from labctl.runtime.clock import Clock
from labctl.runtime.shell import CommandError, Shell

_log = logging.getLogger(__name__)

_DEADLINE_S = 60.0
_INTERFACE = "eth0"
_REASON = "FailedCreatePodSandBox"


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where plugins and state are."""

    state_dir: str = "/run/labctl/pods"
    netns_dir: str = "/run/netns"  # iproute2's own
    cni_dir: str = "/usr/lib/cni"
    network: str = "labctl"
    bridge: str = "cni0"
    sysctl_dir: str = "/proc/sys"


class _Record(msgspec.Struct, frozen=True):
    """What is on disk of a sandbox; without `attached` its making was cut short."""

    uid: str
    namespace: str
    name: str
    created_s: float
    netns: str = ""  # a name in netns_dir; "" on the host network
    address: str = ""
    host_ports: tuple[tuple[int, int, str], ...] = ()
    attached: bool = False


class PodNetwork:
    """Makes and removes pod sandboxes. Safe to share between threads; one plugin runs at a time."""

    def __init__(self, shell: Shell, clock: Clock, settings: NetworkSettings | None = None) -> None:
        self.settings = settings or NetworkSettings()
        self._shell, self._clock = shell, clock
        self._state = Path(self.settings.state_dir)
        self._lock = threading.Lock()
        self._records: dict[str, _Record] | None = None
        self._pod_cidr = ""
        self._prepared = False

    @property
    def pod_cidr(self) -> str:
        """The node's range; "" until `use`."""
        return self._pod_cidr

    def use(self, pod_cidr: str) -> None:
        """Take pod addresses from `pod_cidr` from now on."""
        self._pod_cidr = str(IPv4Network(pod_cidr))

    def sandboxes(self) -> Sequence[Sandbox]:
        """Every sandbox of this boot whose namespace is there."""
        with self._lock:
            records = self._load()
            return [self._sandbox(record) for record in records.values() if self._is_whole(record)]

    def make(self, pod: PodRef, *, host_network: bool, host_ports: Sequence[tuple[int, int, str]]) -> Sandbox:
        """The pod's sandbox, made if need be. Host ports mean nothing on the host network."""
        with self._lock:
            known = self._load().get(pod.uid)
            if known and self._is_whole(known):
                return self._sandbox(known)
            if known:
                self._tear_down(known)
            record = _Record(
                uid=pod.uid,
                namespace=pod.namespace,
                name=pod.name,
                created_s=self._clock.now().timestamp(),
                netns="" if host_network else f"pod-{pod.uid}",
                host_ports=() if host_network else tuple(host_ports),
            )
            if not host_network and not self._pod_cidr:
                raise RuntimeFailure("the node has no podCIDR yet", reason="NetworkNotReady")
            self._save(record)
            if not host_network:
                try:
                    record = self._attach(record)
                except CommandError as error:
                    with contextlib.suppress(RuntimeFailure):
                        self._tear_down(record)
                    raise RuntimeFailure(f"the pod network: {error}", reason=_REASON) from error
            record = msgspec.structs.replace(record, attached=True)
            self._save(record)
            return self._sandbox(record)

    def remove(self, pod: PodRef) -> None:
        """Give address and namespace back; nothing to do is fine."""
        with self._lock:
            if record := self._load().get(pod.uid):
                self._tear_down(record)

    # -- within; the lock is held

    def _attach(self, record: _Record) -> _Record:
        self._prepare()
        self._shell.run(["ip", "netns", "add", record.netns], timeout_s=_DEADLINE_S)
        self._shell.run(["ip", "-n", record.netns, "link", "set", "lo", "up"], timeout_s=_DEADLINE_S)
        result = self._plugin("ADD", record, self._bridge())
        if record.host_ports:
            self._plugin("ADD", record, self._portmap(record, result))
        address = str(result["ips"][0]["address"]).partition("/")[0]
        return msgspec.structs.replace(record, address=address)

    def _tear_down(self, record: _Record) -> None:
        try:
            if record.netns:
                if record.host_ports:
                    self._plugin("DEL", record, self._portmap(record, None))
                self._plugin("DEL", record, self._bridge())
                if self._netns_path(record).exists():
                    self._shell.run(["ip", "netns", "delete", record.netns], timeout_s=_DEADLINE_S)
        except CommandError as error:
            raise RuntimeFailure(f"the pod network: {error}", reason="FailedKillPod") from error
        self._file(record.uid).unlink(missing_ok=True)
        self._load().pop(record.uid, None)

    def _prepare(self) -> None:
        """The kernel must route, and must show bridged frames to nftables, or answers of Services bypass their NAT."""
        if self._prepared:
            return
        seen = Path(self.settings.sysctl_dir, "net/bridge/bridge-nf-call-iptables")
        if not seen.exists():
            self._shell.run(["modprobe", "br_netfilter"], timeout_s=_DEADLINE_S, check=False)
        for knob in (seen, Path(self.settings.sysctl_dir, "net/ipv4/ip_forward")):
            try:
                if knob.read_text(encoding="ascii").strip() != "1":
                    knob.write_text("1", encoding="ascii")
            except OSError as error:
                _log.warning("%s cannot be set to 1, Services may fail between pods of one node: %s", knob, error)
        self._prepared = True

    def _bridge(self) -> dict[str, Any]:
        """`forceAddress`: a node registered anew may get another range while its bridge has the old one."""
        return {
            "cniVersion": "1.0.0",
            "name": self.settings.network,
            "type": "bridge",
            "bridge": self.settings.bridge,
            "isGateway": True,
            "forceAddress": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": self._pod_cidr or "169.254.0.0/30"}]],  # giving back asks for some range, any
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": str(self._state / "addresses"),
            },
        }

    def _portmap(self, record: _Record, previous: Mapping[str, Any] | None) -> dict[str, Any]:
        ports = [
            {"hostPort": host, "containerPort": container, "protocol": protocol.lower()}
            for host, container, protocol in record.host_ports
        ]
        config: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": self.settings.network,
            "type": "portmap",
            "capabilities": {"portMappings": True},
            "snat": True,
            "runtimeConfig": {"portMappings": ports},
        }
        return config | {"prevResult": dict(previous)} if previous else config

    def _plugin(self, command: str, record: _Record, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one plugin; its result. CommandError carries the plugin's own message."""
        path = self._netns_path(record)
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": record.uid,
            "CNI_NETNS": str(path) if path.exists() else "",
            "CNI_IFNAME": _INTERFACE,
            "CNI_PATH": self.settings.cni_dir,
        }
        plugin = f"{self.settings.cni_dir}/{config['type']}"
        output = self._shell.run(
            [plugin], timeout_s=_DEADLINE_S, check=False, stdin=msgspec.json.encode(config), env=environment
        )
        try:
            answer = msgspec.json.decode(output.stdout) if output.stdout.strip() else {}
        except msgspec.DecodeError:
            answer = {}
        if output.code:
            words = answer.get("msg") or output.stderr.strip() or f"exit code {output.code}"
            details = f": {answer['details']}" if answer.get("details") else ""
            raise CommandError(f"{config['type']} {command}: {words}{details}", code=output.code)
        return dict(answer)

    def _netns_path(self, record: _Record) -> Path:
        return Path(self.settings.netns_dir, record.netns)

    def _is_whole(self, record: _Record) -> bool:
        return record.attached and (not record.netns or os.path.ismount(self._netns_path(record)))

    def _sandbox(self, record: _Record) -> Sandbox:
        pod = PodRef(record.uid, record.namespace, record.name)
        return Sandbox(pod, record.address, str(self._netns_path(record)) if record.netns else "", record.created_s)

    def _file(self, uid: str) -> Path:
        return self._state / f"{uid}.json"

    def _save(self, record: _Record) -> None:
        path = self._file(record.uid)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(record))
        os.replace(fresh, path)
        self._load()[record.uid] = record

    def _load(self) -> dict[str, _Record]:
        """The records, read once; what a former life of ours left half made is removed then."""
        if self._records is None:
            self._state.mkdir(parents=True, exist_ok=True)
            self._records = {}
            for path in sorted(self._state.glob("*.json")):
                try:
                    record = msgspec.json.decode(path.read_bytes(), type=_Record)
                except msgspec.MsgspecError as error:
                    _log.error("%s is not a sandbox's record and is removed: %s", path, error)
                    path.unlink()
                    continue
                self._records[record.uid] = record
            for record in [record for record in self._records.values() if not self._is_whole(record)]:
                try:
                    self._tear_down(record)
                except RuntimeFailure as error:
                    _log.warning("%s/%s: its half-made network stays for now: %s", record.namespace, record.name, error)
        return self._records
