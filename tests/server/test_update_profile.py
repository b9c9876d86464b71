"""UpdateProfile: what is said of a user is in the log and the profile, whole or not at all."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Clock
from tidings.v1 import profile_service_pb2 as pb
from tidings.v1.attribute_pb2 import AttributeValue, TextValues
from tidings.v1.change_pb2 import TagSetting
from tidings_core import changes
from tidings_core.changes import Change, Said, TagMove, Update
from tidings_core.declared import BUILT_IN, Declaration
from tidings_core.errors import InvalidInput, NotFound, StorageFailed, TidingsError
from tidings_core.profile import EMPTY, fold
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.consistency import check_token
from tidings_server.application.documents import read_document
from tidings_server.application.get_profile import GetProfile
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.people import People
from tidings_server.application.record_change import RecordChange
from tidings_server.application.serving import Serving
from tidings_server.application.update_profile import UpdateProfile
from tidings_server.application.user_tags import UserTags
from tidings_server.tag_settings import rules_of
from tidings_server.transport.calls import Call
from tidings_server.transport.changes import decode_logged, encode_change
from tidings_server.transport.profiles import ProfileHandlers

DECLARED = {**BUILT_IN, "joined": Declaration("joined", "time"), "member": Declaration("member", "flag")}
RULES = rules_of({}, DECLARED)
WAIT = 30.0


@dataclass
class House:
    """A store and the handlers over it."""

    store: SqliteStore
    handlers: ProfileHandlers
    clock: Clock
    made: int = field(default=0)

    def update(self, user: str = "ann", event_id: str = "", **fields: Any) -> pb.UpdateProfileResponse | TidingsError:
        """The answer to one UpdateProfile."""
        self.made += 1
        request = pb.UpdateProfileRequest(user_id=user, event_id=event_id or f"c{self.made}", **fields)
        (answer,) = self.handlers.update_profile([Call(request.SerializeToString(), WAIT)])
        return answer if isinstance(answer, TidingsError) else pb.UpdateProfileResponse.FromString(answer)

    def profile(self, user: str = "ann", token: str = "") -> pb.Profile:
        """The profile of a user, who must have one."""
        request = pb.GetProfileRequest(user_id=user, consistency_token=token)
        (answer,) = self.handlers.get_profile([Call(request.SerializeToString(), WAIT)])
        assert isinstance(answer, bytes), answer
        return pb.GetProfileResponse.FromString(answer).profile

    def faults(self, **fields: Any) -> dict[str, str]:
        """What an update is refused for."""
        answer = self.update(**fields)
        assert isinstance(answer, InvalidInput), answer
        return dict(answer.violations)


@pytest.fixture
def house(tmp_path: Path, serving: Serving, clock: Clock) -> Iterator[House]:
    """Nothing is recorded yet."""
    (tmp_path / "store").mkdir()
    store = SqliteStore.open(tmp_path / "store", lambda: int(clock.now * 1000))
    documents = KnownDocuments(store)
    people = People(store, documents)
    tags = UserTags((), DECLARED, lambda: serving.release, people.rows_of)
    show = GetProfile(documents, serving, people.item_ids, people.rows_of, tags, clock)
    update = UpdateProfile(
        RecordChange(store, documents, encode_change, clock), DECLARED, [r.name for r in RULES], clock
    )
    handlers = ProfileHandlers(show, update, DECLARED, partial(check_token, store), clock)
    yield House(store, handlers, clock)
    store.close()


def texts(*values: str) -> AttributeValue:
    """A value of the kind tags."""
    return AttributeValue(texts=TextValues(values=values))


def test_what_is_said_is_shown_with_who_said_it_and_since_when(house: House) -> None:
    """Every kind of value comes back as it was given, by name; a tag with its weight and end."""
    given = {
        "birth_date": AttributeValue(text="2001-05-03"),
        "age": AttributeValue(number=25),
        "interests": texts("fashion", "tech"),
        "member": AttributeValue(flag=True),
        "joined": AttributeValue(time={"seconds": 1_600_000_000, "nanos": 500_000_000}),
    }
    tags = [
        TagSetting(tag="vip", weight=2.5, expire_time={"seconds": int(house.clock.now) + 60}),
        TagSetting(tag="bot"),
    ]
    answer = house.update(attributes=given, tags=tags, source="crm")
    assert isinstance(answer, pb.UpdateProfileResponse)
    assert not answer.duplicate
    profile = house.profile(token=answer.consistency_token)
    assert [one.name for one in profile.attributes] == sorted(given)
    assert {one.name: one.value for one in profile.attributes} == given
    assert {one.source for one in profile.attributes} == {"crm"}
    assert {one.since.ToMilliseconds() for one in profile.attributes} == {int(house.clock.now * 1000)}
    assert [(tag.tag, tag.weight, tag.HasField("expire_time")) for tag in profile.tags] == [
        ("bot", 1.0, False),
        ("vip", 2.5, True),
    ]
    house.clock.now += 61
    assert [tag.tag for tag in house.profile().tags] == ["bot"]


def test_a_later_word_stands_and_an_older_one_that_comes_late_does_not(house: House) -> None:
    """By the time it came to be so, not by when it arrived."""
    now = int(house.clock.now)
    house.update(attributes={"city": AttributeValue(text="Beijing")}, event_time={"seconds": now - 10})
    house.update(attributes={"city": AttributeValue(text="Rome")}, event_time={"seconds": now - 20})
    assert house.profile().attributes[0].value.text == "Beijing"
    house.update(remove_attributes=["city"], tags=[TagSetting(tag="vip")])
    assert not house.profile().attributes
    house.update(remove_tags=["vip"])
    assert not house.profile().tags


def test_a_repeated_update_changes_nothing_and_says_so(house: House) -> None:
    """The id decides, whatever it carries, also where the first would be refused now."""
    house.update(event_id="once", attributes={"age": AttributeValue(number=25)})
    again = house.update(event_id="once", attributes={"age": AttributeValue(number=26)})
    assert isinstance(again, pb.UpdateProfileResponse)
    assert again.duplicate
    assert house.profile().attributes[0].value.number == 25
    assert house.profile().version == 1


def test_one_fault_refuses_all_and_all_faults_are_told(house: House) -> None:
    """Fields, names and limits at once, and nothing half-done."""
    found = house.faults(
        user="a\nb",
        event_id="x" * 257,
        source="s" * 65,
        attributes={
            "age": AttributeValue(text="old"),
            "shoe": AttributeValue(number=42),
            "city": AttributeValue(text="Rome"),
            "member": AttributeValue(),
        },
        remove_attributes=["city"],
        tags=[TagSetting(tag="vip", weight=0), TagSetting(tag="")],
    )
    assert "control character" in found["user_id"]
    assert "256" in found["event_id"]
    assert found["attributes['city']"].startswith("is named twice")
    assert len(found) == 8
    assert list(found.values())[-1].endswith("(and 1 more faults)")
    assert house.store.position == 0
    assert house.store.user("a\nb").version == 0


@pytest.mark.parametrize(
    ("fields", "at", "said"),
    [
        ({}, "attributes", "is empty"),
        ({"attributes": {"age": AttributeValue()}}, "attributes['age']", "has no value"),
        ({"attributes": {"age": AttributeValue(number=-1)}}, "attributes['age']", "must be 0 or more"),
        ({"remove_attributes": ["shoe"]}, "attributes['shoe']", "is not declared"),
        ({"tags": [TagSetting(tag="")]}, "tags['']", "must have 1 to 128"),
        ({"tags": [TagSetting(tag="a\x00")]}, "tags['a\\x00']", "control character"),
        ({"tags": [TagSetting(tag="gender:male")]}, "tags['gender:male']", "the rule [tag.gender] gives"),
        ({"tags": [TagSetting(tag="a", weight=float("nan"))]}, "tags['a'].weight", "must be above 0"),
        ({"tags": [TagSetting(tag="a", expire_time={"seconds": 5})]}, "tags['a'].expire_time", "years 2000"),
        ({"tags": [TagSetting(tag="a")], "event_time": {"seconds": 5}}, "event_time", "before 2000"),
        ({"tags": [TagSetting(tag="a")], "event_time": {"seconds": 9_999_999_999}}, "event_time", "ahead"),
        ({"tags": [TagSetting(tag=f"t{n}") for n in range(100_000)]}, "tags", "has 100000 entries"),
        ({"remove_tags": [f"t{n}" for n in range(101)]}, "tags", "has 101 entries"),
    ],
)
def test_what_cannot_be_is_refused_by_name(house: House, fields: dict[str, Any], at: str, said: str) -> None:
    """With the limit."""
    assert said in house.faults(**fields)[at]


def test_a_user_has_so_many_tags_and_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted over all calls, those that ended left out; removing makes room in the same call."""
    monkeypatch.setattr("tidings_server.application.update_profile.MAX_TAGS", 3)
    soon = {"seconds": int(house.clock.now) + 5}
    house.update(tags=[TagSetting(tag="a"), TagSetting(tag="b"), TagSetting(tag="c", expire_time=soon)])
    assert "would be 4 of this user, may be 3 at most" in house.faults(tags=[TagSetting(tag="d")])["tags"]
    assert {tag.tag for tag in house.profile().tags} == {"a", "b", "c"}
    assert isinstance(house.update(tags=[TagSetting(tag="d")], remove_tags=["a"]), pb.UpdateProfileResponse)
    house.clock.now += 6
    assert isinstance(house.update(tags=[TagSetting(tag="e")]), pb.UpdateProfileResponse)
    assert changes.MAX_TAGS == 100


def test_the_log_makes_the_profile_again(house: House) -> None:
    """What the log keeps of a change is the change, whole."""
    house.update(attributes={"age": AttributeValue(number=25), "interests": texts("tea")}, source="crm")
    house.update(remove_attributes=["age"], tags=[TagSetting(tag="vip", weight=0.1)])
    logged = [decode_logged(entry.content) for entry in house.store.events(0, 10)]
    assert fold(EMPTY, [(one, []) for one in logged]) == read_document(house.store.user("ann")).profile


@pytest.mark.parametrize(
    "what", [TagMove("lifecycle:new", True), TagMove("x", False), Update({"a": None}, {"t": None})]
)
def test_every_change_is_read_as_it_was_written(what: Any) -> None:
    """Also those that no call makes."""
    change = Change("id", "ann", 1_700_000_000_123, what)
    assert decode_logged(encode_change(change)) == change


@pytest.mark.parametrize("content", [b"\xff", b"\x52\x00"])
def test_a_damaged_entry_is_said_to_be_damaged(content: bytes) -> None:
    """No bytes of the log are taken for something else."""
    with pytest.raises(StorageFailed, match="damaged"):
        decode_logged(content)


def test_of_a_user_with_nothing_but_a_push_there_is_no_profile(house: House) -> None:
    """A stated attribute alone is a profile."""
    request = pb.GetProfileRequest(user_id="ann")
    (answer,) = house.handlers.get_profile([Call(request.SerializeToString(), WAIT)])
    assert isinstance(answer, NotFound)
    house.update(attributes={"age": AttributeValue(number=25)})
    assert not house.profile().HasField("first_event_time") or house.profile().first_event_time.seconds == 0


def test_an_entry_that_says_nothing_is_read_again() -> None:
    """Somebody came back and said nothing else: the log can still be read."""
    came_back = Change("c", "ann", 1_790_000_000_000, Said({}))
    assert decode_logged(encode_change(came_back)) == came_back
