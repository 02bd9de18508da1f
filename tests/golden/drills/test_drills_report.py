"""The report of a known history: its JSON byte for byte, its page as a browser sees it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import msgspec
import pytest

from labctl.drills import report as reports
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.compare import Run, compare
from labctl.drills.history import History
from labctl.drills.judge import judge
from labctl.drills.junit import junit
from labctl.drills.model import Report
from labctl.drills.narrate import tell
from labctl.drills.picture import bucket_s, picture
from labctl.drills.records import Probed, ReadBack, Said, Scene
from labctl.drills.schema import REPORT_SCHEMA, report_schema
from labctl.drills.svg import draw
from labctl.kube.timing import FAST
from tests.golden.drills.browser import Looked, flaws, look
from tests.unit.labctl.drills.drill_tales import Tale

GOLDEN = Path(__file__).parent / "report.json"


def made(tale: Tale) -> tuple[Report, History]:
    told = tale.tell()
    return judge(told, DRILL, FAST), told


def test_the_json_report_is_as_agreed(tmp_path: Path) -> None:
    path, _ = reports.write(tmp_path, *made(Tale()))
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_bytes(path.read_bytes())
    assert path.read_text() == GOLDEN.read_text()


def test_the_report_keeps_to_the_schema_that_is_published_for_it(tmp_path: Path) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        REPORT_SCHEMA.write_bytes(msgspec.json.format(msgspec.json.encode(report_schema()), indent=2) + b"\n")
    published = json.loads(REPORT_SCHEMA.read_bytes())
    assert broken_promises(published, report_schema()) == [], "the format changed: python -m labctl.drills.schema"
    for tale in (Tale(), Tale(took=False), Tale(endpoint_removed=30.0, serving=30.0, without=(Probed, ReadBack))):
        path, _ = reports.write(tmp_path, *made(tale))
        jsonschema.validate(json.loads(path.read_bytes()), published)


def broken_promises(published: Any, now: Any, path: str = "") -> list[str]:
    """What the published schema says and the types no longer do; that they say more is fine."""
    if isinstance(published, dict) and isinstance(now, dict):
        return [word for key in published for word in broken_promises(published[key], now.get(key), f"{path}/{key}")]
    return [] if published == now or path.endswith(("/description", "/required")) else [path]


def test_a_field_of_the_report_that_goes_or_changes_its_type_is_noticed() -> None:
    published = report_schema()
    assert broken_promises(published, published) == []
    fields = published["$defs"]["Report"]["properties"]
    without = {name: one for name, one in fields.items() if name != "victims"}
    other = {**published, "$defs": {**published["$defs"], "Report": {"properties": without}}}
    assert any("victims" in word for word in broken_promises(published, other))


def test_a_report_that_says_something_else_does_not_keep_to_the_schema(tmp_path: Path) -> None:
    path, _ = reports.write(tmp_path, *made(Tale()))
    for change in ({"verdict": "fine"}, {"victims": "worker1"}, {"measures": {"detected_s": "soon"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**json.loads(path.read_bytes()), **change}, json.loads(REPORT_SCHEMA.read_bytes()))


@pytest.mark.parametrize(
    ("tale", "counts", "failed"),
    [
        (Tale(), (0, 0, 1), set()),
        (Tale(read=("n000000",)), (2, 0, 1), {"verdict", "A: No acknowledged write lost"}),
        (Tale(without=(ReadBack,)), (0, 2, 1), {"verdict", "A: No acknowledged write lost"}),
        (Tale(heal_ok=False), (1, 0, 1), {"verdict"}),
    ],
    ids=["pass", "violated", "unknown", "not healed"],
)
def test_junit_tells_what_broke_and_what_could_not_be_told(
    tmp_path: Path, tale: Tale, counts: tuple[int, int, int], failed: set[str]
) -> None:
    report, told = made(tale)
    reports.write(tmp_path, report, told)
    root = ElementTree.fromstring((tmp_path / "report.xml").read_bytes())
    (suite,) = root
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.attrib["tests"]) == 1 + len(report.invariants) + len(report.contract)
    assert tuple(int(suite.attrib[key]) for key in ("failures", "errors", "skipped")) == counts
    assert {
        one.attrib["name"] for one in cases if one.find("failure") is not None or one.find("error") is not None
    } == failed
    assert [int(root.attrib[key]) for key in ("failures", "errors")] == list(counts[:2])


def test_what_a_cluster_says_cannot_break_the_xml() -> None:
    report, _ = made(Tale(written=("\x00\x1b[31m<&\ud800>",), read=()))
    root = ElementTree.fromstring(junit((report, report)))
    assert len(root) == 2
    assert "<&" in "".join(one.attrib["message"] for one in root.iter("failure"))


def test_the_timeline_tells_the_story_in_order() -> None:
    events = [line.event for line in made(Tale())[0].timeline]
    wanted = [
        "fault: cut the power of worker1",
        "node worker1 Unknown (detected)",
        "node worker1 tainted node.kubernetes.io/unreachable:NoExecute",
        "endpoint 10.244.0.97 on worker1 removed",
        "pod web-a on worker1 terminating",
        "pod web-d created",
        "pod web-d bound to worker2",
        "pod web-d Ready on worker2",
        "serving again",
        "heal by the runner: the drill is through",
        "node worker1 Ready",
    ]
    assert [event for event in events if event in wanted] == wanted


def test_every_moment_of_a_history_is_told_in_the_order_of_time() -> None:
    moments = tell(list(Tale().tell()))
    assert [one.at_s for one in moments] == sorted(one.at_s for one in moments)


def test_the_page_asks_nobody_for_anything() -> None:
    page = reports.page(*made(Tale()))
    assert not re.search(r"https?://|src=|@import|url\(|<script|<link(?! rel=\"icon\" href=\"data:,\")", page)


def test_what_a_cluster_says_cannot_break_out_of_the_page() -> None:
    evil = "</svg><script>alert(1)</script>"
    page = reports.page(*made(Tale(more=[(1.0, Said(text=evil))], read=(), written=(evil,))))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("width", [358, 1080])
def test_nothing_is_drawn_outside_the_drawing(width: int) -> None:
    report, told = made(Tale())
    scene = told.first(Scene)
    assert scene is not None
    svg = draw(picture(told, scene[1], report), width)
    for x, wide in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg):
        assert 0 <= float(x) <= float(x) + float(wide) <= width
    assert "nan" not in svg.lower()


@pytest.mark.parametrize(
    ("duration_s", "rate_per_s", "step_s"),
    [(20, 20, 0.25), (60, 20, 0.5), (400, 20, 5.0), (100_000, 20, 60.0), (60, 5, 1.0), (60, 0.01, 60.0)],
)
def test_bars_of_requests_have_a_round_width_and_some_requests_each(
    duration_s: float, rate_per_s: float, step_s: float
) -> None:
    assert bucket_s(duration_s, round(duration_s * rate_per_s)) == step_s


PAGES = {"pass": Tale(stateful=True), "violated": Tale(endpoint_removed=30.0, serving=30.0, read=())}


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Looked:
    pages = {name: reports.page(*made(tale)) for name, tale in PAGES.items()}
    runs = [Run(f"20260131T080000Z-{name}", made(tale)[0]) for name, tale in PAGES.items()] * 4
    pages["compared"] = reports.compare_page(compare(runs))
    return look(tmp_path_factory.mktemp("browser"), pages)


def test_a_browser_shows_it_without_complaint_to_everybody(looked: Looked) -> None:
    """No console error, nothing loaded, no sideways scrolling on a phone, contrast AA in light and dark."""
    assert len(looked.frames) == 12
    assert flaws(looked) == []


@pytest.mark.parametrize("width", [390, 1200])
def test_what_matters_can_be_read_in_the_browser(looked: Looked, width: int) -> None:
    good, bad = (str(looked.frames[f"{name}-{width}-light"]["text"]) for name in PAGES)
    for words in (
        "A worker loses its power", "4.20 s", "cut the power of worker1", "since the fault: 23 of 390",
        "before it: 0 of 60", "db-0", "10.244.0.97", "3 of 3 acknowledged", "serving again",
        "The contract under fast", "Every event", "all 3 acknowledged writes were read back",
    ):  # fmt: skip
        assert words in good, words
    assert "4 of 8 passed" in str(looked.frames[f"compared-{width}-light"]["text"])
    assert "contract violated" in bad
    assert "3 of 3 acknowledged writes are lost" in bad
    assert "never" in bad


def test_the_keyboard_reaches_every_lane_and_link(looked: Looked) -> None:
    for name, frame in looked.frames.items():
        assert frame["reached"] >= (12 if name.startswith("compared") else 25), name
