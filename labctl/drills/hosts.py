"""An inventory: how the machines of a cluster that labctl did not make are reached by ssh.

In YAML of our own:

    user: root
    key: ~/.ssh/id_ed25519
    units: {kubelet: k3s-agent.service}
    hosts:
      - node: worker1           # the Node's name
        host: 192.0.2.21
        power_off: ipmitool -H bmc1 chassis power off   # run on this host; without it power is out of reach

or an Ansible inventory, INI or YAML, with its customary variables (`ansible_host`, `ansible_user`, `ansible_port`,
`ansible_ssh_private_key_file`); ours are `labctl_node`, `labctl_role`, `labctl_power_off` and so on.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from labctl import fields
from labctl.fields import FieldError, Path_
from labctl.runtime.errors import UsageError

COMMANDS = ("power_off", "power_on", "reset", "suspend", "resume", "unplug", "plug")
_Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
_Command = Annotated[str, msgspec.Meta(max_length=4_000)]


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One machine. `role: master` is for machines of the control plane that are no Nodes."""

    node: Annotated[str, msgspec.Meta(min_length=1)]
    host: str = ""  # "": the node's name
    port: _Port | None = None
    user: str | None = None
    key: str | None = None
    role: Literal["", "master", "worker"] = ""
    power_off: _Command = ""
    power_on: _Command = ""
    reset: _Command = ""
    suspend: _Command = ""
    resume: _Command = ""
    unplug: _Command = ""
    plug: _Command = ""


class Inventory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of them, and what holds for each that does not say otherwise."""

    hosts: tuple[Host, ...]
    user: str = "root"
    port: _Port = 22
    key: str = ""  # "": what the ssh agent and ~/.ssh offer
    known_hosts: str = ""  # "": ~/.ssh/known_hosts
    host_keys: Literal["check", "accept"] = "check"  # accept: those of machines never seen before
    units: Mapping[str, str] = {}  # systemd units by component: kubelet, containerd, proxy, ...

    def host(self, node: str) -> Host | None:
        """The machine of a node."""
        return next((host for host in self.hosts if host.node == node), None)


def load(path: Path) -> Inventory:
    """Read it; UsageError names file and line. Keys and known_hosts are paths from the file's own folder."""
    text = fields.read(path)
    if path.suffix in {".yaml", ".yml", ".json"}:
        found = fields.parse(text, str(path), _decode)
    else:
        found = _ini(text, str(path))
    if not found.hosts:
        raise UsageError(f"{path}: no host in it")
    twice = [host.node for index, host in enumerate(found.hosts) if host.node in {h.node for h in found.hosts[:index]}]
    if twice:
        raise UsageError(f"{path}: node {twice[0]!r} stands twice")
    return _placed(found, path.resolve().parent)


def _placed(found: Inventory, folder: Path) -> Inventory:
    def at(text: str) -> str:
        return str(folder / Path(text).expanduser()) if text else ""

    hosts = tuple(msgspec.structs.replace(host, key=at(host.key)) if host.key else host for host in found.hosts)
    return msgspec.structs.replace(found, hosts=hosts, key=at(found.key), known_hosts=at(found.known_hosts))


def _decode(data: Any) -> Inventory:
    if isinstance(data, dict) and not isinstance(data.get("hosts"), list) and data:
        return _ansible(data)
    found: Inventory = fields.convert(data, Inventory, _known)
    return found


def _known(path: Path_) -> tuple[str, ...]:
    return Host.__struct_fields__ if path[:1] == ("hosts",) and len(path) > 1 else Inventory.__struct_fields__


# -- Ansible's formats ------------------------------------------------------------------------------------------------


def _ansible(data: Mapping[str, Any]) -> Inventory:
    """Groups of `hosts`, `vars` and `children`; a host's variables win over its groups'."""
    found: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[str]] = {}
    for name, group in data.items():
        _gather(str(name), group, {}, found, groups, (str(name),))
    return _inventory(found, groups)


def _gather(
    name: str,
    group: Any,
    above: Mapping[str, Any],
    found: dict[str, dict[str, Any]],
    groups: dict[str, list[str]],
    path: Path_,
) -> None:
    if group is None:
        return
    if not isinstance(group, dict) or not {"hosts", "vars", "children"} & set(group):
        raise FieldError(path, "neither an inventory of ours (a list `hosts`) nor a group of Ansible's")
    variables = {**above, **(group.get("vars") or {})}
    for host, own in (group.get("hosts") or {}).items():
        found[str(host)] = {**variables, **found.get(str(host), {}), **(own or {})}
        groups.setdefault(str(host), []).append(name)
    for child, inner in (group.get("children") or {}).items():
        _gather(str(child), inner, variables, found, groups, (*path, "children", str(child)))


_SECTION = re.compile(r"^\[(?P<group>[^\]:]+)(?::(?P<what>vars|children))?\]$")


def _ini(text: str, source: str) -> Inventory:
    """Ansible's INI: hosts with variables, groups, and variables of groups; ranges of hosts are not read."""
    found: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[str]] = {}
    shared: dict[str, dict[str, Any]] = {}
    group, what = "ungrouped", ""
    for number, words in _lines(text, source):
        if section := _SECTION.match(" ".join(words)):
            group, what = section["group"], section["what"] or ""
        elif what == "vars":
            name, _, value = " ".join(words).partition("=")
            shared.setdefault(group, {})[name.strip()] = value.strip().strip("\"'")
        elif not what:
            if "[" in words[0] or not all("=" in word for word in words[1:]):
                raise UsageError(f"{source}:{number}: not `name variable=value ...`: {' '.join(words)}")
            pairs = (word.partition("=") for word in words[1:])
            found.setdefault(words[0], {}).update((name, value) for name, _, value in pairs)
            groups.setdefault(words[0], []).append(group)
    told = {
        name: {**shared.get("all", {}), **{k: v for one in groups[name] for k, v in shared.get(one, {}).items()}, **own}
        for name, own in found.items()
    }
    try:
        return _inventory(told, groups)
    except FieldError as error:
        raise UsageError(f"{source}: {error}") from error


def _lines(text: str, source: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            words = shlex.split(line, comments=True) if not line.lstrip().startswith(";") else []
        except ValueError as error:
            raise UsageError(f"{source}:{number}: {error}") from error
        if words:
            yield number, words


def _inventory(found: Mapping[str, Mapping[str, Any]], groups: Mapping[str, list[str]]) -> Inventory:
    first = next(iter(found.values()), {})
    return Inventory(
        hosts=tuple(_host(name, variables, groups.get(name, [])) for name, variables in found.items()),
        known_hosts=str(first.get("labctl_known_hosts", "")),
        host_keys="accept" if str(first.get("labctl_host_keys", "")) == "accept" else "check",
        units={
            name.removeprefix("labctl_unit_"): str(value)
            for name, value in first.items()
            if name.startswith("labctl_unit_")
        },
    )


def _host(name: str, variables: Mapping[str, Any], groups: list[str]) -> Host:
    def of(*names: str) -> str | None:
        return next((str(variables[one]) for one in names if variables.get(one) not in (None, "")), None)

    role = of("labctl_role", "role") or ""
    if role not in {"master", "worker"}:
        role = "master" if any(re.search("master|control", group) for group in groups) else ""
    port = of("ansible_port", "ansible_ssh_port") or "22"
    if not port.isdigit():
        raise FieldError((name, "ansible_port"), f"{port!r} is not a number")
    return Host(
        node=of("labctl_node") or name,
        host=of("ansible_host", "ansible_ssh_host") or name,
        port=int(port),
        user=of("ansible_user", "ansible_ssh_user"),
        key=of("ansible_ssh_private_key_file", "ansible_private_key_file"),
        role="master" if role == "master" else "worker" if role == "worker" else "",
        **{command: of(f"labctl_{command}") or "" for command in COMMANDS},
    )
