"""Put the controllers to work: discovery of the catalog, shared informers, one thread each."""

from __future__ import annotations

from labctl.kube.client import Client
from labctl.kube.resources import BUILTIN, EVENTS, LEASES, Resource
from labctl.runtime.discovery import discover
from labctl.runtime.loop import Stop
from master.controllers import catalog
from master.controllers.loop import Runner, Surroundings
from master.controllers.protocol import Controller, Kind
from master.controllers.views import Owned


def collectable() -> tuple[Resource, ...]:
    """Every built-in kind that can be listed, watched and deleted, each once; Events look after themselves."""
    found: dict[tuple[str, str], Resource] = {}
    for resource in BUILTIN:
        if {"list", "watch", "delete"} <= set(resource.verbs) and resource.kind != EVENTS.kind:
            found.setdefault((resource.group, resource.kind), resource)
    return tuple(found.values())


def controllers() -> dict[str, Controller]:
    """The catalog, by name."""
    return discover(catalog, "CONTROLLER", Controller)


def start(client: Client, around: Surroundings, stop: Stop) -> list[Runner]:
    """Start every controller of the catalog; they end with `stop`."""
    runners = assemble(client, around)
    around.informers.start(stop)
    return [runner.start(stop) for runner in runners]


def assemble(client: Client, around: Surroundings) -> list[Runner]:
    """A runner for every controller of the catalog, and the informers they want; nothing runs yet."""
    found = controllers().values()
    narrow = [one for one in found if not one.reads_everything]
    broad = [one for one in found if one.reads_everything]
    runners = [Runner(one, client, around) for one in (*narrow, *broad)]  # the narrow ones' views of a kind come first
    if broad:
        _everything([runner for runner in runners if runner.controller.reads_everything], around)
    return runners


def _everything(runners: list[Runner], around: Surroundings) -> None:
    for resource in around.settings.kinds:
        for runner in runners:
            wake = None if resource == LEASES else runner.wake  # heartbeats own nothing and are many
            around.informers.want(Kind(resource, Owned, metadata_only=True), wake, late=True)
