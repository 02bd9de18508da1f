"""Rules of a pod's volumes. Pure. Source: `ValidateVolumes`, `validateVolumeSource`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labctl.kube.quantity import parse
from master.apiserver import names
from master.apiserver.problems import duplicate, forbidden_field, invalid, required, unsupported
from master.apiserver.validation.downward import file_ref
from master.apiserver.validation.values import Document, Found, named

_HOST_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")
_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
_SEVERAL = "may not specify more than 1 volume type"


def volumes(given: list[Document], path: str, found: Found) -> dict[str, Document]:
    """The volumes that are well formed, by name."""
    known: dict[str, Document] = {}
    for at, volume in enumerate(given):
        place, name = f"{path}[{at}]", volume.get("name", "")
        before = len(found)
        _source(volume, place, found)
        named(name, f"{place}.name", names.label, found)
        if name in known:
            found.append(duplicate(f"{place}.name", name))
        if len(found) == before:
            known[name] = volume
    return known


def _source(volume: Document, path: str, found: Found) -> None:
    kinds = [key for key in volume if key != "name"]
    if not kinds:
        found.append(required(path, "must specify a volume type"))
        return
    if len(kinds) > 1:
        kinds.sort(key=lambda kind: _ORDER.get(kind, 99))
        found += [forbidden_field(f"{path}.{kind}", _SEVERAL) for kind in kinds[1:]]
    if check := _CHECKS.get(kinds[0]):
        check(volume[kinds[0]] or {}, f"{path}.{kinds[0]}", found)


def mode(value: Any, field: str, found: Found) -> None:
    """A file's permission bits."""
    if isinstance(value, int) and not 0 <= value <= 0o777:
        found.append(invalid(field, value, _MODE))


def local_path(text: str, field: str, found: Found) -> None:
    """A relative path that does not leave its folder, and does not start with two dots."""
    if text.startswith("/"):
        found.append(invalid(field, text, "must be a relative path"))
    if ".." in text.split("/"):
        found.append(invalid(field, text, "must not contain '..'"))
    elif text.startswith(".."):
        found.append(invalid(field, text, "must not start with '..'"))


def _items(items: Any, path: str, found: Found) -> None:
    for at, item in enumerate(items or ()):
        place = f"{path}[{at}]"
        for key in ("key", "path"):
            if not item.get(key):
                found.append(required(f"{place}.{key}"))
        local_path(item.get("path", ""), f"{place}.path", found)
        mode(item.get("mode"), f"{place}.mode", found)


def _empty_dir(source: Document, path: str, found: Found) -> None:
    if "sizeLimit" in source and parse(source["sizeLimit"]) < 0:
        found.append(forbidden_field(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity"))


def host_path(source: Document, path: str, found: Found) -> None:
    """A path on the node, of a kind."""
    where = source.get("path", "")
    if not where:
        found.append(required(f"{path}.path"))
        return
    if ".." in where.split("/"):
        found.append(invalid(f"{path}.path", where, "must not contain '..'"))
    if source.get("type", "") not in _HOST_TYPES:
        found.append(unsupported(f"{path}.type", source["type"], _HOST_TYPES))


def _secret(source: Document, path: str, found: Found) -> None:
    if not source.get("secretName"):
        found.append(required(f"{path}.secretName"))
    mode(source.get("defaultMode"), f"{path}.defaultMode", found)
    _items(source.get("items"), f"{path}.items", found)


def _config_map(source: Document, path: str, found: Found) -> None:
    if not source.get("name"):
        found.append(required(f"{path}.name"))
    mode(source.get("defaultMode"), f"{path}.defaultMode", found)
    _items(source.get("items"), f"{path}.items", found)


def _claim(source: Document, path: str, found: Found) -> None:
    if not source.get("claimName"):
        found.append(required(f"{path}.claimName"))


def _nfs(source: Document, path: str, found: Found) -> None:
    for key in ("server", "path"):
        if not source.get(key):
            found.append(required(f"{path}.{key}"))
    if source.get("path") and not source["path"].startswith("/"):
        found.append(invalid(f"{path}.path", source["path"], "must be an absolute path"))


def _downward(source: Document, path: str, found: Found) -> None:
    mode(source.get("defaultMode"), f"{path}.defaultMode", found)
    for item in source.get("items") or ():
        file_ref(item, path, found)


def _csi(source: Document, path: str, found: Found) -> None:
    if not source.get("driver"):
        found.append(required(f"{path}.driver"))


def _projected(source: Document, path: str, found: Found) -> None:
    mode(source.get("defaultMode"), f"{path}.defaultMode", found)
    paths: set[str] = set()
    for at, entry in enumerate(source.get("sources") or ()):
        place = f"{path}.sources[{at}]"
        kinds = [kind for kind in ("secret", "configMap", "downwardAPI", "serviceAccountToken") if kind in entry]
        for kind in kinds:
            _projection(kind, entry[kind] or {}, (path, f"{place}.{kind}"), paths, found)
        if len(entry) > 1:
            found.append(forbidden_field(place, _SEVERAL))


def _projection(kind: str, part: Document, where: tuple[str, str], paths: set[str], found: Found) -> None:
    path, place = where
    if kind == "serviceAccountToken":
        seconds = part.get("expirationSeconds", 3600)
        if seconds < 600:
            told = "may not specify a duration less than 10 minutes"
            found.append(invalid(f"{place}.expirationSeconds", seconds, told))
        elif seconds > 1 << 32:
            told = "may not specify a duration larger than 2^32 seconds"
            found.append(invalid(f"{place}.expirationSeconds", seconds, told))
        if not part.get("path"):
            found.append(required(f"{path}.path"))
        else:
            local_path(part["path"], f"{path}.path", found)
        return
    if kind == "downwardAPI":
        for item in part.get("items") or ():
            file_ref(item, place, found)
    else:
        if not part.get("name"):
            found.append(required(f"{place}.name"))
        _items(part.get("items"), f"{place}.items", found)
    for item in part.get("items") or ():
        target = item.get("path", "")
        if target and target in paths:
            shown = target if kind == "downwardAPI" else part.get("name", "")
            found.append(invalid(path, shown, "conflicting duplicate paths"))
        paths.add(target)


_CHECKS: dict[str, Callable[[Document, str, Found], None]] = {
    "emptyDir": _empty_dir,
    "hostPath": host_path,
    "secret": _secret,
    "nfs": _nfs,
    "persistentVolumeClaim": _claim,
    "downwardAPI": _downward,
    "configMap": _config_map,
    "projected": _projected,
    "csi": _csi,
}
_ORDER = {kind: at for at, kind in enumerate(_CHECKS)}
