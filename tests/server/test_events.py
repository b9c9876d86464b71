"""RecordEvents against a real server process: what is taken, what is refused and how, and what a restart keeps."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.server.conftest import Shop
from tests.server.end_to_end.conftest import reason
from tests.support.server import RunningServer, run_server, start_server
from tidings.v1 import event_service_pb2, profile_service_pb2, recommendation_service_pb2
from tidings.v1.event_pb2 import Event, EventItem
from tidings.v1.event_service_pb2_grpc import EventServiceStub
from tidings.v1.profile_service_pb2_grpc import ProfileServiceStub
from tidings.v1.recommendation_service_pb2_grpc import RecommendationServiceStub

ACCEPTED, DUPLICATE, REJECTED = (
    event_service_pb2.EVENT_STATUS_ACCEPTED,
    event_service_pb2.EVENT_STATUS_DUPLICATE,
    event_service_pb2.EVENT_STATUS_REJECTED,
)
WAIT = 60.0
NUMBERS = count()
"""Names that no other test has."""


@dataclass(frozen=True)
class Door:
    """Plain stubs on one channel."""

    events: EventServiceStub
    profiles: ProfileServiceStub
    recommendation: RecommendationServiceStub

    def record(self, *events: Event) -> event_service_pb2.RecordEventsResponse:
        """Record events in one call."""
        return self.events.RecordEvents(event_service_pb2.RecordEventsRequest(events=events), timeout=WAIT)

    def verdicts(self, *events: Event) -> list[int]:
        """What became of each of them."""
        return [verdict.status for verdict in self.record(*events).verdicts]

    def profile(self, user_id: str, token: str = "") -> profile_service_pb2.Profile:
        """The profile of a user."""
        request = profile_service_pb2.GetProfileRequest(user_id=user_id, consistency_token=token)
        return self.profiles.GetProfile(request, timeout=WAIT).profile

    def counted(self, user_id: str) -> int:
        """How many events the profile of a user counts."""
        return sum(count.total for count in self.profile(user_id).counts)


@contextmanager
def door(server: RunningServer) -> Iterator[Door]:
    """Stubs for a server."""
    with grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield Door(EventServiceStub(channel), ProfileServiceStub(channel), RecommendationServiceStub(channel))


@pytest.fixture(scope="module")
def server(built_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without a release: events need none."""
    with start_server(built_shop.path, tmp_path_factory.mktemp("events") / "state") as running:
        yield running


@pytest.fixture
def ask(server: RunningServer) -> Iterator[Door]:
    """A channel of its own for each test."""
    with door(server) as found:
        yield found


def view(event_id: str, user_id: str, **fields: Any) -> Event:
    """A view of an item, or what `fields` make of it."""
    given = {"type": "EVENT_TYPE_VIEW", "items": [EventItem(item_id="item-1")], **fields}
    return Event(event_id=event_id, user_id=user_id, **given)


def at(seconds: float) -> Timestamp:
    """A time so many seconds from now."""
    stamp = Timestamp()
    stamp.FromNanoseconds(int((time.time() + seconds) * 1e9))
    return stamp


def refused(call: Any, *arguments: Any) -> grpc.RpcError:
    """The error that a call ends with."""
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments)
    return error.value


def code(error: grpc.RpcError) -> grpc.StatusCode:
    """Its status code."""
    assert isinstance(error, grpc.Call)
    return error.code()


def detail(error: grpc.RpcError) -> str:
    """Its sentence."""
    assert isinstance(error, grpc.Call)
    return error.details() or ""


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"event_id": ""}, "event_id", "must have 1 to 256"),
        ({"event_id": "x" * 257}, "event_id", "has 257 bytes"),
        ({"event_id": "a\nb"}, "event_id", "control character"),
        ({"event_id": "a\x85b"}, "event_id", "control character"),
        ({"user_id": ""}, "user_id", "must have 1 to 256"),
        ({"user_id": "界" * 86}, "user_id", "has 258 bytes"),
        ({"user_id": "a\x00"}, "user_id", "control character"),
        ({"type": 0}, "type", "known are"),
        ({"type": 13}, "type", "is 13"),
        ({"type": -1}, "type", "known are"),
        ({"type": 2_000_000_000}, "type", "known are"),
        ({"items": []}, "items", "is empty"),
        ({"items": [EventItem()]}, "items[0].item_id", "has 0 bytes"),
        ({"items": [EventItem(item_id="a"), EventItem(item_id="b\t")]}, "items[1].item_id", "control character"),
        ({"items": [EventItem(item_id="a", quantity=0)]}, "items[0].quantity", "is 0, must be 1 to 1000000"),
        ({"items": [EventItem(item_id="a", quantity=-3)]}, "items[0].quantity", "is -3"),
        ({"items": [EventItem(item_id="a", quantity=1_000_001)]}, "items[0].quantity", "is 1000001"),
        ({"items": [EventItem(item_id="a", price=float("nan"))]}, "items[0].price", "is nan"),
        ({"items": [EventItem(item_id="a", price=float("inf"))]}, "items[0].price", "is inf"),
        ({"items": [EventItem(item_id="a", price=-0.01)]}, "items[0].price", "is -0.01"),
        ({"items": [EventItem(item_id="a")] * 1001}, "items", "has 1001 entries, may have 1000"),
        ({"value": float("nan")}, "value", "is nan"),
        ({"value": -1.0}, "value", "is -1"),
        ({"type": "EVENT_TYPE_RATING"}, "value", "needs its stars"),
        ({"type": "EVENT_TYPE_RATING", "value": 5.1}, "value", "must be 0 to 5"),
        ({"type": "EVENT_TYPE_SEARCH", "items": []}, "query", "has 0 bytes"),
        ({"type": "EVENT_TYPE_SEARCH", "items": [], "query": "x" * 1025}, "query", "has 1025 bytes"),
        ({"type": "EVENT_TYPE_SEARCH", "items": [], "query": "a\x1bb"}, "query", "control character"),
        ({"query": "dress"}, "query", "only a search has one"),
        ({"category": "x" * 257}, "category", "has 257 bytes"),
        ({"type": "EVENT_TYPE_PURCHASE", "category": "Fashion"}, "category", "may name one"),
        ({"type": "EVENT_TYPE_PURCHASE", "items": []}, "items", "is empty"),
        ({"push_id": "x" * 257}, "push_id", "has 257 bytes"),
        ({"event_time": Timestamp(seconds=0)}, "event_time", "before 2000-01-01"),
        ({"event_time": Timestamp(seconds=-1)}, "event_time", "before 2000-01-01"),
        ({"event_time": Timestamp(seconds=1_700_000_000_000)}, "event_time", ""),
        ({"event_time": Timestamp(seconds=9_223_372_036_854_775_807)}, "event_time", ""),
        ({"event_time": Timestamp(seconds=-9_223_372_036_854_775_808)}, "event_time", ""),
        ({"event_time": Timestamp(seconds=1_700_000_000, nanos=-1)}, "event_time", "nanos"),
        ({"event_time": Timestamp(seconds=1_700_000_000, nanos=1_000_000_000)}, "event_time", "nanos"),
        ({"event_time": at(3600)}, "event_time", "ahead of the server's clock"),
    ],
)
def test_a_bad_event_is_rejected_by_its_field(ask: Door, fields: dict[str, Any], field: str, said: str) -> None:
    """The good events around it are recorded, nothing of it is, and nothing of it is counted."""
    name = f"bad-{next(NUMBERS)}"
    user = fields.get("user_id", name)
    bad = view(**{"event_id": name, "user_id": user, **fields})
    good = [view(f"{name}/{n}", f"neighbour-of-{name}") for n in range(2)]
    response = ask.record(good[0], bad, good[1])
    assert [verdict.status for verdict in response.verdicts] == [ACCEPTED, REJECTED, ACCEPTED]
    faults = {fault.field: fault.description for fault in response.verdicts[1].faults}
    assert said in faults[field], faults
    assert response.consistency_token
    assert ask.counted(good[0].user_id) == 2
    if 0 < len(user.encode()) <= 256 and user.isprintable():
        assert code(refused(ask.profile, user)) == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "fields",
    [
        {"event_id": "x" * 256},
        {"user_id": "界" * 85},
        {"items": [EventItem(item_id="x" * 256, quantity=1_000_000, price=0.0)] * 1000},
        {"items": [], "category": "x" * 256},
        {"type": "EVENT_TYPE_SEE_LESS", "items": [], "category": "Fashion"},
        {"type": "EVENT_TYPE_SEARCH", "items": [], "query": "x" * 1024},
        {"type": "EVENT_TYPE_RATING", "value": 0.0},
        {"type": "EVENT_TYPE_RATING", "value": 5.0},
        {"type": "EVENT_TYPE_PURCHASE", "value": 1e12},
        {"push_id": "x" * 256},
        {"event_time": Timestamp(seconds=946_684_800)},
        {"event_time": at(240)},
    ],
)
def test_the_limits_themselves_are_allowed(ask: Door, fields: dict[str, Any]) -> None:
    """What stands in the proto works up to and including the limit."""
    name = f"limit-{next(NUMBERS)}"
    assert ask.verdicts(view(**{"event_id": name, "user_id": name, **fields})) == [ACCEPTED]


@pytest.mark.parametrize("size", [0, 1001])
def test_a_call_of_too_few_or_too_many_events_records_nothing(ask: Door, size: int) -> None:
    """It names the limit and the way out."""
    error = refused(ask.record, *(view(f"many/{n}", f"many-{size}") for n in range(size)))
    assert code(error) == grpc.StatusCode.INVALID_ARGUMENT
    assert f"events: has {size} entries, must have 1 to 1000" in detail(error)
    assert code(refused(ask.profile, f"many-{size}")) == grpc.StatusCode.NOT_FOUND


def test_many_faults_of_one_event_fit_an_answer(ask: Door) -> None:
    """A thousand bad items of a thousand events come back as a few faults each."""
    bad = view("faults", "faults", items=[EventItem(item_id="")] * 1000)
    response = ask.record(*[bad] * 200)
    assert all(1 <= len(verdict.faults) <= 8 for verdict in response.verdicts)
    assert not response.consistency_token


def test_an_event_counts_once_in_one_call_in_two_and_in_many_at_once(ask: Door, server: RunningServer) -> None:
    """Sixteen threads record the same twenty events; each is accepted by one of them, and is in the profile once."""
    first = view("twice/0", "twice")
    assert ask.verdicts(first, first) == [ACCEPTED, DUPLICATE]
    assert ask.verdicts(first) == [DUPLICATE]

    def work(_: int) -> list[int]:
        with door(server) as own:
            return own.verdicts(*(view(f"twice/{n}", "twice") for n in range(1, 21)))

    with ThreadPoolExecutor(16) as pool:
        verdicts = list(pool.map(work, range(16)))
    assert all(sorted(of_event) == [ACCEPTED] + [DUPLICATE] * 15 for of_event in zip(*verdicts, strict=True))
    assert ask.counted("twice") == 21


def test_ten_thousand_events_come_in_ten_calls(ask: Door) -> None:
    """All of a hundred users are counted, and the same again is ten thousand duplicates."""
    calls = [[view(f"load/{n}-{m}", f"load-{m % 100}") for m in range(1000)] for n in range(10)]
    with ThreadPoolExecutor(4) as pool:
        for expected in (ACCEPTED, DUPLICATE):
            found = list(pool.map(lambda events: ask.verdicts(*events), calls))
            assert {status for of_call in found for status in of_call} == {expected}
    assert [ask.counted(f"load-{n}") for n in range(100)] == [100] * 100


def test_a_user_who_does_much_loses_nothing(ask: Door, server: RunningServer) -> None:
    """Eight hundred events of one user, one in each call, from sixteen threads; then they are counted."""

    def work(thread: int) -> set[int]:
        with door(server) as own:
            # Minutes apart, so that they are no flood.
            events = [view(f"hot/{thread}-{n}", "hot", event_time=at(-60.0 * n)) for n in range(50)]
            return {status for event in events for status in own.verdicts(event)}

    with ThreadPoolExecutor(16) as pool:
        assert set().union(*pool.map(work, range(16))) == {ACCEPTED}
    assert ask.counted("hot") == 800
    # Calls that wait together are written together: the document changed less often than there were events.
    assert ask.profile("hot").version < 800


def test_events_are_measured(ask: Door, server: RunningServer) -> None:
    """By type and verdict; and how many calls came together, and how long the disk took."""
    accepted = 'tidings_events_total{status="accepted",type="view"}'
    duplicate = 'tidings_events_total{status="duplicate",type="view"}'
    before = server.metric(accepted), server.metric(duplicate)
    ask.record(view("measured", "measured"), view("measured", "measured"))
    assert (server.metric(accepted), server.metric(duplicate)) == (before[0] + 1, before[1] + 1)
    assert server.metric('tidings_stage_seconds_count{stage="record"}') > 0
    assert server.metric('tidings_batch_size_count{lane="record"}') > 0


TOKENS = [
    *("x", "1", "1..5.0", "2.abc.5.0", "1.abc.5", "1.abc.-5.0", "1.abc.5.-1", "1.abc.5.0 ", "1.abc.٣.0"),
    *("x" * 100_000, "1.abc.99999999999999999999.0"),
]


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:12])
def test_what_is_no_token_is_refused_by_all_who_read(ask: Door, token: str) -> None:
    """Recommend, BatchRecommend and GetProfile name the field."""
    ask.record(view("token", "token"))
    request = recommendation_service_pb2.RecommendRequest(user_id="token", consistency_token=token)
    batch = recommendation_service_pb2.BatchRecommendRequest(requests=[{"user_id": "a"}, request])
    errors = [
        refused(lambda: ask.recommendation.Recommend(request, timeout=WAIT)),
        refused(lambda: ask.recommendation.BatchRecommend(batch, timeout=WAIT)),
        refused(ask.profile, "token", token),
    ]
    assert [code(error) for error in errors] == [grpc.StatusCode.INVALID_ARGUMENT] * 3
    assert "requests[1].consistency_token" in detail(errors[1])
    assert all("consistency_token" in detail(error) for error in errors)


def test_a_token_of_elsewhere_or_of_later_is_refused_with_what_happened(ask: Door) -> None:
    """A token of another history, or of an event or a change that this store lacks, is FAILED_PRECONDITION."""
    token = ask.record(view("here", "here")).consistency_token
    version, epoch, position, change = token.split(".")
    ahead = f"{version}.{epoch}.{int(position) + 1_000_000}.{change}"
    changed = f"{version}.{epoch}.{position}.{int(change) + 1}"
    other = f"{version}.{'0' * len(epoch)}.{position}.{change}"
    for bad, said in ((ahead, "set back"), (changed, "set back"), (other, "another history")):
        error = refused(ask.profile, "here", bad)
        assert (code(error), reason(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "CONFLICT")
        assert said in detail(error)
        request = recommendation_service_pb2.RecommendRequest(user_id="here", consistency_token=bad)
        failed = refused(lambda request=request: ask.recommendation.Recommend(request, timeout=WAIT))
        assert code(failed) == grpc.StatusCode.FAILED_PRECONDITION
    assert ask.profile("here", token).user_id == "here"


def test_a_kill_loses_nothing_that_was_acknowledged(built_shop: Shop, tmp_path: Path) -> None:
    """Four threads record until the server is killed: after the next start every acknowledged event is a duplicate.

    The profile counts each of them, the token of before is good, and what was not acknowledged can be sent again.
    """
    acknowledged: list[list[str]] = [[] for _ in range(4)]
    enough = threading.Event()

    def work(server: RunningServer, thread: int) -> None:
        with door(server) as own:
            for n in range(100_000):
                try:
                    own.record(view(f"k/{thread}-{n}", f"k-{thread}"))
                except grpc.RpcError:
                    return
                acknowledged[thread].append(f"k/{thread}-{n}")
                if n == 50:
                    enough.set()

    with start_server(built_shop.path, tmp_path / "state") as server, door(server) as ask:
        token = ask.record(view("first", "first")).consistency_token
        threads = [threading.Thread(target=work, args=(server, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        assert enough.wait(WAIT)
        server.process.kill()
        for thread in threads:
            thread.join(WAIT)
    with start_server(built_shop.path, tmp_path / "state") as server, door(server) as ask:
        for number, ids in enumerate(acknowledged):
            for first in range(0, len(ids), 1000):
                part = [view(name, f"k-{number}") for name in ids[first : first + 1000]]
                assert set(ask.verdicts(*part)) == {DUPLICATE}
            # The last one may be on disk without having been acknowledged.
            assert ask.counted(f"k-{number}") - len(ids) in (0, 1)
            assert set(ask.verdicts(view(f"k/{number}-{len(ids)}", f"k-{number}"))) <= {ACCEPTED, DUPLICATE}
            assert ask.counted(f"k-{number}") == len(ids) + 1
        assert ask.profile("first", token).user_id == "first"


def test_a_stopping_server_ends_what_is_under_way_on_disk(built_shop: Shop, tmp_path: Path) -> None:
    """SIGTERM in the midst of writing: what was acknowledged is there after the next start; the exit status is 0."""
    acknowledged: list[str] = []
    errors: list[grpc.StatusCode] = []
    enough = threading.Event()

    def work(server: RunningServer, thread: int) -> None:
        with door(server) as own:
            for n in range(100_000):
                try:
                    own.record(view(f"s/{thread}-{n}", "s"))
                except grpc.RpcError as error:
                    errors.append(code(error))
                    return
                acknowledged.append(f"s/{thread}-{n}")
                if n == 30:
                    enough.set()

    with start_server(built_shop.path, tmp_path / "state") as server:
        threads = [threading.Thread(target=work, args=(server, n)) for n in range(8)]
        for thread in threads:
            thread.start()
        assert enough.wait(WAIT)
        assert server.stop() == 0
        for thread in threads:
            thread.join(WAIT)
        assert errors_of(server.logged()) == []
    assert set(errors) == {grpc.StatusCode.UNAVAILABLE}
    with start_server(built_shop.path, tmp_path / "state") as server, door(server) as ask:
        assert ask.counted("s") == len(acknowledged)


def test_a_server_without_a_trigger_needs_no_release_to_take_events(ask: Door) -> None:
    """Nothing is promoted, and the profile says so."""
    ask.record(view("lone", "lone"))
    shown = ask.profile("lone")
    assert not shown.known_to_release
    assert [event.item_ids[0] for event in shown.recent_events] == ["item-1"]


def test_two_servers_do_not_share_a_state_directory(built_shop: Shop, tmp_path: Path) -> None:
    """The second ends with one line that names the first, which goes on recording."""
    with start_server(built_shop.path, tmp_path / "state") as server, door(server) as ask:
        assert ask.verdicts(view("before", "two")) == [ACCEPTED]
        ended = run_server(built_shop.path, tmp_path / "state")
        assert ended.returncode == 1
        assert f"in use by another server (process {server.process.pid})" in ended.stderr
        assert ask.verdicts(view("before", "two"), view("after", "two")) == [DUPLICATE, ACCEPTED]


def test_no_user_is_in_the_log(ask: Door, server: RunningServer) -> None:
    """At the usual level, whatever happens to events."""
    ask.record(view("secret", "the-secret-user"), view("", "the-secret-user"))
    refused(ask.profile, "the-secret-nobody")
    assert "the-secret" not in server.log.read_text()


def errors_of(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was logged as a fault."""
    return [line for line in lines if line["level"] in ("error", "critical")]


def test_nothing_of_all_this_was_a_fault_of_the_server(server: RunningServer) -> None:
    """Bad input is the caller's matter: the log of this module's server has no error."""
    assert errors_of(server.logged()) == []
