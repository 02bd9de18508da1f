"""Server-side apply: PATCH with `application/apply-patch+yaml`.

Source: apiserver `endpoints/handlers/patch.go` (applyPatcher), apimachinery `util/managedfields` (scalehandler.go).
"""

from __future__ import annotations

from typing import Any

import msgspec

from labctl.kube import managed
from labctl.kube.codec import DecodeError, clean, decode_json, decode_yaml
from labctl.kube.duplicates import duplicates
from labctl.kube.errors import BadRequest, Conflict
from labctl.kube.managed import APPLY, Application, Conflicts
from labctl.kube.merging import flaws
from labctl.runtime.clock import rfc3339
from master.apiserver import ownership, problems, strategy
from master.apiserver.context import Context
from master.apiserver.registry import Kind
from master.apiserver.request import Request

Document = dict[str, Any]

_SCALE = ("autoscaling/v1", "Scale")


def read_config(context: Context, request: Request, kind: Kind, warnings: list[str]) -> Document:
    """The applied configuration, of the served version, checked; BadRequest, or 422 where an option is wrong."""
    assert request.target is not None
    if not request.query.get("fieldManager"):
        error = problems.required("fieldManager", "is required for apply patch")
        raise problems.bad_option(request.options, error)
    ownership.manager_name(request)
    config = _parsed(request, warnings)
    metadata = config.get("metadata")
    config["metadata"] = {} if metadata is None else metadata
    if not isinstance(config["metadata"], dict):
        raise BadRequest("error decoding YAML: metadata is not an object", details={})
    if request.target.subresource == "scale":
        return _scale_config(config, request, kind)
    _same_kind(config, (kind.resource.api_version, kind.resource.kind))
    _addressed(config, request)
    _typed(context, config, request, kind)
    return _owned_part(config, request, kind)


def _parsed(request: Request, warnings: list[str]) -> Document:
    """The body, which is YAML and mostly JSON; of the latter keys that come twice are told."""
    twice: list[str] = []
    try:
        config = decode_json(request.body)
        twice = duplicates(request.body, config)
    except DecodeError:
        try:
            config = decode_yaml(request.body)
        except DecodeError as error:
            raise BadRequest(f"error decoding YAML: {error}", details={}) from error
    if not isinstance(config, dict):
        raise BadRequest("error decoding YAML: the configuration is not an object", details={})
    if twice and request.query.get("fieldValidation") != "Ignore":
        told = "".join(f'\n  key "{path.rpartition(".")[2]}" already set in map' for path in twice)
        flaw = f"error converting YAML to JSON: yaml: unmarshal errors:{told}"
        if request.query.get("fieldValidation") == "Strict":
            raise BadRequest(f"error strict decoding YAML: {flaw}", details={})
        warnings.append(flaw.replace("\n", " "))
    return config


def _same_kind(config: Document, wanted: tuple[str, str]) -> None:
    given = (config.get("apiVersion"), config.get("kind"))
    if given != wanted:
        version = str(given[0] or "")
        shown = version if "/" in version else f"/{version}"
        raise BadRequest(f"invalid object type: {shown}, Kind={given[1] or ''}", details={})


def _addressed(config: Document, request: Request) -> None:
    assert request.target is not None
    metadata, name = config["metadata"], request.target.name
    if metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil", details={})
    metadata.pop("managedFields", None)
    given = metadata.setdefault("name", name)
    if given != name:
        raise BadRequest(f"the name of the object ({given}) does not match the name on the URL ({name})", details={})


def _typed(context: Context, config: Document, request: Request, kind: Kind) -> None:
    """Unknown fields, wrong types and lists that name an item twice are refused, whatever fieldValidation says."""
    assert request.target is not None
    try:
        unknown = clean(config, context.registry.shape(kind))
    except DecodeError as error:
        raise _untyped(request, kind, [str(error)]) from error
    found = [f".{path}: field not declared in schema" for path in unknown]
    found += flaws(config, ownership.rule(context, kind))
    if found:
        raise _untyped(request, kind, found)


def _untyped(request: Request, kind: Kind, found: list[str]) -> BadRequest:
    assert request.target is not None
    resource, target = kind.resource, request.target
    where = f"{target.namespace if resource.namespaced else ''}/{target.name}"
    version = resource.api_version if resource.group else f"/{resource.version}"
    told = found[0] if len(found) == 1 else "errors:\n  " + "\n  ".join(found)
    return BadRequest(
        f"failed to create typed patch object ({where}; {version}, Kind={resource.kind}): {told}", details={}
    )


def _owned_part(config: Document, request: Request, kind: Kind) -> Document:
    """Without what this endpoint does not write: status on the main one, all but status (and labels) on /status."""
    assert request.target is not None
    if request.target.subresource == "status":
        kept: Document = {key: config[key] for key in ("apiVersion", "kind", "metadata", "status") if key in config}
        if kind.resource.plural not in strategy.STATUS_METADATA:
            names = ("name", "namespace", "uid", "resourceVersion")
            kept["metadata"] = {key: value for key, value in config["metadata"].items() if key in names}
        return kept
    if strategy.has_status(kind.resource):
        config.pop("status", None)
    return config


def _scale_config(config: Document, request: Request, kind: Kind) -> Document:
    """A Scale as a configuration of its workload: its replicas are the workload's."""
    _same_kind(config, _SCALE)
    _addressed(config, request)
    spec = config.get("spec") or {}
    replicas = spec.get("replicas") if isinstance(spec, dict) else None
    if replicas is not None and (isinstance(replicas, bool) or not isinstance(replicas, int)):
        raise BadRequest("Scale: spec.replicas must be a whole number", details={})
    about = {"apiVersion": kind.resource.api_version, "kind": kind.resource.kind, "metadata": config["metadata"]}
    return about if replicas is None else {**about, "spec": {"replicas": replicas}}


def created(context: Context, request: Request, kind: Kind, config: Document) -> list[Document]:
    """The owners of an object that an apply creates: what it does not name belongs to nobody."""
    return managed.encode(_applied(context, request, kind, {}, config).managers)


def merged(context: Context, request: Request, kind: Kind, live: Document, config: Document) -> Document:
    """The object (of the served version) with the configuration merged in, its owners among its metadata; Conflict."""
    done = _applied(context, request, kind, live, config)
    new: Document = msgspec.json.decode(msgspec.json.encode(done.document))  # parts are shared with `live`
    new["metadata"]["managedFields"] = managed.encode(done.managers)
    managed.sync_last_applied(live, new, config, ownership.manager_name(request))
    return new


def _applied(context: Context, request: Request, kind: Kind, live: Document, config: Document) -> managed.Applied:
    try:
        owners = managed.decode(live.get("metadata", {}).get("managedFields"))
    except ValueError:
        owners = {}
    wanted = Application(
        ownership.writes_as(request, kind, APPLY),
        config,
        ownership.rule(context, kind),
        rfc3339(context.clock.now()),
        force=request.flag("force"),
    )
    to_stored = kind.conversion.to_stored if kind.conversion else (lambda document: document)
    before = to_stored(live) if live else live

    def differs(new: Document) -> managed.DiffAt:
        return ownership.Versions(context, kind, before, to_stored(new))

    try:
        return managed.apply(live, owners, wanted, differs)
    except Conflicts as conflicts:
        causes = [
            {"reason": "FieldManagerConflict", "message": f"conflict with {owner.shown}", "field": path}
            for owner, path in conflicts.found
        ]
        raise Conflict(str(conflicts), details={"causes": causes}) from conflicts


def no_such_uid(kind: Kind, name: str, config: Document) -> Conflict | None:
    """An apply that means one very object cannot create another."""
    uid = config["metadata"].get("uid")
    if not uid:
        return None
    why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
    return problems.conflict(kind.resource, name, why)
