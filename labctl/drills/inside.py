"""What a machine really runs, asked inside it over ssh: containers and packet rules. Not through the API.

Containers are recognised by the labels that Kubernetes' own runtimes carry (CRI `io.kubernetes.*`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from labctl.drills.records import Container, Counted
from labctl.drills.target import Target
from labctl.runtime.errors import LabError

_SPLIT = "--- rules ---"
# One round trip: both questions, one answer. `nft` may be absent on a node without our proxy.
_SCRIPT = (
    "nerdctl --namespace k8s.io ps --all --no-trunc --format '{{json .}}' || exit 3; "
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


_lines = msgspec.json.Decoder(_Line)


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
    """Ask all machines at once."""
    with ThreadPoolExecutor(max_workers=max(1, min(8, len(nodes)))) as pool:
        return tuple(pool.map(lambda node: count(target, node, timeout_s=timeout_s), nodes))


def parse(node: str, stdout: str) -> Counted:
    """Read the script's answer. Pure."""
    containers, _, rules = stdout.partition(_SPLIT)
    found = []
    for line in containers.splitlines():
        if not line.strip():
            continue
        entry = _lines.decode(line)
        labels = entry.Labels if isinstance(entry.Labels, dict) else _split_labels(entry.Labels)
        if _LABELS["uid"] not in labels:
            continue  # not a pod's
        fields = {field: labels.get(label, "") for field, label in _LABELS.items()}
        found.append(Container(id=entry.ID, running=entry.Status.startswith("Up"), **fields))
    return Counted(node=node, containers=tuple(found), rule_addresses=tuple(sorted(set(_ADDRESS.findall(rules)))))


def _split_labels(text: str) -> dict[str, str]:
    """`a=b,c=d`; values that hold commas are cut, which none of ours does."""
    return dict(pair.partition("=")[::2] for pair in text.split(",") if "=" in pair)
