"""Quiet hours hold in the person's own time zone, also on the two days of a year when the clock jumps."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings_core.quiet_hours import DAY_MINUTES, LONGEST_DAYS, QuietHours, Span, quiet_faults, quiet_until

NIGHTLY = tuple(Span(day, 22 * 60, 8 * 60) for day in range(7))
BERLIN = QuietHours("Europe/Berlin", NIGHTLY)


def at(text: str) -> int:
    """Unix milliseconds of an ISO time with its offset."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-11-27T21:59:59+01:00", None),
        ("2026-11-27T22:00:00+01:00", "2026-11-28T08:00:00+01:00"),
        ("2026-11-28T03:00:00+01:00", "2026-11-28T08:00:00+01:00"),
        ("2026-11-28T08:00:00+01:00", None),
    ],
)
def test_a_night_is_quiet_from_its_beginning_up_to_its_end(now: str, end: str | None) -> None:
    """The first instant of a span belongs to it and the last does not; a night reaches into the next day."""
    assert quiet_until(BERLIN, at(now)) == (None if end is None else at(end))


def test_only_the_weekdays_named_are_quiet() -> None:
    """A span of Monday says nothing of Tuesday, and one of Sunday night reaches into Monday."""
    hours = QuietHours("UTC", (Span(0, 60, 120), Span(6, 23 * 60, 30)))
    assert quiet_until(hours, at("2026-11-30T01:30:00+00:00")) == at("2026-11-30T02:00:00+00:00")  # A Monday.
    assert quiet_until(hours, at("2026-12-01T01:30:00+00:00")) is None
    assert quiet_until(hours, at("2026-11-30T00:10:00+00:00")) == at("2026-11-30T00:30:00+00:00")


def test_an_end_that_the_clock_skips_is_where_it_jumps() -> None:
    """On the last Sunday of March there is no 02:30 in Berlin: what ends then ends as 02:00 turns into 03:00."""
    hours = QuietHours("Europe/Berlin", (Span(5, 22 * 60, 2 * 60 + 30),))
    assert quiet_until(hours, at("2026-03-29T01:59:59+01:00")) == at("2026-03-29T03:00:00+02:00")
    assert quiet_until(hours, at("2026-03-29T03:00:00+02:00")) is None
    late = QuietHours("Europe/Berlin", (Span(6, 2 * 60 + 30, 4 * 60),))
    assert quiet_until(late, at("2026-03-29T01:59:59+01:00")) is None
    assert quiet_until(late, at("2026-03-29T03:00:00+02:00")) == at("2026-03-29T04:00:00+02:00")


def test_an_hour_that_comes_twice_is_quiet_both_times() -> None:
    """On the last Sunday of October 02:15 comes twice in Berlin: quiet until 02:30 lasts to the second 02:30."""
    hours = QuietHours("Europe/Berlin", (Span(5, 22 * 60, 2 * 60 + 30),))
    for now in ("2026-10-25T02:15:00+02:00", "2026-10-25T02:45:00+02:00", "2026-10-25T02:15:00+01:00"):
        assert quiet_until(hours, at(now)) == at("2026-10-25T02:30:00+01:00")
    assert quiet_until(hours, at("2026-10-25T02:30:00+01:00")) is None
    again = QuietHours("Europe/Berlin", (Span(6, 2 * 60 + 30, 4 * 60),))
    assert quiet_until(again, at("2026-10-25T02:30:00+02:00")) == at("2026-10-25T04:00:00+01:00")


def test_spans_that_touch_are_one_quiet_and_a_quiet_for_good_ends_all_the_same() -> None:
    """Who is never to be disturbed is asked again after some days."""
    hours = QuietHours("UTC", (Span(4, 20 * 60, DAY_MINUTES), Span(5, 0, 9 * 60), Span(5, 8 * 60, 10 * 60)))
    assert quiet_until(hours, at("2026-11-27T21:00:00+00:00")) == at("2026-11-28T10:00:00+00:00")
    always = QuietHours("UTC", tuple(Span(day, 0, DAY_MINUTES) for day in range(7)))
    now = at("2026-11-28T10:00:00+00:00")
    assert quiet_until(always, now) == now + LONGEST_DAYS * DAY_MINUTES * 60_000


def _quiet(hours: QuietHours, now: datetime) -> bool:
    """Whether it is quiet, by trying: the local time is in a span, or lies between two times that show the same."""
    zone = ZoneInfo(hours.time_zone)

    def inside(instant: datetime) -> set[tuple[int, Span]]:
        local = instant.astimezone(zone)
        found = set()
        for back in (0, 1):
            day = local.date() - timedelta(days=back)
            minutes = local.hour * 60 + local.minute + back * DAY_MINUTES
            for span in hours.spans:
                end = span.end if span.end > span.start else span.end + DAY_MINUTES
                if span.weekday == day.weekday() and span.start <= minutes < end:
                    found.add((day.toordinal(), span))
        return found

    around = [inside(now + timedelta(minutes=minutes)) for minutes in range(-60, 61)]
    before, after = set().union(*around[:60]), set().union(*around[61:])
    shown_twice = now.astimezone(zone).utcoffset() != (now - timedelta(hours=2)).astimezone(zone).utcoffset() or (
        now.astimezone(zone).utcoffset() != (now + timedelta(hours=2)).astimezone(zone).utcoffset()
    )
    return bool(around[60]) or (shown_twice and bool(before & after))


_SPANS = st.builds(
    Span, st.integers(0, 6), st.integers(0, 95).map(lambda q: q * 15), st.integers(1, 96).map(lambda q: q * 15)
)
_NEAR = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2026, 6, 1, tzinfo=UTC),
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Shanghai", "Asia/Kolkata"]),
    st.lists(_SPANS, min_size=1, max_size=4),
    st.sampled_from(_NEAR),
    st.integers(-300, 300),
)
def test_quiet_is_what_the_clock_on_the_wall_says(zone: str, spans: list[Span], near: datetime, minutes: int) -> None:
    """At any minute around a jump it is quiet just when the wall clock is in a span, or shows for the second time."""
    now = near + timedelta(minutes=minutes)
    hours = QuietHours(zone, tuple(spans))
    end = quiet_until(hours, int(now.timestamp() * 1000))
    assert (end is not None) == _quiet(hours, now)
    assert end is None or end > now.timestamp() * 1000


def test_all_that_is_wrong_is_named() -> None:
    """A zone nobody knows and spans out of bounds are refused together; a zone's name cannot leave its directory."""
    wrong = QuietHours("../etc/passwd", (Span(7, 0, 60), Span(0, 1440, 0)))
    assert [field for field, _ in quiet_faults(wrong)] == [
        "time_zone",
        "spans[0].weekday",
        "spans[1].start",
        "spans[1].end",
    ]
    assert quiet_faults(BERLIN) == []
    assert quiet_faults(QuietHours("UTC", NIGHTLY * 10))[0][0] == "spans"
