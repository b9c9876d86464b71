import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.training.shop import END, make_events, write_events
from tests.training.test_splits import DAY, PURCHASE, VIEW, make_log
from tests.training.world import taste_world
from tidings_core.errors import InvalidInput
from tidings_training.audit import audit, bots, gaps
from tidings_training.cli import app
from tidings_training.log import Log
from tidings_training.proof.splits import Cut

HOUR = 1 / 24
MINUTE = HOUR / 60
Rows = list[tuple[int, int, float]]


def told(log: Log, protocol: str = "temporal", now: float = END) -> list[str]:
    """The problems of a log."""
    return audit(log, Cut(protocol=protocol), now).problems  # type: ignore[arg-type]


def test_a_sound_log_has_no_problem() -> None:
    """The generated shop is counted as it is, and nothing is told of it."""
    log = taste_world()
    found = audit(log, Cut(), END)
    assert (found.events, found.users, found.items) == (len(log), 240, 144)
    assert found.kinds == {"purchase": len(log)}
    assert (found.duplicates, found.gaps, found.bots, found.future) == (0, [], [], 0)
    assert found.held is not None
    assert found.held.earlier == 0.0
    assert found.problems == []


def test_events_written_twice_are_counted() -> None:
    """The same user, item, time and type again is a duplicate; another time is a repeat."""
    rows: Rows = [(0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 5), (1, 1, 9), (1, 0, 9)]
    found = audit(make_log(rows), Cut(holdout_days=2), END)
    assert found.duplicates == 2
    assert found.repeats == pytest.approx(0.5)
    assert found.ties == pytest.approx(2 / 4)
    assert any("2 events stand there more than once" in problem for problem in found.problems)


def test_a_silence_is_a_gap_unless_it_is_usual() -> None:
    """Two weeks without an event are one in a shop of every day, and none in a shop of every other week."""
    daily = np.array([float(day) for day in range(100) if not 40 <= day < 54]) * DAY
    assert [(gap.start, gap.days) for gap in gaps(daily)] == [(39 * DAY, 15)]
    assert gaps(np.arange(0.0, 400.0, 14.0) * DAY) == []
    assert gaps(np.array([0.0, 90.0]) * DAY) == []


def busy(user: int, days: "np.ndarray") -> Rows:
    """One view at each moment."""
    return [(user, number % 7, float(day)) for number, day in enumerate(days)]


def test_machines_are_found_and_people_are_not() -> None:
    """By the clock, around it, and faster than a hand: each with why; a wholesaler of large orders is none."""
    rng = np.random.default_rng(0)
    clock = busy(0, np.arange(60) * 0.3)
    sleepless = busy(1, np.sort(rng.random(300)))
    fast = busy(2, np.sort(np.concatenate([rng.random(40) * MINUTE * 0.9, rng.random(20) * 100])))
    person = busy(3, np.sort(rng.integers(0, 200, 80) + 0.4 + 0.3 * rng.random(80)))
    wholesaler: Rows = [(4, item, float(day)) for day in rng.integers(0, 300, 55) for item in range(50)]
    found = {bot.user_id: bot.why for bot in bots(make_log([*clock, *sleepless, *fast, *person, *wholesaler]))}
    assert set(found) == {"u0", "u1", "u2"}
    assert "every 25,920 seconds" in found["u0"]
    assert "24 hours of 1970-01-01" in found["u1"]
    assert "times within a minute" in found["u2"]


def test_somebody_who_looks_at_everything_and_never_buys_is_a_machine_where_people_buy() -> None:
    """A hundred times what others do without a purchase; the same who buys is none."""
    rng = np.random.default_rng(1)
    rows = [
        *busy(0, np.sort(rng.integers(0, 300, 900) + 0.5 * rng.random(900))),
        *((user, 0, 7.0) for user in range(1, 9)),
    ]
    log = make_log(rows)
    looking = np.where(log.users == 0, VIEW, PURCHASE).astype(np.int8)
    mixed = Log(log.user_ids, log.item_ids, log.users, log.items, log.times, looking, log.values, log.sessions)
    assert [bot.user_id for bot in bots(mixed)] == ["u0"]
    assert "bought nothing" in bots(mixed)[0].why
    assert bots(log) == []


def test_what_a_split_gives_away_is_told() -> None:
    """A random split holds out what is not later; a cut that leaves nobody with a past says so."""
    assert any("see the future" in problem for problem in told(taste_world(), "random"))
    rows: Rows = [(0, 0, 0), (1, 1, 0), *((user, user % 2, 50.0 + user) for user in range(2, 30))]
    problems = audit(make_log(rows), Cut(holdout_days=40), END).problems
    assert any("have no past" in problem for problem in problems)


def test_a_log_that_cannot_be_split_is_still_looked_over() -> None:
    """All at one time, and later than now: the split is refused among the problems, the rest is told."""
    found = audit(make_log([(0, 0, 1), (1, 1, 1)]), Cut(), now=0.0)
    assert found.held is None
    assert found.future == 2
    assert any("of one time" in problem for problem in found.problems)
    assert any("later than now" in problem for problem in found.problems)
    with pytest.raises(InvalidInput):
        audit(make_log([(0, 0, 1)]).where(np.zeros(1, np.bool_)), Cut(), 0.0)


def test_the_command_tells_people_and_machines_the_same(tmp_path: Path) -> None:
    """A table with the problems below, and one JSON object with the same counts."""
    path = write_events(tmp_path / "e.parquet", make_events())
    shown = CliRunner().invoke(app, ["check", "--events", str(path), "--protocol", "random"])
    assert shown.exit_code == 0, shown.stderr
    assert "- 100% of what random holds out" in shown.stdout
    found = json.loads(CliRunner().invoke(app, ["check", "--events", str(path), "--json"]).stdout)
    assert (found["events"], found["held"]["protocol"]) == (240 * 14, "temporal")
    refused = CliRunner().invoke(app, ["check", "--events", str(path), "--protocol", "crystal"])
    assert refused.exit_code == 1
    assert "the protocols are temporal" in refused.stderr
