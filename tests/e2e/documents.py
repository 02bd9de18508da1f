"""Manifests that the tests with real clients share."""

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: lab.local/web:1
        ports: [{containerPort: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80}]
"""


def config_map(name: str, *, label: str = "set: x", data: str = "a: b") -> str:
    """One ConfigMap, ready to stand beside others in a file."""
    return f"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{{label}}}}}\ndata: {{{data}}}\n"


def event(namespace: str, uid: str) -> str:
    """An Event about the pod `one`."""
    return f"""
apiVersion: v1
kind: Event
metadata: {{name: one.1}}
involvedObject: {{kind: Pod, name: one, namespace: {namespace}, uid: {uid}, apiVersion: v1}}
reason: Scheduled
message: it went well
type: Normal
count: 1
firstTimestamp: "2026-01-01T00:00:00Z"
lastTimestamp: "2026-01-01T00:00:00Z"
source: {{component: tester}}
"""
