"""Sequenced records sent to a StatefulSet of the drill's own: whom clients of an identity really talk to, and when.

Its one pod appends each record to a file on its machine, named by its uid, and acknowledges with that uid once the
record is on the disk. So acknowledgements tell which of an identity's pods lived when (`lives.py` judges), and after
the heal the machines tell what they kept: a local disk does not follow a pod, but it must not lose what it took.
Where machines cannot be asked, nothing is left on their disks: the file ends with its pod.
"""

from __future__ import annotations

import contextlib
import http.client
import threading

from labctl.drills.actions import Action, DeleteObject, Inside
from labctl.drills.history import Recorder
from labctl.drills.records import Logged, LogKept, Scene
from labctl.drills.target import Target
from labctl.drills.workload import IMAGE, node_port
from labctl.kube.errors import AlreadyExists, Document, NotFound
from labctl.kube.fencing import ANNOTATION
from labctl.kube.resources import PODS, SERVICES, STATEFUL_SETS, Resource
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop

NAME = "labctl-drill-log"
POD = f"{NAME}-0"
_FOLDER = "/var/lib/labctl-drill-log"
_LABELS = {"app": NAME}
_PORT = 8080
# The answer is the uid; a record is on the disk before it is sent. The shell is process 1, so it passes SIGTERM on.
_SERVE = f"""\
mkdir -p /tmp/www/cgi-bin
cat > /tmp/www/cgi-bin/add <<'END'
#!/bin/sh
echo "$QUERY_STRING" >> "/log/$POD_UID" && sync -d "/log/$POD_UID" || exit 1
printf 'Content-Type: text/plain\\r\\n\\r\\n%s' "$POD_UID"
END
chmod +x /tmp/www/cgi-bin/add
echo ready > /tmp/www/index.html
httpd -f -p {_PORT} -h /tmp/www &
server=$!
trap 'kill $server; exit 0' TERM INT
wait $server
"""
_READ_S = 20.0


class Identity:
    """The StatefulSet, and a writer that sends it a record every `period_s` from `start` to `stop`."""

    def __init__(
        self, target: Target, scene: Scene, recorder: Recorder, clock: Clock, *, period_s: float, image: str = IMAGE
    ) -> None:
        self._target, self._scene, self._recorder, self._clock = target, scene, recorder, clock
        self._period_s, self._image = period_s, image
        self._timeout_s = 1.0
        self._port = 0
        self._thread: threading.Thread | None = None
        # By nodes that are left alone: what fails is then the identity, not the way to it.
        self._ways = [scene.machines[name] for name in scene.survivors if name in scene.machines]

    @property
    def cleanups(self) -> tuple[Action, ...]:
        """Removes the records, then what took them (applied from the last to the first)."""
        made, namespace = (SERVICES, STATEFUL_SETS), self._scene.namespace
        return (
            *(
                Inside(node=name, script=f"rm -rf {_FOLDER}", what=f"remove the drill's records from {name}")
                for name in self._scene.nodes
                if self._scene.log_on_disk
            ),
            *(DeleteObject(plural=kind.plural, group=kind.group, namespace=namespace, name=NAME) for kind in made),
        )

    def deploy(self) -> None:
        """Make service and set; LabError where that fails. Both are replaced where a drill that died left them."""
        service = self._create(SERVICES, _service())
        self._port = node_port(service)
        if not self._port:
            raise LabError(f"the API server gave the service {self._scene.namespace}/{NAME} no node port")
        self._create(STATEFUL_SETS, _stateful_set(self._scene, self._image))

    def _create(self, resource: Resource, body: Document) -> Document:
        try:
            return self._target.client.create(resource, body, self._scene.namespace)
        except AlreadyExists:
            with contextlib.suppress(NotFound):
                self._target.client.delete(resource, NAME, self._scene.namespace)
            return self._target.client.create(resource, body, self._scene.namespace)

    def start(self, stop: Stop, timeout_s: float) -> None:
        """Begin to write, in a thread of its own; a record that got no answer for `timeout_s` is given up."""
        self._timeout_s = timeout_s
        self._thread = threading.Thread(target=self._write, args=(stop,), name="drill-identity", daemon=True)
        self._thread.start()

    def node(self) -> str:
        """Where the pod is; "" where there is none, or it is not bound."""
        try:
            found = self._target.client.get(PODS, POD, self._scene.namespace)
        except NotFound:
            return ""
        return str(found["spec"].get("nodeName") or "")

    def _write(self, stop: Stop) -> None:
        number = 0
        while not stop.wait_s(self._period_s):
            via, key, began_s = self._ways[number % len(self._ways)], f"s{number:06}", self._clock.monotonic_s()
            try:
                life, error = _sent(via, self._port, key, self._timeout_s), ""
            except (OSError, http.client.HTTPException) as failure:
                life, error = "", str(failure) or type(failure).__name__
            self._recorder.add(Logged(key=key, began_s=began_s, life=life, error=error))
            number += 1

    def read_back(self) -> None:
        """After `stop`: record what each machine's disk holds."""
        if self._thread is not None:
            self._thread.join(self._timeout_s + 5.0)
        for node in self._scene.nodes if self._scene.log_on_disk else ():
            self._recorder.add(_kept(self._target, node))


def _sent(via: str, port: int, key: str, timeout_s: float) -> str:
    """The uid of the pod that took the record."""
    connection = http.client.HTTPConnection(via, port, timeout=timeout_s)
    try:
        connection.request("GET", f"/cgi-bin/add?{key}")
        answer = connection.getresponse()
        body = answer.read(1_024).decode(errors="replace").strip()
    finally:
        connection.close()
    if answer.status != http.client.OK or not body:
        raise http.client.HTTPException(f"HTTP {answer.status}, {body or 'no body'}")
    return body


def _kept(target: Target, node: str) -> LogKept:
    script = (
        f'cd {_FOLDER} 2>/dev/null || exit 0; for file in *; do [ ! -f "$file" ] || sed "s/^/$file /" "$file"; done'
    )
    try:
        done = target.run(node, ["sh", "-c", script], timeout_s=_READ_S)
    except LabError as error:
        return LogKept(node=node, error=str(error))
    if done.code != 0:
        return LogKept(node=node, error=f"exit code {done.code}: {done.stderr.strip()}")
    keys: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        life, _, key = line.partition(" ")
        keys.setdefault(life, []).append(key)
    return LogKept(node=node, keys={life: tuple(found) for life, found in keys.items()})


def _service() -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "labels": _LABELS},
        "spec": {
            "type": "NodePort",
            "selector": _LABELS,
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    }


def _stateful_set(scene: Scene, image: str) -> Document:
    disk: Document = {"hostPath": {"path": _FOLDER, "type": "DirectoryOrCreate"}}
    container = {
        "name": "log",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", _SERVE],
        "env": [{"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
        "ports": [{"name": "http", "containerPort": _PORT}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "log", "mountPath": "/log"}],
    }
    wanted = {"key": "kubernetes.io/hostname", "operator": "In", "values": list(scene.victims)}
    near = {"weight": 100, "preference": {"matchExpressions": [wanted]}}
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "log", **(disk if scene.log_on_disk else {"emptyDir": {}})}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [near]}},
    }
    annotations = {ANNOTATION: scene.fencing}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": NAME, "labels": _LABELS},
        "spec": {
            "serviceName": NAME,
            "replicas": 1,
            "selector": {"matchLabels": _LABELS},
            "template": {"metadata": {"labels": _LABELS, "annotations": annotations}, "spec": spec},
        },
    }
