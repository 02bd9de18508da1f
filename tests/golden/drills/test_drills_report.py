"""The report of a known history: its JSON byte for byte, its page as a browser sees it."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from labctl.drills import report as reports
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.history import History
from labctl.drills.judge import judge
from labctl.drills.model import Report
from labctl.drills.narrate import tell
from labctl.drills.picture import bucket_s, picture
from labctl.drills.records import Said, Scene
from labctl.drills.svg import draw
from labctl.kube.timing import FAST
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


@pytest.mark.parametrize(("duration_s", "step_s"), [(20, 0.25), (60, 0.5), (400, 5.0), (100_000, 60.0)])
def test_bars_of_requests_have_a_round_width(duration_s: float, step_s: float) -> None:
    assert bucket_s(duration_s) == step_s


_ASK = """<!doctype html><body style="margin:0"><iframe id="f" style="width:390px;height:900px;border:0"
srcdoc="{page}"></iframe><script>onload=()=>{{const d=f.contentDocument.documentElement;
document.title="scroll "+d.scrollWidth+" client "+d.clientWidth}}</script>"""


@pytest.mark.parametrize(
    "tale", [Tale(), Tale(endpoint_removed=30.0, serving=30.0, read=())], ids=["pass", "contract violated"]
)
def test_a_browser_shows_it_without_complaint_and_a_phone_needs_no_scrolling(tmp_path: Path, tale: Tale) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "this test needs chromium: apt-get install chromium"
    page = reports.page(*made(tale))
    outer = tmp_path / "outer.html"
    outer.write_text(_ASK.format(page=html.escape(page, quote=True)))
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr", "--window-size=800,1000", "--dump-dom", f"file://{outer}",
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"<title>scroll (\d+) client (\d+)</title>", done.stdout)
    assert found, done.stderr[-2000:]
    assert found.group(1) == found.group(2) == "390"
    assert ":CONSOLE" not in done.stderr
