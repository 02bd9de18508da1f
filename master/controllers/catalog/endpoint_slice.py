"""Keep each Service's EndpointSlices true to its pods. Pure: no clock, no network, no log.

Source: k/k `staging/src/k8s.io/endpointslice` (reconciler.go, utils.go): what is ready, serving and terminating, at
most 100 endpoints a slice, one group of slices for each set of ports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from labctl.kube.errors import Document
from labctl.kube.meta import Reference
from labctl.kube.resources import ENDPOINT_SLICES, SERVICES
from labctl.kube.selectors import LabelSelector
from master.controllers.pods import Labelled, is_finished, is_ready, selector_of, unique_names
from master.controllers.protocol import (
    Controller,
    Create,
    Plan,
    Step,
    World,
    delete,
    each,
    owner_reference,
    patch,
    ref,
)
from master.controllers.views import NODES_KIND, PODS_KIND, Pod
from master.controllers.views_services import (
    ENDPOINT_SLICES_KIND,
    SERVICES_KIND,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    Service,
)

MANAGER = "endpointslice-controller.k8s.io"
_SERVICE = "kubernetes.io/service-name"
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_HEADLESS = "service.kubernetes.io/headless"
_ZONE = "topology.kubernetes.io/zone"
_MOST = 100

Ports = tuple[EndpointPort, ...]


def plan(world: World, memory: None) -> Plan:
    """Create, change and delete slices until they say what the pods say."""
    pods_of = Labelled(world.all(PODS_KIND).values())
    slices_of: dict[tuple[str, str], list[EndpointSlice]] = {}
    for item in world.all(ENDPOINT_SLICES_KIND).values():
        labels = item.metadata.labels
        if labels.get(_MANAGED_BY) == MANAGER:
            slices_of.setdefault((item.metadata.namespace, labels.get(_SERVICE, "")), []).append(item)

    def decide(service: Service) -> Iterator[Step]:
        if service.metadata.deleting or not service.spec.selector or service.spec.type == "ExternalName":
            return iter(())
        selector = selector_of(LabelSelector(match_labels=service.spec.selector))
        pods = pods_of.chosen(service.metadata.namespace, selector)
        return _steps(service, pods, slices_of.get((service.metadata.namespace, service.metadata.name), []), world)

    steps = list(each(SERVICES, world.all(SERVICES_KIND).values(), decide))
    known = {(service.metadata.namespace, service.metadata.name) for service in world.all(SERVICES_KIND).values()}
    for owner, left in slices_of.items():
        if owner not in known:
            steps += [
                Step(ref(ENDPOINT_SLICES, item.metadata), (delete(ENDPOINT_SLICES, item.metadata),)) for item in left
            ]
    return Plan(tuple(steps), memory=memory)


def _steps(service: Service, pods: Sequence[Pod], slices: Sequence[EndpointSlice], world: World) -> Iterator[Step]:
    wanted: dict[Ports, dict[str, Endpoint]] = {}
    for pod in sorted(pods, key=lambda pod: pod.metadata.name):
        if pod.status.pod_ip and not is_finished(pod) and _is_somewhere(service, pod, world):
            ports = _ports(service, pod)
            if ports or not service.spec.ports:
                wanted.setdefault(ports, {})[pod.metadata.uid] = _endpoint(service, pod, world)
    if not wanted and not slices:
        wanted[()] = {}  # one empty slice says that the Service is known
    by_ports: dict[Ports, list[EndpointSlice]] = {}
    for item in sorted(slices, key=lambda item: item.metadata.name):
        by_ports.setdefault(_sorted_ports(item.ports), []).append(item)
    spare: list[EndpointSlice] = [item for ports, items in by_ports.items() if ports not in wanted for item in items]
    for ports, endpoints in wanted.items():
        yield from _group(service, ports, endpoints, by_ports.get(ports, []), spare)
    empty = not wanted
    for item in spare:
        if empty:  # the last one stays, empty
            empty = False
            yield from _change(service, item, (), item.ports)
        else:
            yield Step(ref(ENDPOINT_SLICES, item.metadata), (delete(ENDPOINT_SLICES, item.metadata),))


def _is_somewhere(service: Service, pod: Pod, world: World) -> bool:
    """Whether the pod's node still exists; one that is gone answers nobody, whatever its pods' status says."""
    known = pod.spec.node_name in world.all(NODES_KIND)
    return known or service.spec.publish_not_ready_addresses or not pod.spec.node_name


def _group(
    service: Service,
    ports: Ports,
    endpoints: Mapping[str, Endpoint],
    present: list[EndpointSlice],
    spare: list[EndpointSlice],
) -> Iterator[Step]:
    """Endpoints stay in the slice they are in; new ones fill the fullest with room, then a spare, then a new one."""
    placed: list[tuple[EndpointSlice | None, list[Endpoint]]] = []
    left = dict(endpoints)
    for old in present:
        uids = [entry.target_ref.uid for entry in old.endpoints if entry.target_ref is not None]
        kept = [left.pop(uid) for uid in uids if uid in left][:_MOST]
        placed.append((old, kept))
    for entry in left.values():
        room = max((part for part in placed if len(part[1]) < _MOST), key=lambda part: len(part[1]), default=None)
        if room is None:
            room = (spare.pop(0) if spare else None, [])
            placed.append(room)
        room[1].append(entry)
    if not placed:
        placed.append((spare.pop(0) if spare else None, []))
    filled = any(entries for _, entries in placed)
    first_empty = not filled
    for item, entries in placed:
        if entries or first_empty:
            first_empty = False
            if item is None:
                yield _create(service, ports, entries, [part for part, _ in placed if part is not None])
            else:
                yield from _change(service, item, tuple(entries), ports)
        elif item is not None:
            yield Step(ref(ENDPOINT_SLICES, item.metadata), (delete(ENDPOINT_SLICES, item.metadata),))


def _create(service: Service, ports: Ports, entries: Sequence[Endpoint], present: Sequence[EndpointSlice]) -> Step:
    state = (
        service.metadata.uid,
        msgspec.json.encode(ports).decode(),
        *sorted(item.metadata.uid for item in present),
        *sorted(entry.target_ref.uid for entry in entries if entry.target_ref),
    )
    (name,) = unique_names(f"{service.metadata.name}-", 1, *state)
    body: Document = {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {
            "name": name,
            "generateName": f"{service.metadata.name}-",
            "namespace": service.metadata.namespace,
            "labels": _labels(service),
            "ownerReferences": [owner_reference(SERVICES, service.metadata)],
        },
        "addressType": "IPv4",
        "endpoints": [_document(entry) for entry in entries],
        "ports": [_port_document(port) for port in ports],
    }
    create = Create(resource=ENDPOINT_SLICES, namespace=service.metadata.namespace, body=body)
    about = ref(SERVICES, service.metadata)
    return Step(
        about,
        (create,),
        failure_reason="FailedToCreateEndpointSlices",
        failure_prefix=f"Error creating EndpointSlice for Service {service.metadata.key}: ",
    )


def _change(service: Service, item: EndpointSlice, entries: tuple[Endpoint, ...], ports: Ports) -> Iterator[Step]:
    labels = _labels(service)
    same = entries == item.endpoints and _sorted_ports(item.ports) == _sorted_ports(ports)
    if same and labels.items() <= item.metadata.labels.items():
        return
    body: Document = {
        "metadata": {"labels": labels},
        "endpoints": [_document(entry) for entry in entries],
        "ports": [_port_document(port) for port in ports],
    }
    change = patch(ENDPOINT_SLICES, item.metadata, body, exact=True)
    yield Step(ref(ENDPOINT_SLICES, item.metadata), (change,), failure_reason="FailedToUpdateEndpointSlices")


def _labels(service: Service) -> dict[str, str]:
    labels = {key: value for key, value in service.metadata.labels.items() if key != _HEADLESS}
    labels |= {_SERVICE: service.metadata.name, _MANAGED_BY: MANAGER}
    return labels | ({_HEADLESS: ""} if service.spec.cluster_ip == "None" else {})


def _endpoint(service: Service, pod: Pod, world: World) -> Endpoint:
    serving, terminating = is_ready(pod), pod.metadata.deleting
    ready = service.spec.publish_not_ready_addresses or (serving and not terminating)
    node = world.all(NODES_KIND).get(pod.spec.node_name)
    named = pod.spec.hostname and pod.spec.subdomain == service.metadata.name
    return Endpoint(
        addresses=(pod.status.pod_ip,),
        conditions=EndpointConditions(ready=ready, serving=serving, terminating=terminating),
        hostname=pod.spec.hostname if named else "",
        node_name=pod.spec.node_name,
        zone=node.metadata.labels.get(_ZONE, "") if node else "",
        target_ref=Reference(
            kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid
        ),
    )


def _ports(service: Service, pod: Pod) -> Ports:
    """The Service's ports as numbers on this pod; a named one that it does not have is left out."""
    found: list[EndpointPort] = []
    for port in service.spec.ports:
        number = port.target_port if isinstance(port.target_port, int) else _named(pod, port.target_port, port.protocol)
        if isinstance(port.target_port, int) and number == 0:
            number = port.port
        if number:
            entry = EndpointPort(name=port.name, port=number, protocol=port.protocol, app_protocol=port.app_protocol)
            found.append(entry)
    return _sorted_ports(found)


def _named(pod: Pod, name: str, protocol: str) -> int:
    if name.isdigit():
        return int(name)
    for container in pod.spec.containers:
        for port in container.ports:
            if port.name == name and port.protocol == protocol:
                return port.container_port
    return 0


def _sorted_ports(ports: Sequence[EndpointPort]) -> Ports:
    return tuple(sorted(ports, key=lambda port: (port.name, port.protocol, port.port)))


def _document(entry: Endpoint) -> Document:
    conditions = entry.conditions
    found: Document = msgspec.to_builtins(entry)
    found["conditions"] = {
        "ready": conditions.ready,
        "serving": conditions.serving,
        "terminating": conditions.terminating,
    }
    return found


def _port_document(port: EndpointPort) -> Document:
    return {**msgspec.to_builtins(port), "name": port.name, "protocol": port.protocol}


CONTROLLER = Controller(
    name="endpoint_slice",
    reads=(SERVICES_KIND, PODS_KIND, ENDPOINT_SLICES_KIND, NODES_KIND),
    plan=plan,
)
