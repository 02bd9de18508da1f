"""What drills leave: compared with each other, played again, packed into an archive."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from labctl.cli import cli
from labctl.drills import report as reports
from labctl.drills.bundle import newest, pack
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.compare import compare, load
from labctl.drills.judge import judge
from labctl.drills.replay import due, opened, play, steps_of
from labctl.drills.suite import Ran, Suite
from labctl.drills.suite_report import write_suite
from labctl.drills.ui import Silent, Status
from labctl.kube.timing import FAST
from labctl.runtime.errors import LabError, UsageError
from tests.unit.labctl.drills.drill_tales import ZERO, Tale

TALES = {"good": Tale(), "late": Tale(endpoint_removed=9.0, serving=9.1), "lost": Tale(read=())}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, as a lab keeps them."""
    root = tmp_path_factory.mktemp("drills")
    for name, tale in TALES.items():
        told = tale.tell()
        reports.write(root / name, judge(told, DRILL, FAST, run_dir=str(root / name)), told)
    return root


class Seen(Silent):
    """Remembers what it was shown."""

    def __init__(self) -> None:
        self.shown = 0
        self.waited: list[tuple[float, tuple[str, ...]]] = []

    def show(self, entries: object) -> None:
        self.shown += len(entries)  # type: ignore[arg-type]

    def status(self, status: Status) -> None:
        self.waited.append((status.now_s - ZERO, status.waiting))


class Paces:
    """A clock that is told to sleep and does not."""

    def __init__(self) -> None:
        self.slept_s = 0.0

    def monotonic_s(self) -> float:
        return self.slept_s

    def sleep_s(self, seconds: float) -> None:
        self.slept_s += seconds


def test_runs_are_laid_beside_each_other(runs: Path) -> None:
    found = compare(load([runs / "good", runs / "late" / "report.json", runs / "lost"]))
    assert (found.passed, len(found.runs), found.letters) == (1, 3, tuple("ABCDEF"))
    removed = next(row for row in found.rows if row.measure == "endpoint_removed_s")
    assert [(cell.seconds, cell.result) for cell in removed.cells] == [(4.3, "pass"), (9.0, "fail"), (4.3, "pass")]
    assert (removed.least_s, removed.median_s, removed.most_s, removed.upper_s) == (4.3, 4.3, 9.0, 5.5)


def test_the_comparison_is_told_on_the_terminal_as_json_and_as_a_page(runs: Path, tmp_path: Path) -> None:
    names = [str(runs / name) for name in TALES]
    done = CliRunner().invoke(cli, ["drill", "compare", *names, "--html", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert "1 of 3 passed" in done.output
    assert "endpoint removed" in done.output
    assert "9.00 s" in done.output
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    told = json.loads(CliRunner().invoke(cli, ["drill", "compare", *names, "-o", "json"]).output)
    assert len(told["runs"]) == 3


@pytest.mark.parametrize("content", [b"{}", b"not json", None])
def test_what_is_no_report_is_said_by_name(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"report\.json"):
        load([tmp_path])


def test_a_replay_shows_every_record_once_and_counts_down_as_the_drill_did(runs: Path) -> None:
    report, history = opened(runs / "good")
    ui = Seen()
    clock = Paces()
    steps = list(steps_of(history, from_s=float("-inf"), until_s=float("inf")))
    play(history, report, ui, clock, steps=steps, speed=2.0)  # type: ignore[arg-type]
    assert ui.shown == len(history)
    assert 10.0 < clock.slept_s <= 29.0 / 2
    assert due(report, 1.0) == (
        "Node seen to be not Ready, due in 4 s", "Endpoints of the node out of the service, due in 4 s",
        "Node tainted unreachable:NoExecute, due in 5 s", "Pods of the node deleted, due in 6 s",
        "Replacements Ready on live nodes, due in 11 s", "Serving again, in full, due in 11 s",
    )  # fmt: skip
    assert due(report, 6.85) == ("Serving again, in full, due in 5 s",)
    assert due(report, -0.1) == due(report, 7.0) == ()
    assert "2 s late" in due(opened(runs / "late")[0], 7.5)[0]


def test_a_replay_can_begin_late_end_early_and_stop_at_each_line(runs: Path) -> None:
    report, history = opened(runs / "good")
    steps = list(steps_of(history, from_s=4.0, until_s=5.0))
    assert len(steps[0].entries) > 150  # what went before comes at once
    assert all(4.0 <= step.at_s - ZERO <= 5.0 for step in steps[1:])
    stops: list[int] = []

    def pause() -> bool:
        stops.append(1)
        return len(stops) < 3

    play(history, report, Seen(), Paces(), steps=steps, speed=1.0, pause=pause)  # type: ignore[arg-type]
    assert len(stops) == 3


def test_a_replay_into_a_pipe_prints_the_same_lines_as_the_drill(runs: Path) -> None:
    done = CliRunner().invoke(cli, ["drill", "replay", str(runs / "good")])
    assert done.exit_code == 0, done.output
    assert "+4.20s  node worker1 Unknown (detected)" in done.output
    assert "pass: worker-power-loss on lab" in done.output


def test_without_a_report_the_labs_latest_run_is_meant(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.cli.report.open_lab", lambda _: None)
    monkeypatch.setattr("labctl.cli.report.LabTarget", lambda _: SimpleNamespace(drills_dir=runs))
    assert "contract violated" in CliRunner().invoke(cli, ["drill", "replay"]).output
    done = CliRunner().invoke(cli, ["bundle", "--file", str(tmp_path / "x.tar.gz")])
    assert done.exit_code == 0, done.output
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        assert "lost/report.json" in tar.getnames()


def test_a_report_without_its_record_cannot_be_replayed(runs: Path, tmp_path: Path) -> None:
    written = json.loads((runs / "good" / "report.json").read_text()) | {"run_dir": ""}
    (tmp_path / "report.json").write_text(json.dumps(written))
    with pytest.raises(UsageError, match=r"history\.jsonl"):
        opened(tmp_path)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst"])
def test_a_bundle_holds_everything_and_is_the_same_each_time(runs: Path, tmp_path: Path, suffix: str) -> None:
    (runs / "good" / "flight").mkdir(exist_ok=True)
    (runs / "good" / "flight" / "flight.json").write_text("{}")
    archive = tmp_path / f"out{suffix}"
    files, size = pack(runs / "good", archive)
    first = archive.read_bytes()
    assert (len(first), files) == (size, 5)
    assert archive.stat().st_mode & 0o777 == 0o600
    pack(runs / "good", archive)
    assert archive.read_bytes() == first
    if suffix == ".tar.zst":
        plain = tmp_path / "out.tar"
        subprocess.run(["zstd", "-q", "-d", archive, "-o", plain], check=True)
        archive = plain
    with tarfile.open(archive) as tar:
        assert "good/flight/flight.json" in tar.getnames()
        assert {name.split("/")[1] for name in tar.getnames()} == {
            "flight", "history.jsonl", "report.html", "report.json", "report.xml"
        }  # fmt: skip


def test_a_bundle_that_cannot_be_made_says_why_and_leaves_nothing(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.tar\.zst"):
        pack(runs / "good", tmp_path / "out.zip")
    with pytest.raises(LabError, match="nowhere"):
        pack(runs / "good", tmp_path / "nowhere" / "out.tar.gz")
    assert list(tmp_path.iterdir()) == []


def test_the_latest_run_is_the_one_that_is_packed(runs: Path, tmp_path: Path) -> None:
    assert newest(runs).name == "lost"
    with pytest.raises(UsageError, match="no drill"):
        newest(tmp_path)


def test_a_suite_leaves_junit_of_every_drill_and_a_page_of_those_that_ran(runs: Path, tmp_path: Path) -> None:
    found = [run.report for run in load([runs / "good", runs / "lost"])]
    ran = [
        Ran(drill="worker-power-loss", title="", outcome="contract violated", seconds=9.0),
        Ran(drill="clock-step", title="", outcome="skipped", seconds=0.0, reasons=("one clock for all",)),
        Ran(drill="master-loss", title="", outcome="refused", seconds=1.0, reasons=("not steady",)),
    ]
    suite = Suite(
        lab="lab", provider="lxc", profile="fast", seed=1, started_at="", ran=tuple(ran), left=("etcd-trouble",)
    )
    write_suite(tmp_path / "new", suite, found)
    root = ElementTree.fromstring((tmp_path / "new" / "suite.xml").read_bytes())
    assert [one.attrib["name"] for one in root] == [
        "worker-power-loss", "worker-power-loss", "clock-step", "master-loss", "etcd-trouble"
    ]  # fmt: skip
    told = {one.attrib["name"]: (one.attrib["errors"], one.attrib["skipped"]) for one in list(root)[2:]}
    assert told == {"clock-step": ("0", "1"), "master-loss": ("1", "0"), "etcd-trouble": ("1", "0")}
    assert int(root.attrib["tests"]) == sum(len(one.findall("testcase")) for one in root)
    assert "1 of 2 passed" in (tmp_path / "new" / "suite.html").read_text()


def test_a_suite_in_which_nothing_ran_leaves_no_page(tmp_path: Path) -> None:
    suite = Suite(lab="lab", provider="lxc", profile="fast", seed=1, started_at="", left=("etcd-trouble",))
    write_suite(tmp_path, suite, [])
    assert [path.name for path in tmp_path.iterdir()] == ["suite.xml"]
    with pytest.raises(LabError, match="suite"):
        write_suite(tmp_path / "suite.xml", suite, [])
