"""Cron schedules: five fields or a macro, read once, asked for the next moment. Pure.

A day must fit day of month and day of week where one of them is `*`, and either of them where both are restricted.
Moments are walked on the wall clock of the schedule's zone: what a change to summer time skips does not happen, and
what the change back repeats happens once, unless the hours field is `*`: then every minute that passes counts.

Source: github.com/robfig/cron `parser.go`, `spec.go` (as vendored by k/k `pkg/controller/cronjob`).
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_YEARS = 5  # a schedule that finds no day in as many never will, as upstream has it
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Schedule:
    """Minutes, hours, days, months and weekdays (0 is Sunday) that fit, or a fixed delay."""

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    any_hour: bool = False
    any_day: bool = False  # day of month was `*`
    any_weekday: bool = False
    zone: tzinfo = UTC
    every_s: float = 0.0

    def after(self, moment: datetime) -> datetime | None:
        """The first moment later than `moment` that fits, in UTC; None where there is none within five years."""
        if self.every_s:
            return moment.replace(microsecond=0) + timedelta(seconds=self.every_s)
        local = moment.astimezone(self.zone)
        for day in self._days(local):
            today = day.date() == local.date()
            for hour in sorted(self.hours):
                if today and hour < local.hour:
                    continue
                for candidate in self._moments(day.replace(hour=hour)):
                    if candidate > moment:
                        return candidate
        return None

    def _days(self, local: datetime) -> Iterator[datetime]:
        day = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
        end = day.replace(year=day.year + _YEARS, day=min(day.day, 28))
        while day <= end:
            if day.month not in self.months:
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
                continue
            if self._fits(day):
                yield day
            day += timedelta(days=1)

    def _fits(self, day: datetime) -> bool:
        by_date, by_weekday = day.day in self.days, (day.weekday() + 1) % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return by_date and by_weekday
        return by_date or by_weekday

    def _moments(self, hour: datetime) -> list[datetime]:
        """An hour's moments in UTC, in order; an hour that the zone's clocks skip has none."""
        found: set[datetime] = set()
        for fold in (0, 1) if self.any_hour and self.zone is not UTC else (0,):
            for minute in self.minutes:
                local = hour.replace(minute=minute, fold=fold, tzinfo=self.zone)
                moment = local.astimezone(UTC)
                if self.zone is UTC or moment.astimezone(self.zone).replace(tzinfo=None, fold=0) == hour.replace(
                    minute=minute
                ):
                    found.add(moment)
        return sorted(found)


def parse(text: str, zone: str = "") -> Schedule:
    """Read a schedule in a zone of the IANA database; ValueError says what is wrong."""
    try:
        where: tzinfo = zoneinfo.ZoneInfo(zone) if zone else UTC
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {zone}") from error
    text = text.strip()
    if text.startswith("@every "):
        return Schedule(zone=where, every_s=max(1.0, float(int(_duration(text.removeprefix("@every "))))))
    fields = _MACROS.get(text, text).split()
    if text.startswith("@") and text not in _MACROS:
        raise ValueError(f"unrecognized descriptor: {text}")
    if len(fields) != 5:
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: {fields}")
    minutes, hours, days, months, weekdays = fields
    return Schedule(
        minutes=_field(minutes, 0, 59),
        hours=_field(hours, 0, 23),
        days=_field(days, 1, 31),
        months=_field(months, 1, 12, _MONTHS),
        weekdays=_field(weekdays, 0, 6, _DAYS),
        any_hour=_is_any(hours),
        any_day=_is_any(days),
        any_weekday=_is_any(weekdays),
        zone=where,
    )


def _is_any(text: str) -> bool:
    """Whether a field restricts nothing, for the rule of the two day fields."""
    return any(part.partition("/")[0] in {"*", "?"} and part.partition("/")[2] in {"", "1"} for part in text.split(","))


def _field(text: str, low: int, high: int, words: tuple[str, ...] = ()) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        first, dash, last = span.partition("-")
        start, end = low, high
        if first not in {"*", "?"}:
            start = _number(first, low, words)
            end = _number(last, low, words) if dash else high if slash else start
        elif dash:
            raise ValueError(f"failed to parse {span!r}")
        step = _number(step_text, 0, ()) if slash else 1
        if start < low or end > high or start > end:
            raise ValueError(f"range ({start}-{end}) outside of {low}-{high} or backwards: {part}")
        if step == 0:
            raise ValueError(f"step of range should be a positive number: {part}")
        found.update(range(start, end + 1, step))
    return frozenset(found)


def _number(text: str, low: int, words: tuple[str, ...]) -> int:
    if text.lower() in words:
        return words.index(text.lower()) + low
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"failed to parse int from {text!r}")
    return int(text)


def _duration(text: str) -> float:
    """Go's `1h30m10s`."""
    total, number = 0.0, ""
    for letter in text:
        if letter.isdigit() or letter == ".":
            number += letter
        elif letter in _UNITS and number:
            total, number = total + float(number) * _UNITS[letter], ""
        else:
            raise ValueError(f"failed to parse duration {text!r}")
    if number or not total:
        raise ValueError(f"failed to parse duration {text!r}")
    return total
