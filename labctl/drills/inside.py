"""What a machine really runs, asked inside it over ssh: containers and packet rules. Not through the API.

Containers are recognised by the labels that Kubernetes' own runtimes carry (CRI `io.kubernetes.*`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from labctl.drills.aside import all_at_once
from labctl.drills.records import Container, Counted
from labctl.drills.target import Target
from labctl.runtime.errors import LabError

_SPLIT = "--- rules ---"
# One round trip: both questions, one answer. A node that we did not make may have crictl instead of nerdctl (k3s has
# its own), and no `nft`.
_SCRIPT = (
    "if command -v nerdctl >/dev/null; then nerdctl --namespace k8s.io ps --all --no-trunc --format '{{json .}}'; "
    "elif command -v crictl >/dev/null; then crictl ps --all --output json; "
    "else k3s crictl ps --all --output json; fi || exit 3; "
    f"echo '{_SPLIT}'; nft list ruleset 2>/dev/null; true"
)
_ADDRESS = re.compile(r"(?<![\d.])(\d{1,3}(?:\.\d{1,3}){3})(?![\d./])")
_LABELS = {
    "namespace": "io.kubernetes.pod.namespace",
    "pod": "io.kubernetes.pod.name",
    "uid": "io.kubernetes.pod.uid",
    "name": "io.kubernetes.container.name",
}


class _Line(msgspec.Struct, frozen=True):
    ID: str
    Labels: str | dict[str, str] = ""
    Status: str = ""


class _CriContainer(msgspec.Struct, frozen=True):
    id: str
    state: str = ""
    labels: dict[str, str] = {}


class _CriList(msgspec.Struct, frozen=True):
    containers: tuple[_CriContainer, ...] = ()


_lines = msgspec.json.Decoder(_Line)
_cri = msgspec.json.Decoder(_CriList)


def count(target: Target, node: str, *, timeout_s: float = 20.0) -> Counted:
    """Ask one machine; what failed stands in `error`."""
    try:
        output = target.run(node, ["sh", "-c", _SCRIPT], timeout_s=timeout_s)
        if output.code != 0:
            words = output.stderr.strip().splitlines()
            return Counted(node=node, error=f"exit code {output.code}: {words[-1] if words else 'no output'}")
        return parse(node, output.stdout)
    except (LabError, msgspec.MsgspecError) as error:
        return Counted(node=node, error=str(error))


def count_all(target: Target, nodes: Sequence[str], *, timeout_s: float = 20.0) -> tuple[Counted, ...]:
    """Ask all machines at once, of those that can be asked."""
    nodes = target.within_reach(nodes)
    return tuple(all_at_once(lambda node: count(target, node, timeout_s=timeout_s), nodes))


def parse(node: str, stdout: str) -> Counted:
    """Read the script's answer. Pure."""
    told, _, rules = stdout.partition(_SPLIT)
    entries = _of_crictl(told) if told.lstrip().startswith("{\n") or '"containers"' in told[:40] else _of_nerdctl(told)
    found = []
    for identity, running, labels in entries:
        if _LABELS["uid"] not in labels:
            continue  # not a pod's
        fields = {field: labels.get(label, "") for field, label in _LABELS.items()}
        found.append(Container(id=identity, running=running, **fields))
    return Counted(node=node, containers=tuple(found), rule_addresses=tuple(sorted(set(_ADDRESS.findall(rules)))))


def _of_nerdctl(told: str) -> Iterator[tuple[str, bool, Mapping[str, str]]]:
    """A line of JSON a container: id, whether it runs, labels."""
    for line in told.splitlines():
        if line.strip():
            entry = _lines.decode(line)
            labels = entry.Labels if isinstance(entry.Labels, dict) else _split_labels(entry.Labels)
            yield entry.ID, entry.Status.startswith("Up"), labels


def _of_crictl(told: str) -> Iterator[tuple[str, bool, Mapping[str, str]]]:
    """One document with all containers."""
    for entry in _cri.decode(told).containers:
        yield entry.id, entry.state == "CONTAINER_RUNNING", entry.labels


def _split_labels(text: str) -> dict[str, str]:
    """`a=b,c=d`; values that hold commas are cut, which none of ours does."""
    return dict(pair.partition("=")[::2] for pair in text.split(",") if "=" in pair)
