"""The live monitor of recall: it finds a planted loss, says so once, stays quiet otherwise, and holds nobody up."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict

import tidings
from tests.server.conftest import Clock, Shop
from tests.support.server import start_server
from tests.support.world import NOW, make_world
from tidings_core.index import build_index
from tidings_core.model import SERVING_CONFIGS, Query, ServingConfig, Snapshot, SourceUse
from tidings_core.release import Release
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.application.check_recall import ENOUGH, MAX_WAITING, Answered, CheckRecall, upper_bound
from tidings_server.application.observe_answers import Checking, ObserveAnswers, Recording
from tidings_server.application.promote_release import PromoteRelease
from tidings_server.application.recommend import Recommend
from tidings_server.application.serving import Serving

PATIENCE = 30.0
ANN = ServingConfig("ann", (SourceUse("ann", 20),), rerank=False, within_category=True)


class Counted:
    """What a meter was told."""

    def __init__(self) -> None:
        self.checks: Counter[str] = Counter()
        self.recalls: dict[str, list[float]] = {}
        self.low: dict[str, bool] = {}

    def recall_check(self, outcome: str) -> None:
        """Count a check."""
        self.checks[outcome] += 1

    def recall(self, selectivity: str, recall: float) -> None:
        """Keep a recall."""
        self.recalls.setdefault(selectivity, []).append(recall)

    def recall_low(self, selectivity: str, low: bool) -> None:
        """Keep the newest word."""
        self.low[selectivity] = low


Logged = list[EventDict]


class House:
    """A monitor, what it counts, and what it logs."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.counted = Counted()
        self.monitor = CheckRecall(self.counted, lambda: 0.0, busy=1.0)

    def check(self, *queries: Query) -> None:
        """Let queries be checked, a few at a time, as there is room."""
        for query in queries:
            self.monitor.offer(Answered(query, self.release, NOW))
            assert self.monitor.settle(PATIENCE)


@pytest.fixture
def release(shop: Shop, directory: ReleaseDirectory) -> Release:
    """A release whose index is exact; it promises a recall of .95."""
    release = directory.open(shop.a)
    assert release.manifest.index.recall_target == 0.95
    return release


def poor(snapshot: Snapshot) -> Snapshot:
    """The same shop with an index that looks into one list of 32."""
    return dataclasses.replace(
        snapshot, index=build_index("IVF32,Flat", snapshot.item_vectors, snapshot.metric, {"nprobe": 1})
    )


@pytest.fixture
def opened(release: Release) -> Iterator[Callable[[bool], tuple[House, Logged]]]:
    """Makes a house with a good or with a poor index."""
    houses: list[House] = []
    with structlog.testing.capture_logs() as logged:

        def open_house(good: bool) -> tuple[House, Logged]:
            snapshot = release.snapshot if good else poor(release.snapshot)
            houses.append(House(dataclasses.replace(release, snapshot=snapshot)))
            houses[-1].monitor.start()
            return houses[-1], logged

        yield open_house
        for house in houses:
            house.monitor.close(PATIENCE)


def queries(count: int, category: str = "") -> list[Query]:
    """Queries of the users in turn."""
    return [Query(f"user-{n % 60}", ANN, 10, category=category) for n in range(count)]


def test_a_planted_loss_is_found_and_said_once_with_its_figures(
    opened: Callable[[bool], tuple[House, Logged]], release: Release
) -> None:
    """Not before there are enough queries; then one warning tells release, figures and what to do; a gauge is 1."""
    house, logged = opened(False)
    house.check(*queries(ENOUGH - 1))
    assert (logged, house.counted.low) == ([], {})
    house.check(*queries(200))
    (warning,) = logged
    assert warning["log_level"] == "warning"
    assert "build the release again" in warning["event"]
    assert (warning["release_id"], warning["selectivity"]) == (release.manifest.release_id, "0.9-1")
    assert warning["recall"] < warning["at_most"] < warning["target"] == 0.95
    assert warning["queries"] == ENOUGH
    assert house.counted.low == {"0.9-1": True}
    assert house.counted.checks == {"checked": ENOUGH + 199}
    assert len(house.counted.recalls["0.9-1"]) == ENOUGH + 199


def test_a_good_index_is_quiet(opened: Callable[[bool], tuple[House, Logged]]) -> None:
    """However many queries are checked, with and without a category."""
    house, logged = opened(True)
    house.check(*queries(200), *queries(150, "group-3"))
    assert logged == []
    assert house.counted.low == {}
    assert set(house.counted.recalls) == {"0.9-1", "0.1-0.9"}
    assert all(recall == 1.0 for recalls in house.counted.recalls.values() for recall in recalls)


def test_what_mends_it_is_said_and_a_new_release_begins_anew(opened: Callable[[bool], tuple[House, Logged]]) -> None:
    """The gauge goes back when the newest queries are fine, and when another release answers."""
    house, logged = opened(False)
    house.check(*queries(ENOUGH))
    bad = house.release
    house.release = dataclasses.replace(bad, snapshot=dataclasses.replace(bad.snapshot, index=build_index(
        "Flat", bad.snapshot.item_vectors, bad.snapshot.metric, {})))  # fmt: skip
    house.check(*queries(1000))
    assert [line["log_level"] for line in logged] == ["warning", "info"]
    assert house.counted.low == {"0.9-1": False}
    house.release = bad
    house.check(*queries(1000))
    assert house.counted.low == {"0.9-1": True}
    manifest = dataclasses.replace(bad.manifest, release_id="another")
    house.release = dataclasses.replace(bad, manifest=manifest)
    house.check(*queries(1))
    assert house.counted.low == {"0.9-1": False}


def test_when_it_is_behind_queries_are_passed_over_and_nobody_waits(release: Release) -> None:
    """So many wait; the others are counted and gone."""
    house = House(release)
    for query in queries(MAX_WAITING + 5):
        house.monitor.offer(Answered(query, release, NOW))
    assert house.counted.checks == {"dropped": 5}
    house.monitor.start()
    assert house.monitor.settle(PATIENCE)
    assert house.counted.checks == {"dropped": 5, "checked": MAX_WAITING}
    house.monitor.close(PATIENCE)


def test_a_check_that_fails_ends_nothing(opened: Callable[[bool], tuple[House, Logged]]) -> None:
    """It is counted and logged, and the next one is checked."""
    house, logged = opened(True)
    good = house.release

    class Broken:
        def search(self, *_: object) -> None:
            raise RuntimeError("broken")

    broken = dataclasses.replace(good.snapshot, index=Broken())  # type: ignore[arg-type]
    house.release = dataclasses.replace(good, snapshot=broken)
    house.check(queries(1)[0])
    house.release = good
    house.check(queries(1)[0], Query("nobody", ANN, 5))
    assert house.counted.checks == {"failed": 1, "checked": 1, "passed": 1}
    assert [line["log_level"] for line in logged] == ["error"]


def test_only_answered_queries_that_chance_picks_are_checked_with_the_person_who_asked(
    serving: Serving, directory: ReleaseDirectory, shop: Shop, clock: Clock
) -> None:
    """One whose deadline passed was not answered; the answers are as they would be unobserved."""
    PromoteRelease(directory, serving, clock)(shop.a)
    taken: list[Answered] = []
    draws = iter([0.9, 0.9, 0.9, 0.1, 0.9, 0.1])
    ask = ObserveAnswers(
        Recommend(serving, clock, lambda: 0.0),
        Recording(0.5, lambda _: True, lambda: "x"),
        Checking(0.5, taken.append),
        lambda: next(draws),
    )
    asked = [Query(f"user-{n}", SERVING_CONFIGS["for-you"], 5) for n in range(3)]
    made = ask(asked, [1e12, 1e12, -1.0])
    assert [one.query.user_id for one in taken] == ["user-0"]
    assert taken[0].release is made.release
    assert made.decision_ids == ()


@pytest.mark.parametrize(("mean", "samples", "least", "most"), [(0.9, 500, 0.93, 0.94), (1.0, 100, 1.0, 1.0)])
def test_a_bound_is_wilsons(mean: float, samples: int, least: float, most: float) -> None:
    """It comes nearer to the mean as samples grow, and never leaves 0 to 1."""
    assert least <= upper_bound(mean, samples) <= most + 1e-9
    assert upper_bound(mean, samples * 4) <= upper_bound(mean, samples)


def test_a_poor_release_shows_in_the_metrics_of_a_real_server(tmp_path: Path) -> None:
    """An index that finds too little is promoted; after enough answers the gauge stands at 1 and the log says why."""
    world = make_world()
    parts = dataclasses.replace(
        world.parts, index=build_index("IVF32,Flat", world.parts.item_vectors, "inner_product", {"nprobe": 1}),
        index_info=dataclasses.replace(world.parts.index_info, key="IVF32,Flat", parameters={"nprobe": 1}),
    )  # fmt: skip
    release_id = dataclasses.replace(world, parts=parts).write(tmp_path / "releases").release_id
    with (
        start_server(tmp_path / "releases", tmp_path / "state", env={"TIDINGS_RECALL_SHARE": "1"}) as server,
        tidings.Client(server.address, timeout=10) as client,
    ):
        client.promote_release(release_id)
        low = 'tidings_live_recall_low{selectivity="0.9-1"}'
        asked = 0
        while server.metric(low) == 0.0 and asked < 5000:
            client.batch_recommend([tidings.RecommendQuery(f"user-{n}", k=20) for n in range(60)])
            client.recommend(f"user-{asked % 60}")
            asked += 61
        assert server.metric(low) == 1.0
        assert server.metric('tidings_recall_checks_total{outcome="checked"}') >= ENOUGH
        (said,) = [line for line in server.logged() if "selectivity" in line]
        assert (said["level"], said["release_id"]) == ("warning", release_id)
