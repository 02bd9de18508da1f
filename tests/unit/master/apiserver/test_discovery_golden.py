"""What is served, line by line, against a table of Kubernetes 1.37's own facts: a change of any of it shows here.

The tables are what `kubectl api-resources -o wide` prints of a 1.37 cluster's stable groups, by group and name, and
the subresources that the same discovery documents name (upstream: `api/discovery/*.json`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.unit.master.apiserver.harness import Api

Document = dict[str, Any]

METRICS = "metrics.k8s.io"  # not of the API server's own: the metrics-server adds it
_GOLDEN = Path(__file__).parents[3] / "golden"
_RESOURCES = ("NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "VERBS", "CATEGORIES")
_SUBRESOURCES = ("NAME", "SERVEDIN", "APIVERSION", "KIND", "VERBS")


def _documents(api: Api) -> list[Document]:
    """The discovery document of each group version, core first, then by group; the preferred version first."""
    groups = sorted(api.get("/apis").document["groups"], key=lambda group: str(group["name"]))
    groups = [
        group for group in groups if group["name"] != "metrics.k8s.io"
    ]  # the metrics-server's, not upstream's own
    paths = ["/api/v1", *(f"/apis/{version['groupVersion']}" for group in groups for version in group["versions"])]
    return [api.get(path).document for path in paths]


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[at]) for row in (heading, *rows)) for at in range(len(heading))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (heading, *rows))
    return "".join(f"{line.rstrip()}\n" for line in lines)


def test_every_kind_is_served_under_upstreams_names_scope_and_verbs(api: Api) -> None:
    rows = [
        (
            found["name"],
            ",".join(found.get("shortNames", ())),
            document["groupVersion"],
            str(found["namespaced"]).lower(),
            found["kind"],
            ",".join(sorted(found["verbs"])),
            ",".join(found.get("categories", ())),
        )
        for document in _documents(api)
        for found in document["resources"]
        if "/" not in found["name"]
    ]
    assert _table(_RESOURCES, rows) == (_GOLDEN / "api_resources.txt").read_text()


def test_every_subresource_is_served_under_upstreams_kind_and_verbs(api: Api) -> None:
    rows = [
        (
            found["name"],
            document["groupVersion"],
            "/".join(filter(None, (found.get("group"), found.get("version")))) or document["groupVersion"],
            found["kind"],
            ",".join(sorted(found["verbs"])),
        )
        for document in _documents(api)
        for found in document["resources"]
        if "/" in found["name"]
    ]
    assert _table(_SUBRESOURCES, rows) == (_GOLDEN / "api_subresources.txt").read_text()


def test_the_aggregated_documents_say_the_same_as_the_older_ones(api: Api) -> None:
    older = {
        (document["groupVersion"], found["name"]) for document in _documents(api) for found in document["resources"]
    }
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    newer = set()
    for path in ("/api", "/apis"):
        for group in api.get(path, accept=accept).document["items"]:
            if (name := group["metadata"].get("name", "")) == METRICS:
                continue
            for version in group["versions"]:
                served = f"{name}/{version['version']}" if name else version["version"]
                for found in version["resources"]:
                    newer.add((served, found["resource"]))
                    newer |= {
                        (served, f"{found['resource']}/{sub['subresource']}") for sub in found.get("subresources", ())
                    }
    assert newer == older
