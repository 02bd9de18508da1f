"""The JSON schema of `report.json`. It is kept as a file beside this one, so that a change of the format is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from labctl.drills.model import Report

REPORT_SCHEMA = Path(__file__).with_name("report.schema.json")


def report_schema() -> dict[str, Any]:
    """As the types say it (JSON Schema 2020-12); `python -m labctl.drills.schema` writes the file anew."""
    schema = msgspec.json.schema(Report)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A report of labctl's drills", **schema}


if __name__ == "__main__":
    REPORT_SCHEMA.write_bytes(msgspec.json.format(msgspec.json.encode(report_schema()), indent=2) + b"\n")
