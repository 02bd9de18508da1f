"""What whoever runs the server sees: health, metrics, limits, and how it begins and ends."""

from __future__ import annotations

import re

import gevent
import pytest

from labctl.kube.errors import BadRequest, ServerTimeout, TooManyRequests
from master.apiserver import bootstrap_rbac, policy
from master.apiserver.limits import REQUEST_S, InFlight, long_running, request_s, within
from master.apiserver.reply import Reply
from master.apiserver.request import ANONYMOUS, Request, User, parse_path
from master.apiserver.startup import COMPONENTS, Startup
from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import MAPS, PODS, config_map

SERIES = 'component="apiserver",dry_run="",group="",resource="{}",scope="{}",subresource="",verb="{}",version="v1"'


def lines(api: Api) -> list[str]:
    return api.get("/metrics").body.decode().splitlines()


def request(path: str, method: str = "GET", **query: str) -> Request:
    return Request(method=method, path=path, query=query, headers={}, user=ANONYMOUS, target=parse_path(path))


def test_all_checks_pass_and_are_named(api: Api) -> None:
    assert [api.get(path).body for path in ("/livez", "/readyz", "/healthz", "/livez/etcd", "/readyz/shutdown")] == [
        b"ok"
    ] * 5
    said = api.get("/readyz?verbose").body.decode().splitlines()
    assert said[:5] == ["[+]ping ok", "[+]log ok", "[+]etcd ok", "[+]etcd-readiness ok", "[+]informer-sync ok"]
    assert "[+]poststarthook/scheduling/bootstrap-system-priority-classes ok" in said
    assert said[-2:] == ["[+]shutdown ok", "readyz check passed"]
    assert api.get("/livez/shutdown").code == 404


def test_health_names_the_check_that_fails_and_withholds_why(api: Api) -> None:
    api.server.context.storage.store.close()
    answer = api.get("/readyz")
    assert answer.code == 500
    said = answer.body.decode().splitlines()
    assert {"[-]etcd failed: reason withheld", "[+]ping ok"} <= set(said)
    assert said[-1] == "readyz check failed"
    assert api.get("/livez/etcd").code == 500


def test_readyz_names_the_etcd_member_that_fails_though_the_others_serve(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = {"https://10.9.0.11:2379": "cannot be reached"}
    monkeypatch.setattr(api.server.context.storage.store, "faults", lambda: faults)
    said = api.get("/readyz?verbose").body.decode().splitlines()
    assert said[-2:] == ["warn: etcd member https://10.9.0.11:2379: cannot be reached", "readyz check passed"]
    assert api.get("/readyz").body == b"ok"


def test_a_check_can_be_excluded_and_one_that_is_not_there_is_told(api: Api) -> None:
    api.server.context.storage.store.close()
    answer = api.get("/livez?verbose&exclude=etcd&exclude=nonsense")
    assert answer.code == 200
    said = answer.body.decode().splitlines()
    assert "[+]etcd excluded: ok" in said
    assert 'warn: some health checks cannot be excluded: no matches for "nonsense"' in said


def test_readiness_ends_as_soon_as_the_server_is_to_stop_but_not_liveness(api: Api) -> None:
    api.server.context.stop.set()
    assert (api.get("/readyz").code, api.get("/livez").code) == (500, 200)
    assert "[-]shutdown failed: reason withheld" in api.get("/readyz").body.decode()


def test_until_the_basics_exist_resources_are_held_off_and_the_server_is_not_ready(api: Api) -> None:
    startup = api.server.context.startup
    startup.begin()
    refused = api.get(PODS)
    assert (refused.code, refused.document["reason"], refused.headers["Retry-After"]) == (
        503,
        "ServiceUnavailable",
        "1",
    )
    assert "[-]poststarthook/bootstrap-controller failed: reason withheld" in api.get("/readyz").body.decode()
    assert api.get("/version").code == 200
    startup.finish()
    assert (api.get(PODS).code, api.get("/readyz").body) == (200, b"ok")


def test_the_clusters_own_components_are_served_before_everybody_else() -> None:
    startup = Startup()
    startup.begin()
    node, person = User("system:node:worker1", ("system:nodes",)), User("somebody", ("system:authenticated",))
    assert not startup.serves(node)
    startup.admit_components()
    assert (startup.serves(node), startup.serves(person), startup.finished) == (True, False, False)
    startup.finish()
    assert startup.serves(person)
    whole = [*policy.default_roles(), *policy.default_bindings()]
    needed = bootstrap_rbac.needed_by(COMPONENTS, whole)
    assert ("ClusterRole", "", "labctl:controllers") in needed
    assert ("RoleBinding", "kube-system", "labctl:leader-election") in needed
    assert len(needed) < len(whole) / 4


def test_masters_that_start_together_share_the_default_policy() -> None:
    whole = policy.default_roles()
    orders = [bootstrap_rbac.in_own_order(whole, f"10.77.0.{last}") for last in (10, 11, 12)]
    assert all(sorted(map(repr, order)) == sorted(map(repr, whole)) for order in orders)
    starts = sorted(whole.index(order[0]) for order in orders)
    third = len(whole) // 3
    assert [0, third, 2 * third] == pytest.approx(starts, abs=1)


def test_metrics_count_requests_under_upstreams_names(api: Api) -> None:
    api.create(MAPS, config_map("a"))
    api.get(f"{MAPS}/a")
    api.get(PODS)
    found = lines(api)
    assert f'apiserver_request_total{{code="200",{SERIES.format("pods", "namespace", "LIST")}}} 1' in found
    assert f'apiserver_request_total{{code="201",{SERIES.format("configmaps", "resource", "POST")}}} 1' in found
    assert f"apiserver_request_duration_seconds_count{{{SERIES.format('configmaps', 'resource', 'GET')}}} 1" in found
    assert 'etcd_request_duration_seconds_count{operation="create",group="",resource="configmaps"} 1' in found
    assert 'apiserver_storage_objects{resource="configmaps"} 1' in found
    assert any(line.startswith("apiserver_current_inflight_requests{") for line in found)
    assert any(line.startswith("process_resident_memory_bytes ") for line in found)


def test_metrics_count_the_events_that_watchers_were_sent(api: Api) -> None:
    api.create(MAPS, config_map("a"))
    api.create(MAPS, config_map("b"))
    api.get(f"{MAPS}?watch=1&timeoutSeconds=1")
    found = lines(api)
    assert 'apiserver_watch_events_total{group="",kind="ConfigMap",version="v1"} 2' in found
    assert 'apiserver_registered_watchers{group="",kind="ConfigMap",version="v1"} 0' in found


def test_metrics_are_well_formed(api: Api) -> None:
    api.get(PODS)
    sample = re.compile(r'[a-z_]+(\{([a-z_]+="[^"]*",?)*\})? -?[0-9.e+]+')
    assert [line for line in lines(api) if not line.startswith("#") and not sample.fullmatch(line)] == []


def test_clients_cannot_grow_the_metrics_by_asking_for_what_is_not_there(api: Api) -> None:
    api.get("/nowhere-0")
    api.get("/apis/example.org/v1/things-0")
    api.get("/metrics")
    before = len(lines(api))
    for number in range(1, 5):
        assert api.get(f"/nowhere-{number}").code == 404
        assert api.get(f"/apis/example.org/v{number}/things-{number}").code == 404
    assert len(lines(api)) == before


def test_too_many_requests_at_once_are_told_when_to_come_again(api: Api) -> None:
    api.server.metrics.in_flight = InFlight(max_reads=0, max_writes=1)
    refused = api.get(PODS)
    assert (refused.code, refused.document["reason"], refused.headers["Retry-After"]) == (429, "TooManyRequests", "1")
    assert api.post(MAPS, config_map("a")).code == 201
    assert api.get(f"{MAPS}?watch=1&timeoutSeconds=1").code == 200


def test_a_request_at_work_counts_until_it_ends() -> None:
    flying = InFlight(max_reads=1, max_writes=1)

    def inner() -> Reply:
        assert (flying.reads, flying.writes) == (1, 0)
        with pytest.raises(TooManyRequests):
            flying.run(request("/api/v1/pods"), lambda: Reply(b""))
        return flying.run(request("/api/v1/pods", "POST"), lambda: Reply(b"write"))

    assert flying.run(request("/api/v1/pods"), inner).body == b"write"
    assert (flying.reads, flying.writes) == (0, 0)


def test_what_takes_too_long_is_a_timeout_to_the_client() -> None:
    with pytest.raises(ServerTimeout) as raised:
        within(0.01, lambda: gevent.sleep(30))
    assert (raised.value.code, raised.value.reason) == (504, "Timeout")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", REQUEST_S), ("0", REQUEST_S), ("5s", 5.0), ("1m", 60.0), ("1h", REQUEST_S), ("1m30s", 60.0), ("250ms", 0.25)],
)
def test_a_client_may_ask_for_less_time(text: str, seconds: float) -> None:
    assert request_s(request("/api/v1/pods", timeout=text)) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["soon", "5", "-3s", "5 s"])
def test_a_time_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="invalid timeout"):
        request_s(request("/api/v1/pods", timeout=text))


@pytest.mark.parametrize(
    ("path", "query", "long"),
    [
        ("/api/v1/pods", {"watch": "1"}, True),
        ("/api/v1/pods", {}, False),
        ("/api/v1/namespaces/a/pods/b/log", {}, True),
        ("/api/v1/namespaces/a/pods/b/exec", {}, True),
        ("/api/v1/namespaces/a/pods/b/status", {}, False),
    ],
)
def test_streams_are_long_running(path: str, query: dict[str, str], long: bool) -> None:
    assert long_running(request(path, **query)) is long
