from __future__ import annotations

from datetime import UTC, datetime

import pytest

from master.controllers.schedule import parse


def moments(text: str, after: str, count: int = 1, zone: str = "") -> list[str]:
    schedule, now = parse(text, zone), datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = []
    for _ in range(count):
        later = schedule.after(now)
        assert later is not None
        assert later > now
        now = later
        found.append(now.strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("* * * * *", "2026-06-01 12:00:00", ["2026-06-01 12:01", "2026-06-01 12:02"]),
        ("* * * * *", "2026-06-01 11:59:59", ["2026-06-01 12:00", "2026-06-01 12:01"]),
        ("*/15 * * * *", "2026-06-01 12:50:00", ["2026-06-01 13:00", "2026-06-01 13:15"]),
        ("5/20 9 * * *", "2026-06-01 09:06:00", ["2026-06-01 09:25", "2026-06-01 09:45"]),
        ("0 9-17/4 * * *", "2026-06-01 10:00:00", ["2026-06-01 13:00", "2026-06-01 17:00"]),
        ("30 8,20 * * *", "2026-06-01 09:00:00", ["2026-06-01 20:30", "2026-06-02 08:30"]),
        ("0 0 * * mon-FRI", "2026-06-05 12:00:00", ["2026-06-08 00:00", "2026-06-09 00:00"]),
        ("0 0 1 Feb *", "2026-06-01 00:00:00", ["2027-02-01 00:00", "2028-02-01 00:00"]),
        ("0 0 29 2 *", "2026-06-01 00:00:00", ["2028-02-29 00:00"]),
        ("0 0 31 * *", "2026-06-01 00:00:00", ["2026-07-31 00:00", "2026-08-31 00:00", "2026-10-31 00:00"]),
        ("0 0 13 * 5", "2026-02-10 00:00:00", ["2026-02-13 00:00", "2026-02-20 00:00"]),  # either day, where both are
        ("0 0 ? * 0", "2026-06-01 00:00:00", ["2026-06-07 00:00", "2026-06-14 00:00"]),
        ("@hourly", "2026-06-01 12:30:00", ["2026-06-01 13:00"]),
        ("@daily", "2026-06-01 12:30:00", ["2026-06-02 00:00"]),
        ("@midnight", "2026-06-01 12:30:00", ["2026-06-02 00:00"]),
        ("@weekly", "2026-06-01 12:30:00", ["2026-06-07 00:00"]),
        ("@monthly", "2026-06-01 12:30:00", ["2026-07-01 00:00"]),
        ("@yearly", "2026-06-01 12:30:00", ["2027-01-01 00:00"]),
        ("@every 1h30m", "2026-06-01 12:30:00", ["2026-06-01 14:00", "2026-06-01 15:30"]),
    ],
)
def test_the_next_moment_is_the_first_that_fits(text: str, after: str, expected: list[str]) -> None:
    assert moments(text, after, len(expected)) == expected


def test_a_schedule_is_kept_in_its_own_zone() -> None:
    assert moments("0 9 * * *", "2026-06-01 00:00:00", zone="Asia/Tokyo") == ["2026-06-02 00:00"]
    assert moments("0 9 * * *", "2026-01-01 00:00:00", zone="Europe/Berlin") == ["2026-01-01 08:00"]
    assert moments("0 9 * * *", "2026-07-01 00:00:00", zone="Europe/Berlin") == ["2026-07-01 07:00"]


def test_an_hour_that_summer_time_skips_has_no_moment_that_day() -> None:
    found = moments("30 2 * * *", "2026-03-28 00:00:00", 2, zone="Europe/Berlin")
    assert found == ["2026-03-28 01:30", "2026-03-30 00:30"]


def test_an_hour_that_winter_time_repeats_has_one_moment_unless_every_hour_counts() -> None:
    assert moments("30 2 * * *", "2026-10-24 12:00:00", 2, zone="Europe/Berlin") == [
        "2026-10-25 00:30", "2026-10-26 01:30",
    ]  # fmt: skip
    assert moments("30 * * * *", "2026-10-25 00:00:00", 3, zone="Europe/Berlin") == [
        "2026-10-25 00:30", "2026-10-25 01:30", "2026-10-25 02:30",
    ]  # fmt: skip


def test_a_day_that_never_comes_is_not_waited_for() -> None:
    assert parse("0 0 30 2 *").after(datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 7", "a * * * *",
     "5-1 * * * *", "*/0 * * * *", "@often", "@every", "@every x", "-1 * * * *", "1- * * * *", "*-5 * * * *"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected exactly 5|outside|failed to parse|unrecognized|positive"):
        parse(text)


def test_a_zone_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown time zone Mars/Olympus"):
        parse("@hourly", "Mars/Olympus")
