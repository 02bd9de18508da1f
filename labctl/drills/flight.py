"""The flight recorder: what every machine's components logged and did during a drill, gathered into its run folder.

While a drill runs, two units on each machine write changes of packet rules and events of containers into its journal,
which stamps every line and bounds itself; what they cost is told in `flight.json`.
Afterwards one round trip a machine brings back the logs since the start, packet rules, containers, routes and the
machine's clock. All of it is best effort and bounded: a drill never fails because of its recorder.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from labctl.drills.aside import all_at_once
from labctl.drills.target import Target
from labctl.kube.resources import ENDPOINT_SLICES, EVENTS, LEASES, NODES, PODS
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError

T = TypeVar("T")

FOLDER, INDEX = "flight", "flight.json"
_MARK = "--- labctl flight: "
_LOG_BYTES, _STATE_BYTES = 2_000_000, 500_000  # of each file; the newest lines are kept
_OUTLIVE_S = 3_600  # a recorder whose drill died ends by itself
_WATCHES = {
    "labctl-flight-rules": "nft monitor",
    "labctl-flight-containers": "nerdctl --namespace k8s.io events --format '{{json .}}'",
}
# Components by the names they have here and on other clusters.
_UNITS = (*_WATCHES, "labctl-*", "etcd*", "containerd*", "kubelet*", "kube-*", "k3s*", "crio*")
_STATE = {
    "rules.nft": "nft list ruleset",
    "containers.json": "nerdctl --namespace k8s.io ps --all --no-trunc --format '{{json .}}'",
    "routes.txt": "ip route; ip -brief address",
    "pressure.txt": "cat /proc/loadavg; head -3 /proc/meminfo; df -h / /var/lib 2>/dev/null; head /proc/pressure/*",
    "units.txt": "systemctl --no-pager --no-legend list-units 'labctl-*' 'etcd*' 'containerd*'",
}


class Gathered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one machine gave."""

    node: str
    error: str = ""  # it could not be asked
    files: dict[str, int] = {}  # name -> bytes
    recorder_cpu_s: float | None = None  # None: its recorder had ended with the machine
    recorder_s: float = 0.0  # for how long it had run
    clock_ahead_s: float | None = None  # of this host's
    clock_error_s: float = 0.0  # by how much that may be wrong: half of the round trip

    @property
    def share(self) -> float | None:
        """Of a core, that the recorder took."""
        return None if self.recorder_cpu_s is None else self.recorder_cpu_s / max(0.001, self.recorder_s)


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What `flight.json` holds."""

    since: str
    machines: tuple[Gathered, ...]


class FlightRecorder:
    """Started before the drill, gathered after it; neither raises LabError."""

    def __init__(self, target: Target, clock: Clock) -> None:
        self._target, self._clock = target, clock
        self._began, self._began_s, self._started = clock.now(), clock.monotonic_s(), False

    def start(self) -> None:
        """Begin to record on every machine."""
        self._began, self._began_s = self._clock.now(), self._clock.monotonic_s()
        self._started = True
        self._everywhere(lambda name: self._ask(name, start_script(), timeout_s=10.0))

    def stop(self) -> None:
        """End it without keeping anything; what another drill started is left alone."""
        if not self._started:
            return
        self._everywhere(lambda name: self._ask(name, f"systemctl stop {' '.join(_WATCHES)}", timeout_s=10.0))

    def gather(self, run_dir: Path) -> Index:
        """Stop recording and bring everything into the folder `flight` of the run; what failed stands in the index."""
        folder = run_dir / FOLDER
        machines = [
            found if isinstance(found, Gathered) else Gathered(node=name, error=str(found))
            for name, found in self._everywhere(lambda name: self._machine(name, folder)).items()
        ]
        index = Index(since=self._began.isoformat(), machines=tuple(machines))
        with contextlib.suppress(OSError):  # the disk under the report may be full
            self._objects(folder / "api")
            _put(folder / INDEX, msgspec.json.format(msgspec.json.encode(index), indent=2))
        return index

    def _machine(self, name: str, folder: Path) -> Gathered:
        asked, asked_s = self._clock.now().timestamp(), self._clock.monotonic_s()
        theirs = float(self._ask(name, "date +%s.%N", timeout_s=10.0))
        took_s = self._clock.monotonic_s() - asked_s
        parts = dict(sections(self._ask(name, gather_script(self._began), timeout_s=60.0)))
        cpu_s = recorder_cpu_s(parts.pop("cpu", ""))
        for file, text in parts.items():
            _put(folder / name / file, text.encode())
        return Gathered(
            node=name,
            files={file: len(text.encode()) for file, text in parts.items()},
            recorder_cpu_s=cpu_s,
            recorder_s=round(asked_s - self._began_s, 3),
            clock_ahead_s=round(theirs - asked - took_s / 2, 4),
            clock_error_s=round(took_s / 2, 4),
        )

    def _objects(self, folder: Path) -> None:
        """The API's own account: events and leases above all."""
        for resource in (EVENTS, LEASES, NODES, PODS, ENDPOINT_SLICES):
            with contextlib.suppress(LabError, msgspec.MsgspecError):
                items = self._target.client.list(resource).items
                _put(folder / f"{resource.plural}.jsonl", b"".join(bytes(raw) + b"\n" for raw in items)[-_LOG_BYTES:])

    def _ask(self, name: str, script: str, *, timeout_s: float) -> str:
        return self._target.run(name, ["sh", "-c", script], timeout_s=timeout_s).stdout

    def _everywhere(self, do: Callable[[str], T]) -> dict[str, T | Exception]:
        """By machine, all at once: what `do` gives, or how it failed."""

        def guarded(name: str) -> T | Exception:
            try:
                return do(name)
            except (LabError, OSError, ValueError) as error:
                return error

        names = [machine.name for machine in self._target.machines()]
        return dict(zip(names, all_at_once(guarded, names), strict=True))


def start_script() -> str:
    """Start the units; one that is left of a drill that died is replaced."""
    lines = ["command -v systemd-run >/dev/null || exit 0"]
    for unit, command in _WATCHES.items():
        options = f"--collect --quiet --unit={unit} -p RuntimeMaxSec={_OUTLIVE_S} -p CPUQuota=2%"
        lines.append(f"systemctl stop {unit} 2>/dev/null; systemd-run {options} sh -c {shlex.quote(f'exec {command}')}")
    return "; ".join(lines)


def gather_script(since: datetime) -> str:
    """Stop the units and print everything, each part after a line that names it. It always succeeds."""
    journal = f"journalctl --no-pager --quiet -o short-unix --since=@{int(since.timestamp())}"
    quoted = " ".join(f"-u {shlex.quote(unit)}" for unit in _UNITS)
    parts = {
        "cpu": (
            f"for u in {' '.join(_WATCHES)}; do p=$(systemctl show -p MainPID --value $u); "
            "[ ${p:-0} -gt 0 ] && cut -d' ' -f14,15 /proc/$p/stat; systemctl stop $u; done; getconf CLK_TCK"
        ),
        "components.log": f"{journal} {quoted} | tail -c {_LOG_BYTES}",
        "audit.log": f"tail -c {_LOG_BYTES} /var/log/labctl/audit.log",
        "kernel.log": f"{journal} -k | tail -c {_STATE_BYTES}",
        **{name: f"({command}) | tail -c {_STATE_BYTES}" for name, command in _STATE.items()},
    }
    return "\n".join([f"echo; echo '{_MARK}{name}'; {{ {command}; }} 2>/dev/null" for name, command in parts.items()])


def sections(answer: str) -> Iterator[tuple[str, str]]:
    """The parts of the answer, those that are empty left out. Pure."""
    for part in answer.split(f"\n{_MARK}")[1:]:
        name, _, text = part.partition("\n")
        if text.strip() and name in _NAMES:
            yield name, text


def recorder_cpu_s(text: str) -> float | None:
    """The units' processor time in seconds: ticks of each that runs, a line each, then ticks a second. Pure.

    None where none was running. (Not systemd's own accounting: in a container it may have none.)
    """
    *ticks, hertz = [int(word) for word in text.split() if word.isdigit()] or [0]
    return round(sum(ticks) / hertz, 3) if ticks else None


_NAMES = frozenset({"cpu", "components.log", "audit.log", "kernel.log", *_STATE})


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_bytes(data)
