"""Every namespace has a ServiceAccount `default` and the cluster's root certificate. Pure.

Source: k/k `pkg/controller/serviceaccount/serviceaccounts_controller.go`, `pkg/controller/certificates/
rootcacertpublisher`.
"""

from __future__ import annotations

from labctl.kube.resources import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS
from master.controllers.protocol import Action, Controller, Create, Plan, Step, World, ref
from master.controllers.views import CONFIG_MAPS_KIND, NAMESPACES_KIND, SERVICE_ACCOUNTS_KIND

_ROOT_CA = "kube-root-ca.crt"
_NOTE = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


def plan(world: World, memory: None) -> Plan:
    """Create what is missing in each active namespace."""
    accounts, maps = world.all(SERVICE_ACCOUNTS_KIND), world.all(CONFIG_MAPS_KIND)
    steps: list[Step] = []
    for name, namespace in sorted(world.all(NAMESPACES_KIND).items()):
        if namespace.metadata.deleting or namespace.status.phase == "Terminating":
            continue
        actions: list[Action] = []
        if f"{name}/default" not in accounts:
            body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
            actions.append(Create(resource=SERVICE_ACCOUNTS, namespace=name, body=body))
        if world.settings.root_ca and f"{name}/{_ROOT_CA}" not in maps:
            meta = {"name": _ROOT_CA, "namespace": name, "annotations": {"kubernetes.io/description": _NOTE}}
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": meta,
                "data": {"ca.crt": world.settings.root_ca},
            }
            actions.append(Create(resource=CONFIG_MAPS, namespace=name, body=body))
        steps += [Step(ref(NAMESPACES, namespace.metadata), (action,)) for action in actions]
    return Plan(tuple(steps), memory=memory)


CONTROLLER = Controller(
    name="service_account", reads=(NAMESPACES_KIND, SERVICE_ACCOUNTS_KIND, CONFIG_MAPS_KIND), plan=plan
)
