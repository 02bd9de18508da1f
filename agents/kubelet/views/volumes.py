"""A pod's volumes and what is projected into them. Source: k8s.io/api `core/v1/types.go`."""

from __future__ import annotations

from agents.kubelet.views.base import Quantity, View
from agents.kubelet.views.containers import FieldRef, ResourceFieldRef


class KeyToPath(View, frozen=True):
    """One key of a config map or secret as a file."""

    key: str
    path: str
    mode: int | None = None


class DownwardFile(View, frozen=True):
    """A field of the pod as a file."""

    path: str
    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None
    mode: int | None = None


class EmptyDir(View, frozen=True):
    """A directory as old as the pod."""

    medium: str = ""
    size_limit: Quantity | None = None


class HostPath(View, frozen=True):
    """A path of the node; `type` says what must be there."""

    path: str
    type: str = ""


class ConfigMapVolume(View, frozen=True):
    """A config map as files."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class SecretVolume(View, frozen=True):
    """A secret as files."""

    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class DownwardVolume(View, frozen=True):
    """The pod's own fields as files."""

    items: tuple[DownwardFile, ...] = ()
    default_mode: int = 0o644


class ProjectedConfigMap(View, frozen=True):
    """A config map within a projected volume."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class ProjectedToken(View, frozen=True):
    """A service account token within a projected volume."""

    path: str = "token"
    audience: str = ""
    expiration_seconds: int = 3600


class ProjectedDownward(View, frozen=True):
    """The pod's fields within a projected volume."""

    items: tuple[DownwardFile, ...] = ()


class Projection(View, frozen=True):
    """One source of a projected volume; one is set."""

    config_map: ProjectedConfigMap | None = None
    secret: ProjectedConfigMap | None = None
    service_account_token: ProjectedToken | None = None
    downward_api: ProjectedDownward | None = None


class ProjectedVolume(View, frozen=True):
    """Several sources in one directory."""

    sources: tuple[Projection, ...] = ()
    default_mode: int = 0o644


class ClaimVolume(View, frozen=True):
    """A persistent volume claim; read so that it can be refused by name."""

    claim_name: str = ""
    read_only: bool = False


class Volume(View, frozen=True):
    """A pod's volume; one source is set (none of those below: a kind that is not supported)."""

    name: str
    empty_dir: EmptyDir | None = None
    host_path: HostPath | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    projected: ProjectedVolume | None = None
    downward_api: DownwardVolume | None = None
    persistent_volume_claim: ClaimVolume | None = None
