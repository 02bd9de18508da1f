import msgspec

from labctl.kube.client import ListMeta, RawList
from labctl.kube.errors import Unavailable
from labctl.kube.resources import LEASES, Resource
from labctl.vm.health import Arrivals


class Api:
    """Two lists that a test sets: Ready conditions and Lease times by node."""

    def __init__(self) -> None:
        self.ready: dict[str, str] = {}
        self.beats: dict[str, str] = {}
        self.away = False

    def list(self, resource: Resource, namespace: str = "") -> RawList:
        if self.away:
            raise Unavailable("away")
        found: list[dict[str, object]]
        if resource is LEASES:
            found = [{"metadata": {"name": name}, "spec": {"renewTime": at}} for name, at in self.beats.items()]
        else:
            found = [
                {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": status}]}}
                for name, status in self.ready.items()
            ]
        return RawList(ListMeta(), [msgspec.Raw(msgspec.json.encode(one)) for one in found])


def arrivals(api: Api, *, fresh: bool) -> Arrivals:
    return Arrivals(api, fresh=fresh)  # type: ignore[arg-type]


def test_what_a_node_said_before_the_start_does_not_count() -> None:
    api = Api()
    api.ready, api.beats = {"w1": "True"}, {"w1": "08:00"}
    looker = arrivals(api, fresh=True)
    assert looker.look() == set()
    api.beats = {"w1": "08:01"}
    assert looker.look() == {"w1"}


def test_a_node_that_beats_but_is_not_ready_has_not_come() -> None:
    api = Api()
    looker = arrivals(api, fresh=True)
    api.ready = {"w1": "False"}
    looker.look()
    api.beats = {"w1": "08:01"}
    assert looker.look() == set()


def test_on_a_lab_that_ran_on_its_word_is_enough() -> None:
    api = Api()
    api.ready = {"w1": "True", "w2": "Unknown"}
    assert arrivals(api, fresh=False).look() == {"w1"}


def test_an_api_that_falters_is_asked_again() -> None:
    api = Api()
    looker = arrivals(api, fresh=False)
    api.away = True
    assert looker.look() == set()
    api.away, api.ready = False, {"w1": "True"}
    assert looker.look() == {"w1"}
