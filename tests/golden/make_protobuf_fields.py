"""Makes labctl/kube/protobuf_fields.json: field numbers of Kubernetes' protobuf messages, out of Go struct tags.

    go mod download k8s.io/{api,apimachinery,apiextensions-apiserver,kube-aggregator}@v0.37.0
    python tests/golden/make_protobuf_fields.py "$(go env GOMODCACHE)/k8s.io" v0.37.0

For each definition of the schemas: field number -> flag and JSON name. Flags: `.` a value that is sent is meant; `-` a
zero is what "not set" looks like on the wire; `=` the fields of another message stand in this one's place.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).parents[2] / "labctl/kube/protobuf_fields.json"
_ALSO = {"scheduling/v1alpha3"}  # not stable, but Jobs refer to it
_ELSEWHERE = {  # module -> the one package of it that is served
    "apimachinery": "pkg/apis/meta/v1",
    "apiextensions-apiserver": "pkg/apis/apiextensions/v1",
    "kube-aggregator": "pkg/apis/apiregistration/v1",
}
_STRUCT = re.compile(r"^type (\w+) struct \{$")
_EMPTY = re.compile(r"^type (\w+) struct ?\{\}$")
_FIELD = re.compile(r"^\s+(?:(?P<name>\w+)\s+)?(?P<type>[\w.*\[\]]+)\s+`(?P<tags>[^`]*)`")
_JSON = re.compile(r'json:"(?P<name>[^,"]*)(?P<options>[^"]*)"')
_PROTOBUF = re.compile(r'protobuf:"\w+,(?P<number>\d+),')


def messages(source: str, package: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Every message that a Go file declares, with its fields."""
    name, fields = "", dict[str, str]()
    for line in source.splitlines():
        if empty := _EMPTY.match(line):
            yield f"{package}.{empty.group(1)}", {}
        elif begin := _STRUCT.match(line):
            name, fields = begin.group(1), {}
        elif line == "}" and name:
            yield f"{package}.{name}", fields
            name = ""
        elif name and (field := _FIELD.match(line)):
            tags = field["tags"]
            number, named = _PROTOBUF.search(tags), _JSON.search(tags)
            if number and named and named["name"] != "-":
                fields[number["number"]] = _entry(field, named, package)


def _entry(field: re.Match[str], named: re.Match[str], package: str) -> str:
    if not named["name"]:
        return f"={package}.{field['type'].lstrip('*').rpartition('.')[2]}"
    optional = "omitempty" in named["options"] and not field["type"].startswith(("*", "[]", "map["))
    return ("-" if optional else ".") + str(named["name"])


def main() -> None:
    """Write the table."""
    root, version = Path(sys.argv[1]), sys.argv[2]
    sources = {
        path: f"io.k8s.api.{path.parent.parent.name}.{path.parent.name}"
        for path in sorted((root / f"api@{version}").glob("*/v[0-9]*/types*.go"))
        if re.fullmatch(r"v\d+", path.parent.name) or "/".join(path.parts[-3:-1]) in _ALSO
    }
    for module, folder in _ELSEWHERE.items():
        here = root / f"{module}@{version}/{folder}"
        for path in [*sorted(here.glob("types*.go")), *here.glob("group_version.go")]:
            sources[path] = f"io.k8s.{module}.{folder.replace('/', '.')}"
    table = dict(entry for path, package in sources.items() for entry in messages(path.read_text(), package))
    text = json.dumps(table, separators=(",", ":"), sort_keys=True)
    TARGET.write_text(text.replace('},"', '},\n"') + "\n")
    print(f"{TARGET}: {len(table)} messages")


if __name__ == "__main__":
    main()
