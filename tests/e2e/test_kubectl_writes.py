"""Every way kubectl has of changing things: generators, patches, edits, sets, pruning, kustomize."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.e2e.apiserver import ApiServer, Kubectl
from tests.e2e.documents import WEB, config_map

pytestmark = pytest.mark.etcd

# kubectl create ...: what it prints it made, and the command. `@` stands for a name nobody else has.
GENERATORS = """
configmap/x                                      configmap x --from-literal=a=b
secret/x                                         secret generic x --from-literal=a=b
secret/x                                         secret docker-registry x --docker-username=u --docker-password=p
secret/x                                         secret tls x --cert={cert} --key={key}
deployment.apps/x                                deployment x --image=i:1 --replicas=0 --port=80
job.batch/x                                      job x --image=i:1 -- date
cronjob.batch/x                                  cronjob x --image=i:1 '--schedule=*/5 * * * *' -- date
serviceaccount/x                                 serviceaccount x
role.rbac.authorization.k8s.io/x                 role x --verb=get,list --resource=pods --resource-name=y
rolebinding.rbac.authorization.k8s.io/x          rolebinding x --role=x --user=u --group=g --serviceaccount=default:d
clusterrole.rbac.authorization.k8s.io/@          clusterrole @ --verb=get --resource=deployments.apps/scale
clusterrole.rbac.authorization.k8s.io/@          clusterrole @ --verb=get --non-resource-url=/metrics
clusterrole.rbac.authorization.k8s.io/@          clusterrole @ --aggregation-rule=a=b
clusterrolebinding.rbac.authorization.k8s.io/@   clusterrolebinding @ --clusterrole=view --user=u
namespace/@-2                                    namespace @-2
resourcequota/x                                  quota x --hard=pods=1 --scopes=BestEffort
resourcequota/x                                  quota x --hard=pods=1,requests.cpu=2
poddisruptionbudget.policy/x                     poddisruptionbudget x --selector=a=b --min-available=1
poddisruptionbudget.policy/x                     poddisruptionbudget x --selector=a=b --max-unavailable=50%
priorityclass.scheduling.k8s.io/@                priorityclass @ --value=7 --preemption-policy=Never --description=d
ingress.networking.k8s.io/x                      ingress x --class=c '--rule=h/p*=s:80,tls=t'
service/x                                        service clusterip x --tcp=80:8080
service/x                                        service clusterip x --clusterip=None
service/x                                        service nodeport x --tcp=80 --node-port=30007
service/x                                        service loadbalancer x --tcp=80
service/x                                        service externalname x --external-name=example.com
"""


@pytest.mark.parametrize("line", GENERATORS.strip().splitlines(), ids=lambda line: line.split(maxsplit=1)[1][:40])
def test_create_makes_each_kind_it_has_a_generator_for(kubectl: Kubectl, apiserver: ApiServer, line: str) -> None:
    made, command = line.split(maxsplit=1)
    unique = kubectl.namespace
    name = made.replace("@", unique)
    certificate = apiserver.folder / "pki" / "apiserver"
    words = shlex.split(command.replace("@", unique).format(cert=f"{certificate}.crt", key=f"{certificate}.key"))
    assert kubectl.run("create", *words) == f"{name} created\n"
    again = [word for word in words if not word.startswith("--node-port")]
    assert "already exists" in kubectl.run("create", *again, check=False)
    assert kubectl.run("get", name, "-o", "name") == f"{name}\n"
    kubectl.run("delete", name, "--wait=false")


def test_create_makes_a_job_from_a_cron_job_and_a_token(kubectl: Kubectl) -> None:
    kubectl.run("create", "cronjob", "c", "--image=i:1", "--schedule=* * * * *")
    kubectl.run("create", "job", "j", "--from=cronjob/c")
    assert kubectl.path("get", "job", "j", at=".metadata.ownerReferences[0].name") == "c"
    kubectl.run("create", "serviceaccount", "someone")
    token = kubectl.run("create", "token", "someone", "--duration=10m", "--audience=me")
    assert token.count(".") == 2


def test_run_and_expose_make_a_pod_and_its_service(kubectl: Kubectl) -> None:
    kubectl.run("run", "one", "--image=x:1", "--labels=a=b", "--env=A=b", "--port=80", "--expose")
    assert kubectl.path("get", "service", "one", at=".spec.selector") == '{"a":"b"}'
    kubectl.run("apply", "-f-", stdin=WEB)
    kubectl.run("expose", "deployment/web", "--name=more", "--port=81", "--target-port=80", "--type=NodePort")
    port = kubectl.json("get", "service", "more")["spec"]["ports"][0]
    assert (port["port"], port["targetPort"]) == (81, 80)
    assert 30000 <= port["nodePort"] <= 32767


def test_every_patch_type_and_its_friends(kubectl: Kubectl) -> None:
    kubectl.run("apply", "-f-", stdin=WEB)
    kubectl.run("patch", "deployment", "web", "-p", '{"spec":{"replicas":4}}')
    kubectl.run("patch", "deployment", "web", "--type=merge", "-p", '{"metadata":{"labels":{"a":"b"}}}')
    operation = '[{"op":"remove","path":"/metadata/labels/tier"}]'
    kubectl.run("patch", "deployment", "web", "--type=json", "-p", operation)
    kubectl.run("label", "deployment", "web", "c=d")
    assert "already has a value (d)" in kubectl.run("label", "deployment", "web", "c=e", check=False)
    kubectl.run("label", "deployment", "web", "c=e", "--overwrite")
    kubectl.run("label", "deployment", "web", "a-")
    kubectl.run("annotate", "deployment", "web", "note=hello")
    found = kubectl.json("get", "deployment", "web")
    assert found["metadata"]["labels"] == {"c": "e"}
    assert found["metadata"]["annotations"]["note"] == "hello"
    assert found["spec"]["replicas"] == 4


def test_set_changes_one_thing_at_a_time(kubectl: Kubectl) -> None:
    kubectl.run("apply", "-f-", stdin=WEB)
    kubectl.run("create", "rolebinding", "b", "--role=r", "--user=u")
    for arguments in (
        ("image", "deployment/web", "web=lab.local/web:9"),
        ("env", "deployment/web", "A=b"),
        ("resources", "deployment/web", "--limits=cpu=200m,memory=64Mi", "--requests=cpu=100m"),
        ("serviceaccount", "deployment/web", "someone"),
        ("selector", "service/web", "a=b"),
        ("subject", "rolebinding/b", "--group=g"),
    ):
        kubectl.run("set", *arguments)
    pod = kubectl.json("get", "deployment", "web")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "someone"
    (container,) = pod["containers"]
    assert (container["image"], container["env"]) == ("lab.local/web:9", [{"name": "A", "value": "b"}])
    assert container["resources"] == {"limits": {"cpu": "200m", "memory": "64Mi"}, "requests": {"cpu": "100m"}}
    assert kubectl.path("get", "service", "web", at=".spec.selector") == '{"a":"b"}'
    assert kubectl.path("get", "rolebinding", "b", at=".subjects[*].name") == "u g"


def test_edit_sends_what_the_editor_left(kubectl: Kubectl) -> None:
    kubectl.run("create", "configmap", "c", "--from-literal=a=before")
    kubectl.run("edit", "configmap", "c", env={"KUBE_EDITOR": "sed -i s/before/after/"})
    assert kubectl.json("get", "configmap", "c")["data"] == {"a": "after"}
    said = kubectl.run("edit", "configmap", "c", env={"KUBE_EDITOR": "sed -i 's/name: c$/name: d/'"}, check=False)
    assert "At least one of apiVersion, kind and name was changed" in said


def test_replace_and_delete_by_selector(kubectl: Kubectl) -> None:
    kubectl.run("apply", "-f-", stdin=WEB)
    kubectl.run("replace", "-f-", stdin=WEB.replace("replicas: 3", "replicas: 1"))
    assert kubectl.path("get", "deployment", "web", at=".spec.replicas") == "1"
    before = kubectl.path("get", "deployment", "web", at=".metadata.uid")
    said = kubectl.run("replace", "--force", "-f-", stdin=WEB)
    assert "deployment.apps/web replaced" in said
    assert kubectl.path("get", "deployment", "web", at=".metadata.uid") != before
    assert "deleted" in kubectl.run("delete", "deployment", "-l", "tier=front")
    assert "NotFound" in kubectl.run("get", "deployment", "web", check=False)


def test_apply_prunes_what_the_file_no_longer_has(kubectl: Kubectl) -> None:
    prune = ("apply", "-f-", "--prune", "-l", "set=x", "--prune-allowlist=core/v1/ConfigMap")
    kubectl.run(*prune, stdin=config_map("one") + config_map("two"))
    assert "configmap/two pruned" in kubectl.run(*prune, stdin=config_map("one"))
    assert kubectl.run("get", "configmaps", "-l", "set=x", "-o", "name") == "configmap/one\n"


def test_an_apply_set_remembers_what_to_prune(kubectl: Kubectl) -> None:
    alpha = {"KUBECTL_APPLYSET": "true"}
    apply = ("apply", "-f-", "--prune", "--applyset=mine")
    kubectl.run(*apply, stdin=config_map("one") + config_map("two"), env=alpha)
    parent = kubectl.json("get", "secret", "mine")["metadata"]
    assert parent["annotations"]["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap"
    assert "configmap/two pruned" in kubectl.run(*apply, stdin=config_map("one"), env=alpha)
    member = f"applyset.kubernetes.io/part-of={parent['labels']['applyset.kubernetes.io/id']}"
    assert kubectl.run("get", "configmaps", "-l", member, "-o", "name") == "configmap/one\n"


def test_apply_and_diff_take_a_kustomization(kubectl: Kubectl, tmp_path: Path) -> None:
    folder = tmp_path / "kustomize"
    folder.mkdir()
    (folder / "web.yaml").write_text(WEB)
    (folder / "kustomization.yaml").write_text(
        "resources: [web.yaml]\nnamePrefix: k-\nimages: [{name: lab.local/web, newTag: '7'}]\n"
        "configMapGenerator: [{name: made, literals: [a=b]}]\n"
    )
    kubectl.run("apply", "-k", str(folder))
    assert kubectl.path("get", "deployment", "k-web", at="..image") == "lab.local/web:7"
    assert kubectl.run("diff", "-k", str(folder)) == ""
    assert kubectl.run("delete", "-k", str(folder)).count(" deleted") == 3


def test_taint_adds_refuses_and_removes(kubectl: Kubectl) -> None:
    node = kubectl.namespace
    kubectl.run("create", "-f-", stdin=f"apiVersion: v1\nkind: Node\nmetadata: {{name: {node}}}")
    kubectl.run("taint", "node", node, "a=b:NoSchedule")
    assert "--overwrite is false" in kubectl.run("taint", "node", node, "a=c:NoSchedule", check=False)
    kubectl.run("taint", "node", node, "a=c:NoSchedule", "--overwrite")
    taint = '.spec.taints[?(@.key=="a")].value'
    assert kubectl.path("get", "node", node, at=taint) == "c"
    kubectl.run("taint", "node", node, "a-")
    assert kubectl.path("get", "node", node, at=taint) == ""
    kubectl.run("delete", "node", node)


@pytest.mark.parametrize(("verb", "condition"), [("approve", "Approved"), ("deny", "Denied")])
def test_certificate_answers_a_signing_request(kubectl: Kubectl, verb: str, condition: str) -> None:
    name = f"{kubectl.namespace}-{verb}"
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    encoded = base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()
    document = f"""
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: {name}}}
spec: {{request: {encoded}, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}"""
    kubectl.run("create", "-f-", stdin=document)
    kubectl.run("certificate", verb, name)
    found = kubectl.json("get", "csr", name)
    assert [entry["type"] for entry in found["status"]["conditions"]] == [condition]
    assert found["spec"]["username"] == "kubernetes-admin"
    assert kubectl.run("get", "csr", name, "--no-headers").split()[-1] == condition
    kubectl.run("delete", "csr", name)


STRANGE = """
apiVersion: v1
kind: Pod
metadata: {name: odd, labels: {a: b}, madeUp: 1}
strange: {top: [1, {deep: true}]}
spec:
  strange: yes
  containers: [{name: c, image: i, strange: {kept: [1, 2.5, null]}}]
"""


def test_unknown_fields_survive_every_write_when_validation_is_ignored(kubectl: Kubectl) -> None:
    """A client that stores what we don't know reads it back, whole, after an update and every kind of patch."""
    ignore = "--validate=ignore"
    kubectl.run("create", ignore, "-f-", stdin=STRANGE)
    kubectl.run("label", "pod", "odd", "c=d")
    kubectl.run("patch", "pod", "odd", "-p", '{"metadata":{"annotations":{"strategic":"x"}}}')
    kubectl.run("patch", "pod", "odd", "--type=merge", "-p", '{"metadata":{"annotations":{"merge":"x"}}}')
    operation = '[{"op":"add","path":"/metadata/annotations/json","value":"x"}]'
    kubectl.run("patch", "pod", "odd", "--type=json", "-p", operation)
    kubectl.run("patch", "pod", "odd", "--subresource=status", "--type=merge", "-p", '{"status":{"phase":"Running"}}')
    kubectl.run("replace", ignore, "-f-", stdin=kubectl.run("get", "pod", "odd", "-o", "json"))
    found = kubectl.json("get", "pod", "odd")
    assert found["strange"] == {"top": [1, {"deep": True}]}
    assert found["metadata"]["madeUp"] == 1
    assert found["spec"]["strange"] is True
    assert found["spec"]["containers"][0]["strange"] == {"kept": [1, 2.5, None]}
    assert set(found["metadata"]["annotations"]) == {"strategic", "merge", "json"}


def test_strict_validation_refuses_unknown_fields_and_warn_warns(kubectl: Kubectl) -> None:
    refused = kubectl.run("create", "--validate=strict", "-f-", stdin=STRANGE, check=False)
    assert 'unknown field "spec.containers[0].strange"' in refused
    assert "NotFound" in kubectl.run("get", "pod", "odd", check=False)
    warned = kubectl.run("create", "--validate=warn", "-f-", stdin=STRANGE, check=False)
    assert 'Warning: unknown field "spec.containers[0].strange"' in warned
    assert "pod/odd created" in warned
