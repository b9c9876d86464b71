"""A subscription without its connection: what to yield, what to acknowledge, when to connect again.

`Stream` is told what comes in, what its caller asks for and what the time is; it waits for nothing and sends nothing.
subscription.py and aio_subscription.py drive it, one with threads, one with asyncio.

A push that came is kept until its caller has finished it, which is when the next one is asked for. What is finished
without a hole is acknowledged by its offset. After a lost connection the place to go on from is that offset too, since
resuming counts as an acknowledgement; so what was not finished comes again and is told from a new push by its id.
"""

import logging
import re
from collections import deque
from collections.abc import Collection
from random import Random

import grpc

from tidings import errors, model, wire_push
from tidings.v1 import push_service_pb2

FIRST_PAUSE = 0.5
"""Seconds: the first pause before connecting again is random, below this; the next below twice as much, and so on."""
LONGEST_PAUSE = 30.0
_LONGEST_ADVICE = 3600.0  # a server that names a longer pause is asked after this
_SILENT_HEARTBEATS = 2.5
_FIRST_MESSAGE_SECONDS = 10.0
_HEARTBEAT_SECONDS = 15.0  # where the server names none
# Repeats come after a reconnection, at most `max_unacked` (1000) of them.
_REMEMBERED = 4096
_MOST_OUTCOMES = 1000  # in one acknowledgement
_MOST_WAITING_OUTCOMES = 10_000
_NAMED_OUTCOME = re.compile(r"outcomes\[(\d+)\]")
_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        # What proxies and broken connections make of a stream.
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)

_log = logging.getLogger("tidings")


class Stream:
    """The state of one subscription; times are seconds of one steady clock. Not safe to share between threads.

    `gaps` counts how often the server said that pushes may have been missed for good. `silent_at` is when the
    connection counts as dead unless a message comes before.
    """

    def __init__(self, user_id: str, *, device_id: str, max_unacked: int | None, random: Random) -> None:
        self._request = wire_push.subscribe_request(user_id, device_id, max_unacked)
        self._random = random
        self.gaps = 0
        self.silent_at = float("inf")
        # The place in the server's stream.
        self._subscription_id = ""  # "" while not subscribed
        self._epoch = ""  # "" before the first subscription
        self._received = 0
        self._finished = 0
        self._acknowledged = 0
        # The pushes: those received and not finished, in order; those a lost history left behind; the caller's one.
        self._unfinished: deque[model.Push] = deque()
        self._stranded: deque[model.Push] = deque()
        self._in_hand: str | None = None
        self._done: dict[str, None] = {}  # ids finished or withdrawn, oldest first
        self._outcomes: deque[push_service_pb2.PushOutcome] = deque()
        self._sending: push_service_pb2.AcknowledgeRequest | None = None
        # Connecting again.
        self._patience = _FIRST_MESSAGE_SECONDS
        self._failures = 0
        self._healthy_at = float("inf")
        self._advice = 0.0
        self._cause = ""
        self._end: errors.TidingsError | None = None

    # The connection.

    def open(self, now: float) -> push_service_pb2.SubscribeRequest:
        """Return the request that opens the stream, or opens it again where it was; raises what ended it meanwhile."""
        if self._end is not None:
            raise self._end
        request = push_service_pb2.SubscribeRequest()
        request.CopyFrom(self._request)
        if self._epoch:
            request.resume.epoch = self._epoch
            request.resume.offset = self._finished
        self.silent_at = now + _FIRST_MESSAGE_SECONDS
        self._cause = "the server ended the stream"
        return request

    def receive(self, message: push_service_pb2.SubscribeResponse, now: float) -> bool:
        """Take a message; False: this connection is of no more use, end it and call `lost`."""
        kind = message.WhichOneof("message")
        if kind == "subscribed":
            self._subscribed(message.subscribed, now)
        self.silent_at = now + self._patience
        if not self._subscription_id:
            self._cause = f"the stream began with {kind or 'an unknown message'}, not with subscribed"
            return False
        if kind == "push":
            return self._push(message.push)
        if kind == "withdraw":
            self._withdraw(message.withdraw.push_id)
        if kind == "go_away":
            self._go_away(message.go_away)
            return False
        return True

    def silent(self, now: float) -> bool:
        """Tell, once, that the connection has been silent for too long: end it and call `lost`."""
        if now < self.silent_at:
            return False
        self.silent_at = float("inf")
        self._cause = f"nothing came for {self._patience:.3g} s"
        return True

    def lost(self, error: errors.TidingsError | None, now: float) -> float:
        """Take the end of a connection, with its error if there was one, and return the seconds until the next.

        Raises the error that ends the subscription when connecting again would not help.
        """
        self._subscription_id = ""
        self._patience = _FIRST_MESSAGE_SECONDS
        self.silent_at = float("inf")
        if self._end is not None:
            raise self._end
        if error is not None and not _passes(error):
            raise error
        if now >= self._healthy_at:
            self._failures = 0
        self._healthy_at = float("inf")
        advice = max(self._advice, getattr(error, "retry_after", None) or 0.0)
        self._advice = 0.0
        # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        pause = min(advice, _LONGEST_ADVICE) + self._random.uniform(
            0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 16))
        )
        self._failures += 1
        # Said once, not at every attempt.
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        _log.log(level, "%s; subscribing again", error.message if error else self._cause)
        return pause

    # The caller.

    def take(self) -> model.Push | None:
        """Return the next push for the caller, None when there is none yet. Call `finish` before."""
        while self._stranded:
            push = self._stranded.popleft()
            if push.push_id not in self._done:
                self._in_hand = push.push_id
                return push
        if self._unfinished:
            self._in_hand = self._unfinished[0].push_id
            return self._unfinished[0]
        return None

    def finish(self) -> None:
        """Note that the caller is done with the push it took."""
        if self._in_hand is not None:
            self._settle(self._in_hand)
            self._in_hand = None

    def report(self, push: model.Push, disposition: model.Disposition) -> None:
        """Note what became of a push, for the next acknowledgement; raises Overloaded when 10,000 wait already."""
        if len(self._outcomes) >= _MOST_WAITING_OUTCOMES:
            raise errors.Overloaded(
                f"{_MOST_WAITING_OUTCOMES} outcomes wait to be sent: the server has not taken them for long",
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
            )
        self._outcomes.append(wire_push.outcome(push.push_id, disposition))

    # Acknowledging.

    @property
    def sending(self) -> bool:
        """Whether an acknowledgement is under way."""
        return self._sending is not None

    def acknowledgement(self, *, closing: bool = False) -> push_service_pb2.AcknowledgeRequest | None:
        """Return what to acknowledge now, None for nothing; there is one under way at most, see `acknowledged`.

        Outcomes wait for the push in the caller's hand to be finished. Neither holds when the subscription is closing.
        """
        if not self._subscription_id or (self._sending is not None and not closing):
            return None
        outcomes_due = self._outcomes and (closing or self._in_hand is None)
        if self._finished <= self._acknowledged and not outcomes_due:
            return None
        self._sending = push_service_pb2.AcknowledgeRequest(
            user_id=self._request.user_id,
            subscription_id=self._subscription_id,
            offset=self._finished,
            outcomes=[self._outcomes[at] for at in range(min(len(self._outcomes), _MOST_OUTCOMES))],
        )
        return self._sending

    def acknowledged(self, request: push_service_pb2.AcknowledgeRequest, error: errors.TidingsError | None) -> bool:
        """Take how an acknowledgement ended; False: end the connection, which `lost` then explains."""
        if request is not self._sending:
            return True
        self._sending = None
        if error is None:
            self._drop_outcomes(range(len(request.outcomes)))
            if request.subscription_id == self._subscription_id:
                self._acknowledged = max(self._acknowledged, request.offset)
            return True
        if isinstance(error, errors.NotFound):
            # Of an older connection it says nothing new. Otherwise the server was started again, or gave us up.
            if request.subscription_id != self._subscription_id:
                return True
            self._cause = "the server does not know the subscription any more"
            return False
        if _passes(error):
            # The next message, a heartbeat at the latest, is the occasion to try again.
            return True
        refused = _refused_outcomes(error, len(request.outcomes))
        if refused:
            # The server may have lost those pushes; the rest goes out again without them.
            _log.warning("outcomes of pushes are refused and dropped: %s", error.message)
            self._drop_outcomes(refused)
            return True
        self._end = error
        return False

    def _drop_outcomes(self, places: Collection[int]) -> None:
        self._outcomes = deque(outcome for at, outcome in enumerate(self._outcomes) if at not in places)

    # What the messages mean.

    def _subscribed(self, message: push_service_pb2.Subscribed, now: float) -> None:
        interval = message.heartbeat_interval.ToTimedelta().total_seconds() or _HEARTBEAT_SECONDS
        self._patience = _SILENT_HEARTBEATS * interval
        self._healthy_at = now + interval
        if not message.recovered or (self._epoch and message.epoch != self._epoch):
            self.gaps += 1
            _log.warning("the server lost a part of the stream of user %s", self._request.user_id)
            # They may not come again, so the caller gets what is here; there is nothing to acknowledge them to.
            self._stranded.extend(self._unfinished)
        # All that comes after this offset comes again, less what was withdrawn meanwhile.
        self._unfinished.clear()
        self._subscription_id = message.subscription_id
        self._epoch = message.epoch
        self._received = self._finished = self._acknowledged = message.offset

    def _push(self, message: push_service_pb2.Push) -> bool:
        if message.offset <= self._received and self._knows(message.push_id):
            return True
        if message.prev_offset != self._received or message.offset <= self._received:
            self._cause = f"a push is missing before offset {message.offset}"
            return False
        self._received = message.offset
        self._unfinished.append(wire_push.push(message))
        self._advance()
        return True

    def _withdraw(self, push_id: str) -> None:
        # What the caller has, it has.
        if push_id != self._in_hand:
            self._settle(push_id)

    def _go_away(self, message: push_service_pb2.GoAway) -> None:
        reason = push_service_pb2.GoAwayReason
        if message.reason == push_service_pb2.GO_AWAY_REASON_REPLACED:
            device = f"device {self._request.device_id!r}" if self._request.device_id else "the device without a name"
            self._end = errors.Replaced(
                f"another subscription of user {self._request.user_id!r} and {device} took the place of this one: "
                "give each device a device_id of its own"
            )
            return
        known = message.reason in reason.values()
        name = reason.Name(message.reason).removeprefix("GO_AWAY_REASON_").lower() if known else "unknown"
        self._cause = f"the server ends the stream ({name})"
        if not message.resumable:
            self._end = errors.Unavailable(f"{self._cause} for good")
        self._advice = message.reconnect_delay.ToTimedelta().total_seconds()

    def _knows(self, push_id: str) -> bool:
        return push_id in self._done or any(push.push_id == push_id for push in self._unfinished)

    def _settle(self, push_id: str) -> None:
        """Note that a push is finished or withdrawn: it is never yielded again."""
        self._done.pop(push_id, None)
        self._done[push_id] = None
        if len(self._done) > _REMEMBERED:
            del self._done[next(iter(self._done))]
        self._advance()

    def _advance(self) -> None:
        while self._unfinished and self._unfinished[0].push_id in self._done:
            self._finished = self._unfinished.popleft().offset


def _passes(error: errors.TidingsError) -> bool:
    # A message above gRPC's limit has the code of an overload.
    return error.code in _PASSING and not isinstance(error, errors.InvalidArgument)


def _refused_outcomes(error: errors.TidingsError, count: int) -> Collection[int]:
    """The places of the outcomes, of so many, for which a request was refused; all of them when no field is named."""
    if not isinstance(error, errors.InvalidArgument):
        return ()
    if not error.fields:
        return range(count)
    found = [_NAMED_OUTCOME.match(field) for field, _ in error.fields]
    places = {int(match[1]) for match in found if match}
    # Something else is wrong as well: without these it would be refused again.
    return places if all(found) and max(places) < count else ()
