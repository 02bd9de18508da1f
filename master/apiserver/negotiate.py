"""Which form an answer takes: the Accept header against what is served.

Source: apiserver `endpoints/handlers/negotiation`, `endpoints/handlers/rest.go` (AllowsMediaTypeTransform), goautoneg.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from labctl.kube.errors import NotAcceptable

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
_STREAM = ";stream=watch"
_PARTIALS = frozenset({"PartialObjectMetadata", "PartialObjectMetadataList"})
_VERSIONS = frozenset({"v1", "v1beta1"})


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

    @property
    def stream_type(self) -> str:
        """The Content-Type of a watch."""
        return self.media if self.media == JSON else self.media + _STREAM


class _Clause(msgspec.Struct, frozen=True):
    """One media range of an Accept header."""

    media: str
    options: dict[str, str]
    quality: float

    @property
    def rank(self) -> tuple[float, bool, bool]:
        """The better it is liked and the more it says, the earlier it comes; the client's order decides the rest."""
        return -self.quality, self.media.startswith("*/"), self.media.endswith("/*")


PLAIN = Form()


@lru_cache(maxsize=256)
def negotiate(accept: str, *, protobuf: bool = True, stream: bool = False) -> Form:
    """The best form the client accepts; NotAcceptable where there is none.

    `protobuf`: whether what is asked for has that form. `stream`: the answer is a watch, which has no YAML form.
    """
    if not accept or accept == JSON:
        return PLAIN
    served = [JSON] if stream else [JSON, YAML]
    if protobuf:
        served.append(PROTOBUF)
    for clause in _clauses(accept):
        for media in served:
            if clause.media in {media, "application/*", "*/*"} and (form := _form(media, clause.options)):
                return form
    raise NotAcceptable(f"only the following media types are accepted: {', '.join(_listed(served, stream))}")


def negotiated_error(accept: str) -> Form:
    """The form of an error: as asked for if that is possible, else JSON."""
    try:
        return Form(negotiate(accept).media)
    except NotAcceptable:
        return PLAIN


def wants_aggregated(accept: str) -> bool:
    """Whether discovery is asked for in one document, apidiscovery.k8s.io/v2, before any other form."""
    wanted = {"g": "apidiscovery.k8s.io", "v": "v2", "as": "APIGroupDiscoveryList"}
    for clause in _clauses(accept):
        if clause.media in {JSON, "application/*", "*/*"}:
            asked = {key: value for key, value in clause.options.items() if key in wanted}
            if asked == wanted:
                return True
            if not asked:
                return False
    return False


def _form(media: str, options: dict[str, str]) -> Form | None:
    if options.get("stream", "watch") != "watch":
        return None
    transform = options.get("as", "")
    if not transform and "g" not in options and "v" not in options:
        return Form(media)
    if options.get("g") != "meta.k8s.io" or options.get("v") not in _VERSIONS:
        return None
    if transform in _PARTIALS or (transform == "Table" and media != PROTOBUF):
        return Form(media, transform.removesuffix("List"), options["v"])
    return None


def _listed(served: list[str], stream: bool) -> list[str]:
    return [f"{media}{_STREAM}" for media in served] if stream else served


def _clauses(accept: str) -> list[_Clause]:
    found = []
    for entry in accept[:4096].split(","):
        media, *rest = (part.strip() for part in entry.split(";"))
        options = {key.strip(): value.strip().strip('"') for key, _, value in (part.partition("=") for part in rest)}
        if media == "*":
            media = "*/*"
        if media.count("/") == 1:
            found.append(_Clause(media, options, _quality(options.pop("q", "1"))))
    return sorted(found, key=lambda clause: clause.rank)


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0
