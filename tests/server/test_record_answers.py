"""A share of the answers is recorded, whole, and never at the cost of an answer."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

import tidings
from tests.server.conftest import Clock, Shop
from tests.server.storing import Stalled
from tests.support.server import start_server
from tidings_core.model import SERVING_CONFIGS, Answer, Query
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.decision_record import read_record
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.observe_answers import Checking, ObserveAnswers, Recording
from tidings_server.application.people import People
from tidings_server.application.promote_release import PromoteRelease
from tidings_server.application.recommend import Recommend
from tidings_server.application.record_answers import MAX_WAITING, RecordAnswers
from tidings_server.application.serving import Serving
from tidings_server.cli import command

PATIENCE = 30.0
UNCHECKED = Checking(0.0, lambda _: None)
QUERY = Query("user-1", SERVING_CONFIGS["for-you"], 5, ["item-3"], ["item-9"], "thing", "group-2")


class House:
    """A store, a recorder and what answers, observed; every answer that `draw` says is recorded."""

    def __init__(self, folder: Path, serving: Serving, clock: Clock, kept: int = 1000) -> None:
        self.store = SqliteStore.open(folder, lambda: int(clock() * 1000))
        self.counted: Counter[str] = Counter()
        self.recorder = RecordAnswers(self.store, kept, lambda outcome: self.counted.update([outcome]))
        self.draw = 0.0
        self.made = 0
        people = People(self.store, KnownDocuments(self.store))
        recommend = Recommend(serving, clock, lambda: 0.0, find_person=people.find)
        self.ask = ObserveAnswers(
            recommend, Recording(0.5, self.recorder.offer, self.name), UNCHECKED, lambda: self.draw
        )

    def name(self) -> str:
        """A new name."""
        self.made += 1
        return f"answer/{self.made}"

    def answer(self, *queries: Query) -> tuple[list[Answer], list[str]]:
        """Answers, and the names of their records."""
        made = self.ask(queries, [1e12] * len(queries))
        answers = [answer for answer in made.answers if isinstance(answer, Answer)]
        assert len(answers) == len(queries)
        return answers, list(made.decision_ids)


@pytest.fixture
def house(tmp_path: Path, serving: Serving, directory: ReleaseDirectory, shop: Shop, clock: Clock) -> Iterator[House]:
    """A house with release a; its recorder is not started yet."""
    PromoteRelease(directory, serving, clock)(shop.a)
    (tmp_path / "store").mkdir()
    house = House(tmp_path / "store", serving, clock, kept=64)
    with structlog.testing.capture_logs():
        yield house
        house.recorder.close(PATIENCE)
        house.store.close()


def test_an_answer_is_recorded_with_all_that_it_was_made_from(house: House, shop: Shop, clock: Clock) -> None:
    """Question, candidates in the order of the answer, scores, sources, features, reasons, release, profile version."""
    house.recorder.start()
    house.store.write(lambda tx: tx.users.put("user-1", b"{}", 0)).result()
    house.store.write(lambda tx: tx.users.put("user-1", _document(), 1)).result()
    (answer,), (name,) = house.answer(QUERY)
    assert house.recorder.settle(PATIENCE)
    entry = house.store.decision(name)
    assert entry is not None
    assert (entry.user_id, entry.state, entry.cause) == ("user-1", "answered", "recommend:for-you")
    assert entry.time == int(clock() * 1000)
    record = read_record(entry.record)
    assert (record["outcome"], record["k"], record["release_id"]) == ("answered", 5, shop.a)
    assert record["profile_version"] == 2
    assert record["question"] == {
        "k": 5, "context_item_ids": ["item-3"], "exclude_item_ids": ["item-9"], "excluded": 1, "query": "thing",
        "category": "group-2", "filter": None, "liked_item_ids": [], "disliked_item_ids": [], "vector": None,
        "tags": [],
    }  # fmt: skip
    chosen = [f"item-{item.row}" for item in answer.items]
    assert [item["item_id"] for item in record["chosen"]] == chosen == record["candidates"]["item_ids"][:5]
    assert [item["sources"] for item in record["chosen"]] == [dict(item.sources) for item in answer.items]
    assert [reason["code"] for reason in record["chosen"][0]["reasons"]] == [r.code for r in answer.items[0].reasons]
    assert len(record["features"]["pair"]) == len(record["features"]["item"]) == 5


def test_what_is_recorded_of_somebody_who_came_back_is_theirs(house: House) -> None:
    """The release does not know a person who was erased since; the record does, to be shown, exported and erased."""
    back = write_document(UserDocument(erased_through=1 << 60))
    house.store.write(lambda tx: tx.users.put("user-1", back, 0)).result()
    house.answer(QUERY, replace(QUERY, user_id="nobody"))
    house.recorder.start()
    assert house.recorder.settle(PATIENCE)
    (entry,) = house.store.decisions("user-1", 10)
    assert read_record(entry.record)["user_id"] == "user-1"
    assert len(house.store.decisions("nobody", 10)) == 1


def _document() -> bytes:
    from tidings_server.application.documents import UserDocument, write_document

    return write_document(UserDocument())


def test_only_those_that_chance_picks_are_recorded_and_answers_are_the_same(house: House) -> None:
    """Of a batch too: each answer has its own name or none."""
    house.recorder.start()
    draws = iter([0.6, 0.4, 0.9, 0.0, 0.0, 0.0])
    house.ask = ObserveAnswers(
        house.ask._recommend, Recording(0.5, house.recorder.offer, house.name), UNCHECKED, lambda: next(draws)
    )
    queries = [Query(f"user-{n}", SERVING_CONFIGS["for-you"], 5) for n in range(3)]
    answers, names = house.answer(*queries)
    assert names == ["", "answer/1", ""]
    assert [answer.considered is not None for answer in answers] == [False, True, False]
    house.ask = ObserveAnswers(
        house.ask._recommend, Recording(0.0, house.recorder.offer, house.name), UNCHECKED, lambda: 0.0
    )
    plain, none = house.answer(*queries)
    assert [answer.items for answer in answers] == [answer.items for answer in plain]
    assert none == []


def test_when_there_is_no_room_answers_go_out_without_being_recorded(house: House) -> None:
    """The recorder is behind: so many wait, the others are counted, nobody waits."""
    names = [name for _ in range(MAX_WAITING + 3) for name in house.answer(QUERY)[1]]
    assert [bool(name) for name in names] == [True] * MAX_WAITING + [False] * 3
    house.recorder.start()
    assert house.recorder.settle(PATIENCE)
    assert house.counted == {"recorded": MAX_WAITING, "dropped": 3}
    assert len(house.store.decisions("", 999)) == MAX_WAITING


def test_a_store_that_takes_nothing_costs_the_records_alone(house: House) -> None:
    """They are counted as failed; the answers have gone out, and recording goes on when the store does."""
    house.recorder.start()
    stalled = Stalled(house.store)
    answers, _ = house.answer(QUERY)
    assert answers[0].items
    stalled.release()
    assert house.recorder.settle(PATIENCE)
    house.store.close()
    house.answer(QUERY)
    assert house.recorder.settle(PATIENCE)
    assert house.counted == {"recorded": 1, "failed": 1}


def test_only_the_newest_records_are_kept(house: House) -> None:
    """Of 64 to be kept there are never more than one in 64 too many, and other decisions stay."""
    from tests.server.storing import entry

    house.store.write(lambda tx: tx.ledger.add(entry(1))).result()
    house.recorder.start()
    names = []
    for _ in range(100):
        names += house.answer(QUERY)[1]
        assert house.recorder.settle(PATIENCE)
    kept = [found.decision_id for found in house.store.decisions("", 999)]
    assert kept == [*names[:-65:-1], "decision-1"]


def test_without_a_release_nothing_is_recorded(house: House, serving: Serving) -> None:
    """There is nothing to tell."""
    house.recorder.start()
    serving.release = None
    assert house.answer(QUERY)[1] == []
    assert house.recorder.settle(PATIENCE)
    assert house.store.decisions("", 9) == []


def test_a_recorded_answer_is_told_by_the_command(shop: Shop, tmp_path: Path) -> None:
    """The name that came with the answer leads to its record; with a share of 0 there is neither."""
    state = tmp_path / "state"
    with (
        start_server(shop.path, state, env={"TIDINGS_RECORD_SHARE": "1"}) as server,
        tidings.Client(server.address, timeout=10) as client,
    ):
        client.promote_release(shop.a)
        answer = client.recommend("user-3", k=4)
    ended = CliRunner().invoke(command, ["decisions", "--state", str(state), "--json"])
    (decision,) = [json.loads(line) for line in ended.stdout.splitlines()]
    assert decision["decision_id"] == answer.decision_id != ""
    assert [item["item_id"] for item in decision["chosen"]] == [item.item.item_id for item in answer.items]
    for of, count in (("all", 1), ("answers", 1), ("pushes", 0)):
        said = CliRunner().invoke(command, ["decisions", "--state", str(state), "--json", "--of", of]).stdout
        assert len(said.splitlines()) == count
    told = CliRunner().invoke(command, ["decisions", "--state", str(state)], terminal_width=200).stdout
    assert " user-3  recommend:for-you  answered " in " ".join(told.split(" "))
    with (
        start_server(shop.path, tmp_path / "other", env={"TIDINGS_RECORD_SHARE": "0"}) as server,
        tidings.Client(server.address, timeout=10) as client,
    ):
        client.promote_release(shop.a)
        assert client.recommend("user-3", k=4).decision_id == ""
