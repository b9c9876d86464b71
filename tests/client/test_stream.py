"""The state of a subscription, without a connection: what is yielded, acknowledged, and when to connect again."""

import logging
from random import Random
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import tidings
from tidings.stream import FIRST_PAUSE, LONGEST_PAUSE, Stream
from tidings.v1 import push_service_pb2 as pb

UNAVAILABLE = tidings.Unavailable("gone")
NOT_FOUND = tidings.NotFound("not open", code=grpc.StatusCode.NOT_FOUND)


class Longest(Random):
    """Always the longest pause."""

    def uniform(self, a: float, b: float) -> float:
        """The upper end."""
        assert a == 0.0
        return b


def new_stream(random: Random | None = None) -> Stream:
    """A subscription of user u1."""
    return Stream("u1", device_id="phone", max_unacked=None, random=random or Longest())


def subscribed(offset: int = 0, *, epoch: str = "e1", name: str = "s1", recovered: bool = True) -> pb.SubscribeResponse:
    """The first message of a stream, with a heartbeat every 2 s."""
    return pb.SubscribeResponse(
        subscribed=pb.Subscribed(
            subscription_id=name,
            epoch=epoch,
            offset=offset,
            recovered=recovered,
            heartbeat_interval=Duration(seconds=2),
        )
    )


def push(offset: int, prev_offset: int, push_id: str = "") -> pb.SubscribeResponse:
    """A push."""
    return pb.SubscribeResponse(push=pb.Push(push_id=push_id or f"p{offset}", offset=offset, prev_offset=prev_offset))


def withdraw(push_id: str) -> pb.SubscribeResponse:
    """A push taken back."""
    return pb.SubscribeResponse(withdraw=pb.Withdraw(push_id=push_id))


def go_away(reason: Any, *, delay: int = 0, resumable: bool = True) -> pb.SubscribeResponse:
    """The end of a stream, announced."""
    return pb.SubscribeResponse(
        go_away=pb.GoAway(reason=reason, reconnect_delay=Duration(seconds=delay), resumable=resumable)
    )


HEARTBEAT = pb.SubscribeResponse(heartbeat=pb.Heartbeat())


def opened(*messages: pb.SubscribeResponse, random: Random | None = None) -> Stream:
    """A stream that was opened at time 0 and got these messages then."""
    stream = new_stream(random)
    stream.open(0.0)
    for message in (subscribed(), *messages):
        assert stream.receive(message, 0.0)
    return stream


def following(stream: Stream) -> str | None:
    """Ask for the next push, as a caller does, and return its id."""
    stream.finish()
    got = stream.take()
    return None if got is None else got.push_id


class Delivery(RuleBasedStateMachine):
    """A server with its log, a wire that fails, and a caller, in any order of events."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = new_stream()
        self.numbers = 0
        # The server: its log (offset, number of the push), and the open subscription.
        self.epoch = 1
        self.offset = 0
        self.kept_after = 0  # what was up to here is lost
        self.log: list[tuple[int, int]] = []
        self.withdrawn: set[str] = set()
        self.resumed: pb.Resume | None = None
        self.opening = False
        self.open = False
        self.opens = 0
        self.sent = 0
        self.first = 0
        self.losses = 0
        # The caller.
        self.yielded: list[str] = []
        self.finished: set[str] = set()
        self.has_place = False
        self.received: set[str] = set()
        self.told: set[str] = set()  # withdrawn with a message
        self.under_way: pb.AcknowledgeRequest | None = None

    def number_of(self, push_id: str) -> int:
        """The number that the server gave a push."""
        return int(push_id[1:])

    def send(self, message: pb.SubscribeResponse) -> bool:
        """Hand a message to the client, which may give the stream up."""
        useful = self.stream.receive(message, 0.0)
        if not useful:
            self.open = False
            self.stream.lost(None, 0.0)
        return useful

    def may_be_acknowledged(self, offset: int) -> bool:
        """Whether the caller is done with all that the log holds up to an offset."""
        return all(f"p{n}" in self.finished | self.withdrawn for at, n in self.log if at <= offset)

    @rule(steps=st.lists(st.integers(1, 3), min_size=1, max_size=4))
    def publish(self, steps: list[int]) -> None:
        """Pushes are made; offsets are not dense."""
        for step in steps:
            self.numbers += 1
            self.offset += step
            self.log.append((self.offset, self.numbers))

    @precondition(lambda self: not self.open and not self.opening)
    @rule()
    def connect(self) -> None:
        """The client opens a stream; where it resumes counts as an acknowledgement."""
        request = self.stream.open(0.0)
        self.resumed = request.resume if request.HasField("resume") else None
        assert (self.resumed is not None) == self.has_place
        if self.resumed is not None and self.resumed.epoch == str(self.epoch):
            assert self.may_be_acknowledged(self.resumed.offset)
        self.opening = True

    @precondition(lambda self: self.opening)
    @rule(says_so=st.booleans())
    def answer(self, says_so: bool) -> None:
        """The server says where the stream begins; a new epoch tells of a loss whatever `recovered` says."""
        lost, recovered = False, True
        start = self.kept_after
        if self.resumed is not None:
            if self.resumed.epoch == str(self.epoch):
                lost = self.resumed.offset < self.kept_after
                start = max(start, self.resumed.offset)
                recovered = not lost
            else:
                lost, recovered = True, not says_so
        self.losses += lost
        if not lost:
            # The server has them all, so the client counts on their coming again, less what was withdrawn.
            self.received.clear()
        self.sent = self.first = start
        self.opens += 1
        self.opening, self.open, self.has_place = False, True, True
        assert self.send(subscribed(start, epoch=str(self.epoch), name=f"s{self.opens}", recovered=recovered))

    @precondition(lambda self: self.open)
    @rule(most=st.integers(1, 5))
    def deliver(self, most: int) -> None:
        """The next pushes come."""
        for offset, number in self.log:
            if most and offset > self.sent and f"p{number}" not in self.withdrawn:
                most -= 1
                previous, self.sent = self.sent, offset
                self.received.add(f"p{number}")
                assert self.send(push(offset, previous, f"p{number}"))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """A push comes once more."""
        known = [(at, n) for at, n in self.log if self.first < at <= self.sent and f"p{n}" not in self.withdrawn]
        if known:
            at = data.draw(st.integers(0, len(known) - 1))
            before = known[at - 1][0] if at else self.first
            assert self.send(push(known[at][0], before, f"p{known[at][1]}"))

    @precondition(lambda self: self.open)
    @rule()
    def lose_a_message(self) -> None:
        """A push comes whose predecessor did not: the client gives the stream up."""
        coming = [(at, n) for at, n in self.log if at > self.sent and f"p{n}" not in self.withdrawn]
        if len(coming) >= 2:
            assert not self.send(push(coming[1][0], coming[0][0], f"p{coming[1][1]}"))

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """A push is taken back, connected or not."""
        if self.log:
            offset, number = data.draw(st.sampled_from(self.log))
            self.withdrawn.add(f"p{number}")
            if self.open and self.first < offset <= self.sent:
                self.told.add(f"p{number}")
                assert self.send(withdraw(f"p{number}"))

    @precondition(lambda self: self.open or self.opening)
    @rule()
    def disconnect(self) -> None:
        """The connection breaks."""
        self.open = self.opening = False
        self.stream.lost(UNAVAILABLE, 0.0)

    @rule(most=st.integers(1, 5), says_so=st.booleans())
    def connect_and_deliver(self, most: int, says_so: bool) -> None:
        """What mostly happens, so that longer stories are told too."""
        if not self.open:
            if not self.opening:
                self.connect()
            self.answer(says_so)
        self.publish([1] * most)
        self.deliver(most)

    @precondition(lambda self: not self.opening)
    @rule(kept=st.integers(0, 6))
    def restore_a_backup(self, kept: int) -> None:
        """The server loses the end of its log; offsets begin anew in another epoch."""
        if self.open:
            self.disconnect()
        self.epoch += 1
        self.log = [(at + 1, number) for at, (_, number) in enumerate(self.log[:kept])]
        self.offset, self.kept_after = len(self.log), 0

    @precondition(lambda self: not self.opening)
    @rule(data=st.data())
    def forget_the_oldest(self, data: st.DataObject) -> None:
        """The server loses the beginning of its log, within the epoch."""
        if self.log:
            if self.open:
                self.disconnect()
            count = data.draw(st.integers(1, len(self.log)))
            self.kept_after = self.log[count - 1][0]
            del self.log[:count]

    @rule(times=st.integers(1, 3))
    def ask_for_the_next(self, times: int) -> None:
        """The caller is done with its push and gets another: never one twice, never out of order."""
        for _ in range(times):
            if self.yielded:
                self.finished.add(self.yielded[-1])
            got = following(self.stream)
            if got is not None:
                assert got not in self.yielded
                assert got not in self.told
                if self.yielded:
                    assert self.number_of(got) > self.number_of(self.yielded[-1])
                self.yielded.append(got)

    @rule()
    def acknowledge(self) -> None:
        """An acknowledgement goes out, never of what the caller was not done with."""
        request = self.stream.acknowledgement()
        if request is not None:
            assert self.open
            assert self.under_way is None
            assert request.subscription_id == f"s{self.opens}"
            assert self.first < request.offset <= self.sent
            assert self.may_be_acknowledged(request.offset)
            self.under_way = request

    @precondition(lambda self: self.under_way is not None)
    @rule(error=st.sampled_from([None, UNAVAILABLE, NOT_FOUND]))
    def end_the_acknowledgement(self, error: tidings.TidingsError | None) -> None:
        """It arrives or not, perhaps when another stream is open; that it was not found may end this one only."""
        assert self.under_way is not None
        current = self.open and self.under_way.subscription_id == f"s{self.opens}"
        useful = self.stream.acknowledged(self.under_way, error)
        self.under_way = None
        assert useful or error is NOT_FOUND
        if self.open:
            assert useful == (error is not NOT_FOUND or not current)
        if not useful and self.open:
            self.disconnect()

    @invariant()
    def losses_are_counted(self) -> None:
        """`gaps` is the number of losses the server told of."""
        assert self.stream.gaps == self.losses

    def teardown(self) -> None:
        """In the end, with a server that works, all came and all is acknowledged."""
        if self.open or self.opening:
            self.disconnect()
        if self.under_way:
            self.end_the_acknowledgement(None)
        self.connect()
        self.answer(True)
        self.deliver(len(self.log))
        self.ask_for_the_next(self.numbers + 1)
        wanted = self.received | {f"p{number}" for _, number in self.log}
        assert wanted <= self.withdrawn | set(self.yielded)
        self.acknowledge()
        if self.under_way:
            self.end_the_acknowledgement(None)
        assert self.stream.acknowledgement() is None
        assert self.stream.open(0.0).resume.offset == self.sent


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_what_is_in_the_callers_hand_is_not_acknowledged() -> None:
    """A push counts only once the next one was asked for; several then go in one acknowledgement."""
    stream = opened(push(3, 0), push(4, 3), push(9, 4))
    assert following(stream) == "p3"
    assert stream.acknowledgement() is None
    assert (following(stream), following(stream)) == ("p4", "p9")
    request = stream.acknowledgement()
    assert request is not None
    assert (request.user_id, request.subscription_id, request.offset) == ("u1", "s1", 4)


def test_one_acknowledgement_is_under_way_at_a_time() -> None:
    """What is finished meanwhile waits and goes with the next."""
    stream = opened(push(1, 0), push(2, 1), push(3, 2))
    following(stream)
    following(stream)
    first = stream.acknowledgement()
    assert first is not None
    following(stream)
    stream.finish()
    assert (stream.sending, stream.acknowledgement()) == (True, None)
    assert stream.acknowledged(first, None)
    assert not stream.sending
    request = stream.acknowledgement()
    assert request is not None
    assert request.offset == 3


def test_closing_waits_for_no_answer_that_may_not_come() -> None:
    """The last acknowledgement goes out beside one that is still under way, whose answer then means nothing."""
    stream = opened(push(1, 0), push(2, 1))
    following(stream)
    following(stream)
    first = stream.acknowledgement()
    assert first is not None
    stream.finish()
    last = stream.acknowledgement(closing=True)
    assert last is not None
    assert (first.offset, last.offset) == (1, 2)
    assert stream.acknowledged(first, NOT_FOUND)
    assert stream.sending


def test_an_answer_of_an_older_stream_says_nothing_of_this_one() -> None:
    """Its offset is of another history perhaps: what is finished here is acknowledged all the same."""
    stream = opened(push(70, 0))
    following(stream)
    stream.finish()
    old = stream.acknowledgement()
    assert old is not None
    stream.lost(UNAVAILABLE, 0.0)
    stream.open(0.0)
    stream.receive(subscribed(0, epoch="e2", name="s2", recovered=False), 0.0)
    stream.receive(push(1, 0), 0.0)
    assert stream.acknowledged(old, None)
    assert (following(stream), following(stream)) == ("p1", None)
    request = stream.acknowledgement()
    assert request is not None
    assert (request.subscription_id, request.offset) == ("s2", 1)


def test_a_finished_push_is_acknowledged_only_on_a_stream_that_sent_it() -> None:
    """Finished while the connection was down, it is acknowledged when its repeat came, and not yielded again."""
    stream = opened(push(1, 0), push(2, 1))
    following(stream)
    following(stream)
    stream.lost(UNAVAILABLE, 0.0)
    assert stream.open(0.0).resume == pb.Resume(epoch="e1", offset=1)
    stream.receive(subscribed(1, name="s2"), 0.0)
    stream.finish()
    assert stream.acknowledgement() is None
    stream.receive(push(2, 1), 0.0)
    request = stream.acknowledgement()
    assert request is not None
    assert (request.subscription_id, request.offset) == ("s2", 2)
    assert stream.take() is None


def test_a_push_withdrawn_before_it_was_yielded_is_dropped() -> None:
    """It is neither yielded nor in the way of acknowledging; what the caller has, it has."""
    stream = opened(push(1, 0), push(2, 1), push(3, 2))
    assert following(stream) == "p1"
    for push_id in ("p1", "p2", "unknown"):
        assert stream.receive(withdraw(push_id), 0.0)
    assert stream.acknowledgement() is None
    assert following(stream) == "p3"
    request = stream.acknowledgement()
    assert request is not None
    assert request.offset == 2


def test_pushes_that_a_lost_history_leaves_behind_are_still_yielded() -> None:
    """They are here, so the caller gets them, and their offsets of the old history are not acknowledged in the new."""
    stream = opened(push(6, 0), push(7, 6), push(8, 7))
    assert following(stream) == "p6"
    for times in (1, 2):
        stream.lost(UNAVAILABLE, 0.0)
        stream.open(0.0)
        stream.receive(subscribed(0, epoch=f"e{times + 1}", name=f"s{times + 1}", recovered=False), 0.0)
        stream.receive(push(1, 0, "new"), 0.0)
    assert [following(stream) for _ in range(3)] == ["p7", "p8", "new"]
    assert stream.acknowledgement() is None
    assert (following(stream), stream.gaps) == (None, 2)
    request = stream.acknowledgement()
    assert request is not None
    assert request.offset == 1


def test_outcomes_go_with_the_acknowledgement_of_their_push() -> None:
    """Reported while a push is in hand they wait for it; reported later they go at once; 1000 fit in one."""
    stream = opened(push(1, 0))
    stream.finish()
    got = stream.take()
    assert got is not None
    stream.report(got, tidings.Disposition.DISPLAYED)
    assert stream.acknowledgement() is None
    stream.finish()
    for _ in range(1000):
        stream.report(got, tidings.Disposition.CLICKED)
    first = stream.acknowledgement()
    assert first is not None
    assert (first.offset, len(first.outcomes)) == (1, 1000)
    assert first.outcomes[0] == pb.PushOutcome(push_id="p1", disposition=pb.DISPOSITION_DISPLAYED)
    stream.acknowledged(first, None)
    second = stream.acknowledgement()
    assert second is not None
    assert [outcome.disposition for outcome in second.outcomes] == [pb.DISPOSITION_CLICKED]


def test_outcomes_survive_an_acknowledgement_that_failed() -> None:
    """They go out again with the next one, also on another subscription."""
    stream = opened(push(1, 0))
    stream.finish()
    got = stream.take()
    assert got is not None
    stream.report(got, tidings.Disposition.CLICKED)
    stream.finish()
    for error in (UNAVAILABLE, NOT_FOUND):
        request = stream.acknowledgement()
        assert request is not None
        stream.acknowledged(request, error)
    stream.lost(None, 0.0)
    stream.open(0.0)
    stream.receive(subscribed(1, name="s2"), 0.0)
    request = stream.acknowledgement()
    assert request is not None
    assert [outcome.push_id for outcome in request.outcomes] == ["p1"]


def test_outcomes_do_not_pile_up_without_end() -> None:
    """While no server takes them 10,000 wait; the next one is refused."""
    stream = opened(push(1, 0))
    stream.finish()
    got = stream.take()
    assert got is not None
    for _ in range(10_000):
        stream.report(got, tidings.Disposition.CLICKED)
    with pytest.raises(tidings.Overloaded, match="10000 outcomes wait"):
        stream.report(got, tidings.Disposition.CLICKED)


@pytest.mark.parametrize("disposition", ["unspecified", "eaten"])
def test_an_unknown_disposition_is_refused(disposition: str) -> None:
    """The error lists those there are."""
    stream = opened(push(1, 0))
    got = stream.take()
    assert got is not None
    with pytest.raises(tidings.InvalidArgument, match="must be one of delivered, displayed, clicked, dismissed, reje"):
        stream.report(got, disposition)  # type: ignore[arg-type]


def test_a_refused_acknowledgement_ends_the_subscription() -> None:
    """What the server refuses for good is raised, and not sent again."""
    stream = opened(push(1, 0))
    following(stream)
    stream.finish()
    request = stream.acknowledgement()
    assert request is not None
    refused = tidings.InvalidArgument("offset was not sent")
    assert not stream.acknowledged(request, refused)
    with pytest.raises(tidings.InvalidArgument, match="was not sent"):
        stream.lost(None, 0.0)
    with pytest.raises(tidings.InvalidArgument, match="was not sent"):
        stream.open(0.0)


def reporting(*dispositions: tidings.Disposition) -> tuple[Stream, pb.AcknowledgeRequest]:
    """A stream whose acknowledgement of its first push, with these outcomes of it, is under way."""
    stream = opened(push(1, 0))
    got = stream.take()
    assert got is not None
    for disposition in dispositions:
        stream.report(got, disposition)
    stream.finish()
    request = stream.acknowledgement()
    assert request is not None
    return stream, request


@pytest.mark.parametrize(
    ("fields", "left"),
    [([0], [1, 2]), ([2, 0], [1]), ([0, 1, 2], []), ([], [])],
    ids=["first", "two", "all", "unnamed"],
)
def test_outcomes_that_are_refused_are_dropped_and_the_rest_goes_out_again(fields: list[int], left: list[int]) -> None:
    """One push that the server does not know, after its history was lost, costs neither the others nor the stream."""
    told = [tidings.Disposition.DELIVERED, tidings.Disposition.DISPLAYED, tidings.Disposition.CLICKED]
    stream, request = reporting(*told)
    refused = [(f"outcomes[{at}].push_id", "is no push of this user") for at in fields]
    assert stream.acknowledged(request, tidings.InvalidArgument("refused", fields=refused))
    again = stream.acknowledgement()
    assert again is not None
    assert again.offset == 1
    assert list(again.outcomes) == [request.outcomes[at] for at in left]
    assert stream.acknowledged(again, None)
    assert stream.acknowledgement() is None


@pytest.mark.parametrize("field", ["offset", "user_id", "outcomes", "outcomes[1].push_id", "outcomes[9].push_id"])
def test_what_is_wrong_besides_outcomes_ends_the_subscription(field: str) -> None:
    """Without the outcomes it would be refused again; so are outcomes that were not sent."""
    stream, request = reporting(tidings.Disposition.CLICKED)
    refused = tidings.InvalidArgument("refused", fields=[("outcomes[0].push_id", "is unknown"), (field, "is wrong")])
    assert not stream.acknowledged(request, refused)


def test_a_server_that_refuses_everything_is_not_asked_for_ever() -> None:
    """With no outcome left to drop, the refusal is final."""
    stream, request = reporting(tidings.Disposition.CLICKED)
    refused = tidings.InvalidArgument("refused")
    assert stream.acknowledged(request, refused)
    again = stream.acknowledgement()
    assert again is not None
    assert not stream.acknowledged(again, refused)


def test_pauses_grow_with_full_jitter_up_to_a_limit() -> None:
    """Each pause is drawn from 0 to twice the bound of the one before, 30 s at most."""
    stream = new_stream()
    bounds = []
    for _ in range(9):
        stream.open(0.0)
        bounds.append(stream.lost(UNAVAILABLE, 0.0))
    assert bounds == [FIRST_PAUSE * 2**n for n in range(6)] + [LONGEST_PAUSE] * 3

    drawn = {new_stream(Random(seed)).lost(UNAVAILABLE, 0.0) for seed in range(20)}
    assert len(drawn) == 20
    assert 0.0 <= min(drawn) < max(drawn) <= FIRST_PAUSE
    assert new_stream(Random(7)).lost(UNAVAILABLE, 0.0) == new_stream(Random(7)).lost(UNAVAILABLE, 0.0)


@pytest.mark.parametrize(("lived", "pause"), [(1.9, FIRST_PAUSE * 4), (2.0, FIRST_PAUSE)])
def test_a_stream_that_lived_for_a_heartbeat_resets_the_pauses(lived: float, pause: float) -> None:
    """A stream that breaks at once again and again is not healthy, whatever it sent."""
    stream = new_stream()
    for _ in range(2):
        stream.lost(UNAVAILABLE, 0.0)
    stream.open(10.0)
    stream.receive(subscribed(), 10.0)
    stream.receive(push(1, 0), 10.5)
    assert stream.lost(UNAVAILABLE, 10.0 + lived) == pause


def test_the_servers_advice_is_waited_for_before_the_jitter() -> None:
    """RetryInfo and the delay of a go_away are lower bounds; an absurd one is cut to an hour."""
    assert new_stream().lost(tidings.Overloaded("full", retry_after=5.0), 0.0) == 5.0 + FIRST_PAUSE
    full = tidings.StorageFull("no room", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=5.0)
    assert new_stream().lost(full, 0.0) == 5.0 + FIRST_PAUSE
    assert new_stream().lost(tidings.Unavailable("full", retry_after=1e12), 0.0) == 3600.0 + FIRST_PAUSE
    stream = opened()
    assert not stream.receive(go_away(pb.GO_AWAY_REASON_STOPPING, delay=7), 0.0)
    assert stream.lost(None, 0.0) == 7.0 + FIRST_PAUSE
    stream.open(0.0)
    assert stream.lost(None, 0.0) == 2 * FIRST_PAUSE


def test_silence_is_the_end_of_a_connection() -> None:
    """After 2.5 heartbeat intervals without a message; before the first message after 10 s. It is told once."""
    stream = new_stream()
    assert stream.silent_at == float("inf")
    stream.open(100.0)
    assert stream.silent_at == 110.0
    stream.receive(subscribed(), 101.0)
    assert stream.silent_at == 106.0
    stream.receive(HEARTBEAT, 103.0)
    assert (stream.silent_at, stream.silent(107.9)) == (108.0, False)
    assert (stream.silent(108.0), stream.silent(109.0)) == (True, False)


def test_a_replaced_subscription_ends_with_an_error_that_says_so() -> None:
    """The error names user and device and the way out."""
    stream = opened(push(1, 0))
    assert not stream.receive(go_away(pb.GO_AWAY_REASON_REPLACED), 0.0)
    with pytest.raises(tidings.Replaced, match=r"'u1' and device 'phone'.*device_id of its own"):
        stream.lost(None, 0.0)


def test_a_stream_that_cannot_be_resumed_ends_with_an_error() -> None:
    """The server said that subscribing again makes no sense; an unknown reason is one too."""
    for reason, name in ((pb.GO_AWAY_REASON_FAILED, "failed"), (77, "unknown")):
        stream = opened()
        stream.receive(go_away(reason, resumable=False), 0.0)
        with pytest.raises(tidings.Unavailable, match=rf"\({name}\) for good"):
            stream.lost(None, 0.0)


@pytest.mark.parametrize(
    "error",
    [
        tidings.InvalidArgument("device_id is too long"),
        tidings.InvalidArgument("larger than max", code=grpc.StatusCode.RESOURCE_EXHAUSTED),
        tidings.Unimplemented("old server", code=grpc.StatusCode.UNIMPLEMENTED),
        tidings.FailedPrecondition("no", code=grpc.StatusCode.FAILED_PRECONDITION),
        tidings.TidingsError("who are you?", code=grpc.StatusCode.UNAUTHENTICATED),
        tidings.TidingsError("not yours", code=grpc.StatusCode.PERMISSION_DENIED),
    ],
)
def test_an_error_that_would_stay_is_raised_at_once(error: tidings.TidingsError) -> None:
    """No waiting helps, so none is tried."""
    with pytest.raises(type(error)) as caught:
        new_stream().lost(error, 0.0)
    assert caught.value is error


def test_a_message_before_subscribed_is_refused() -> None:
    """A stream that does not begin as agreed is given up; unknown messages later are ignored."""
    stream = new_stream()
    stream.open(0.0)
    assert not stream.receive(push(1, 0), 0.0)
    assert opened().receive(pb.SubscribeResponse(), 0.0)


def test_the_memory_of_past_pushes_is_bounded() -> None:
    """However long a subscription lasts, the ids of 4096 pushes are kept, and none that was done."""
    stream = opened()
    for offset in range(1, 10_000):
        stream.receive(push(offset, offset - 1), 0.0)
        following(stream)
    assert (len(stream._done), len(stream._unfinished)) == (4096, 1)


def test_a_lost_connection_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A warning says what happened; the attempts after it are only for those who debug."""
    stream = new_stream()
    with caplog.at_level(logging.DEBUG, "tidings"):
        for _ in range(3):
            stream.lost(UNAVAILABLE, 0.0)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "gone; subscribing again"),
        ("DEBUG", "gone; subscribing again"),
        ("DEBUG", "gone; subscribing again"),
    ]
