"""The audit log: an event for each request, in a file that does not grow without end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from master.apiserver import audit
from master.apiserver.audit import AuditLog
from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import MAPS, PODS, config_map


@pytest.fixture
def log(api: Api, tmp_path: Path) -> Path:
    """The file of an API server that audits."""
    context = api.server.context
    path = tmp_path / "audit" / "audit.log"
    object.__setattr__(context, "audit", AuditLog(str(path), context.clock))
    return path


def events(api: Api, log: Path) -> list[dict[str, Any]]:
    api.server.context.audit.flush()
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_an_event_says_who_did_what_and_how_it_ended(api: Api, log: Path) -> None:
    sent = {"HTTP_USER_AGENT": "kubectl/v1", "REMOTE_ADDR": "192.0.2.7", "labctl.audit_id": "a-1"}
    api.sending(sent).create(MAPS, config_map("m"))
    (event,) = events(api, log)
    assert (event["kind"], event["apiVersion"], event["level"]) == ("Event", "audit.k8s.io/v1", "Metadata")
    assert (event["auditID"], event["stage"], event["verb"]) == ("a-1", "ResponseComplete", "create")
    assert event["user"]["username"] == "kubernetes-admin"
    assert "system:masters" in event["user"]["groups"]
    assert (event["sourceIPs"], event["userAgent"]) == (["192.0.2.7"], "kubectl/v1")
    assert event["objectRef"] == {"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}
    assert event["responseStatus"]["code"] == 201
    assert event["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert event["requestReceivedTimestamp"] <= event["stageTimestamp"]


def test_refusals_and_impersonation_are_told(api: Api, log: Path) -> None:
    api.as_user("eve").get(PODS)
    api.sending({"HTTP_IMPERSONATE_USER": "ada"}).get("/version")
    api.nobody().sending({"HTTP_AUTHORIZATION": "Bearer x.y.z"}).get(PODS)
    refused, acted, unknown = events(api, log)
    assert refused["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert refused["responseStatus"] == {"metadata": {}, "code": 403, "status": "Failure"}
    assert (acted["user"]["username"], acted["impersonatedUser"]["username"]) == ("kubernetes-admin", "ada")
    assert (unknown["responseStatus"]["code"], unknown["user"]) == (401, {})


def test_no_body_is_kept(api: Api, log: Path) -> None:
    secret = {"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}}
    api.create("/api/v1/namespaces/default/secrets", secret)
    events(api, log)
    assert "hunter2" not in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_a_full_file_is_moved_aside(api: Api, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_FILE_BYTES", 100)
    for _ in range(3):
        api.get("/version")
        assert len(events(api, log)) == 1
    assert sorted(file.name for file in log.parent.iterdir()) == ["audit.log", "audit.log.1"]


def test_a_flood_loses_events_rather_than_memory(api: Api, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_QUEUE", 2)
    for _ in range(5):
        api.get("/version")
    assert len(events(api, log)) == 2


def test_without_a_path_nothing_is_written(api: Api, tmp_path: Path) -> None:
    object.__setattr__(api.server.context, "audit", AuditLog("", api.server.context.clock))
    api.get("/version")
    api.server.context.audit.flush()
    assert list(tmp_path.iterdir()) == []
