"""The files of a volume made from API objects: which, with what content and mode. Pure.

Source: k/k `pkg/volume/{configmap,secret,downwardapi,projected}`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agents.kubelet import env
from agents.kubelet.env import ConfigError, Surroundings
from agents.kubelet.views import ConfigMap, Container, DownwardFile, KeyToPath, Pod, ProjectedToken, Secret, Volume


@dataclass(frozen=True, slots=True)
class File:
    """One file of a volume."""

    content: bytes
    mode: int


Payload = Mapping[str, File]  # by path within the volume
TokenKey = tuple[str, int]  # audience, seconds


@dataclass(frozen=True, slots=True)
class Sources:
    """What a volume may be made from. A name that maps to None does not exist."""

    around: Surroundings
    tokens: Mapping[TokenKey, str]


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be read before a volume can be made."""

    config_maps: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    tokens: frozenset[TokenKey] = frozenset()


def is_payload(volume: Volume) -> bool:
    """Whether the volume's files come from API objects."""
    return any((volume.config_map, volume.secret, volume.projected, volume.downward_api))


def token_key(token: ProjectedToken) -> TokenKey:
    """What distinguishes two tokens of one pod."""
    return (token.audience, token.expiration_seconds)


def needs(volume: Volume) -> Needs:
    """What the volume is made from, besides the pod's own document."""
    maps = {volume.config_map.name} if volume.config_map else set()
    secrets = {volume.secret.secret_name} if volume.secret else set()
    tokens = set()
    for source in volume.projected.sources if volume.projected else ():
        maps |= {source.config_map.name} if source.config_map else set()
        secrets |= {source.secret.name} if source.secret else set()
        tokens |= {token_key(source.service_account_token)} if source.service_account_token else set()
    return Needs(frozenset(maps), frozenset(secrets), frozenset(tokens))


def payload(pod: Pod, volume: Volume, sources: Sources) -> Payload:
    """The volume's files; ConfigError where something it names is not there."""
    around = sources.around
    if (of_map := volume.config_map) is not None:
        data = _map_data(around.config_maps.get(of_map.name), of_map.name, optional=of_map.optional)
        return _pick(data, of_map.items, of_map.default_mode, f"ConfigMap {of_map.name}", optional=of_map.optional)
    if (of_secret := volume.secret) is not None:
        name, optional = of_secret.secret_name, of_secret.optional
        data = _secret_data(around.secrets.get(name), name, optional=optional)
        return _pick(data, of_secret.items, of_secret.default_mode, f"Secret {name}", optional=optional)
    if (downward := volume.downward_api) is not None:
        return _downward(pod, downward.items, downward.default_mode, around)
    return _projected(pod, volume, sources)


def _projected(pod: Pod, volume: Volume, sources: Sources) -> Payload:
    assert volume.projected is not None
    mode, around = volume.projected.default_mode, sources.around
    found: dict[str, File] = {}
    for source in volume.projected.sources:
        if (named := source.config_map) is not None:
            data = _map_data(around.config_maps.get(named.name), named.name, optional=named.optional)
            found |= _pick(data, named.items, mode, f"ConfigMap {named.name}", optional=named.optional)
        if (named := source.secret) is not None:
            data = _secret_data(around.secrets.get(named.name), named.name, optional=named.optional)
            found |= _pick(data, named.items, mode, f"Secret {named.name}", optional=named.optional)
        if source.downward_api is not None:
            found |= _downward(pod, source.downward_api.items, mode, around)
        if (token := source.service_account_token) is not None:
            private = pod.spec.security_context.fs_group is not None  # the writer lets the group in
            found[_within(token.path)] = File(sources.tokens[token_key(token)].encode(), 0o600 if private else mode)
    return found


def _pick(
    data: Mapping[str, bytes], items: Iterable[KeyToPath], default_mode: int, what: str, *, optional: bool
) -> dict[str, File]:
    """Every key under its own name, or the items under theirs."""
    wanted = tuple(items)
    if not wanted:
        return {_within(key): File(content, default_mode) for key, content in data.items()}
    found = {}
    for item in wanted:
        if item.key in data:
            mode = default_mode if item.mode is None else item.mode
            found[_within(item.path)] = File(data[item.key], mode)
        elif not optional:
            raise ConfigError(f"{what} has no key {item.key!r}")
    return found


def _map_data(found: ConfigMap | None, name: str, *, optional: bool) -> dict[str, bytes]:
    if found is None:
        return _absent(f'configmap "{name}" not found', optional=optional)
    plain = {key: text.encode() for key, text in found.data.items()}
    return plain | {key: _decoded(text, name) for key, text in found.binary_data.items()}


def _secret_data(found: Secret | None, name: str, *, optional: bool) -> dict[str, bytes]:
    if found is None:
        return _absent(f'secret "{name}" not found', optional=optional)
    return {key: _decoded(text, name) for key, text in found.data.items()}


def _downward(pod: Pod, items: Iterable[DownwardFile], default_mode: int, around: Surroundings) -> dict[str, File]:
    found = {}
    for item in items:
        text = ""
        if item.field_ref is not None:
            text = env.pod_field(pod, item.field_ref, around)
        elif item.resource_field_ref is not None:
            text = env.resource_field(
                pod, _container(pod, item.resource_field_ref.container_name), item.resource_field_ref, around
            )
        found[_within(item.path)] = File(text.encode(), default_mode if item.mode is None else item.mode)
    return found


def _container(pod: Pod, name: str) -> Container:
    every = (*pod.spec.containers, *pod.spec.init_containers)
    for container in every:
        if container.name == name:
            return container
    raise ConfigError(f"the pod has no container {name!r}")


def _absent(message: str, *, optional: bool) -> dict[str, bytes]:
    if not optional:
        raise ConfigError(message)
    return {}


def _within(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or not path or parts[0].startswith(".."):
        raise ConfigError(f"{path!r} is not a path within a volume")
    return path


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ConfigError(f"{name!r}: not base64: {error}") from error
