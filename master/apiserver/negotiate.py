"""Which form an answer takes: the Accept header against what is served.

Source: apiserver `endpoints/handlers/negotiation`.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from labctl.kube.errors import NotAcceptable

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
_JSON_NAMES = frozenset({JSON, "application/*", "*/*"})
_FORMS = frozenset({"Table", "PartialObjectMetadata", "PartialObjectMetadataList"})


class Form(msgspec.Struct, frozen=True):
    """The media type and, for metadata forms, what to turn objects into (`Table`, `PartialObjectMetadata`, "")."""

    media: str = JSON
    transform: str = ""
    version: str = "v1"  # of meta.k8s.io
    include: str = "Metadata"  # what a Table row carries: None, Metadata or Object

    @property
    def content_type(self) -> str:
        """The Content-Type to answer with."""
        return self.media


PLAIN = Form()


@lru_cache(maxsize=256)
def negotiate(accept: str) -> Form:
    """The first acceptable form, in the client's order; NotAcceptable where there is none."""
    if not accept or accept == JSON:
        return PLAIN
    for entry in accept.split(","):
        media, *rest = (part.strip() for part in entry.split(";"))
        options = dict(part.split("=", 1) for part in rest if "=" in part)
        transform = options.get("as", "")
        if media == "application/yaml" and not transform:
            return Form(YAML)
        if media not in _JSON_NAMES:
            continue
        if not transform:
            return PLAIN
        if transform in _FORMS and options.get("g") == "meta.k8s.io" and options.get("v") in {"v1", "v1beta1"}:
            return Form(JSON, transform.removesuffix("List"), options["v"])
    raise NotAcceptable("only the following media types are accepted: application/json, application/yaml", details={})
