"""Load on a running server: people who look at a shop, who browse it, and who listen for its pushes.

    locust -f loadtest/locustfile.py --headless --users 20 --spawn-rate 20 --run-time 20s --html load.html [CLASS ...]

`Visitor` opens pages (recommend), `Browser` looks, puts into the cart, buys and is recommended to after it (record and
recommend), `Subscriber` listens, is sent pushes and acknowledges them; all of them when none is named. A call that
fails, or is answered with less than was asked for, and a push that does not come count as failures.
loadtest/shop_day.py has the same people over a day; loadtest/load.py starts a server first, and more processes.

TIDINGS_SERVER names the server (default 127.0.0.1:50051). The people are users of its release: read from the directory
TIDINGS_RELEASES when it is named, otherwise asked for by FindAudience. Their events are recorded and pushes are sent to
them: do not point this at people who are served.

Locust spends more on a call than the server does: read latencies here at few users, and capacity from loadtest/ratio.py
or with many workers.
"""

import os
import random
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from grpc.experimental import gevent as grpc_gevent

grpc_gevent.init_gevent()  # Before any channel is made: gRPC's own threads do not yield to Locust's.

import gevent  # noqa: E402
from locust import User, constant_pacing, task  # noqa: E402

import tidings  # noqa: E402
from people import find_people, read_people  # noqa: E402

SERVER = os.environ.get("TIDINGS_SERVER", "127.0.0.1:50051")
RELEASES = os.environ.get("TIDINGS_RELEASES", "")
UNKNOWN_SHARE = 0.02
"""Share of visitors whom the release does not know."""
PUSHES = 3
"""Pushes to one person: fewer than the server's cap for a day, as it is set when nobody set it."""
PATIENCE = 10.0
"""Seconds after which a push is missing."""
CLIENT = tidings.Client(SERVER, timeout=5)
PEOPLE = read_people(RELEASES) if RELEASES else find_people(CLIENT)
T = TypeVar("T")


class Incomplete(Exception):
    """An answer has less than was asked for, or a push did not come."""


class Shopper(User):
    """What all of them do: call, and tell Locust how it went."""

    abstract = True

    def call(self, name: str, ask: Callable[[], T], whole: Callable[[T], bool] = lambda _: True) -> T | None:
        """Call; None when it failed or the answer is not whole."""
        began = time.perf_counter()
        answer: T | None = None
        error: Exception | None = None
        try:
            answer = ask()
            if not whole(answer):
                error = Incomplete(f"not whole: {answer}")
        except tidings.TidingsError as failed:
            error = failed
        self.environment.events.request.fire(
            request_type="grpc",
            name=name,
            response_time=(time.perf_counter() - began) * 1e3,
            response_length=0,
            exception=error,
        )
        return answer if error is None else None

    def recommend(self, name: str, k: int, user_id: str = "", **more: Any) -> list[str]:
        """Ask for items, and return their ids."""
        user = user_id or random.choice(PEOPLE)
        answer = self.call(name, lambda: CLIENT.recommend(user, k=k, **more), lambda found: len(found.items) == k)
        return [] if answer is None else [one.item.item_id for one in answer.items]


class Visitor(Shopper):
    """Someone who opens pages of the shop, ten a second."""

    weight = 6
    wait_time = constant_pacing(0.1)

    @task(8)
    def front_page(self) -> None:
        """Twenty items for this person."""
        self.recommend("recommend for-you", 20, f"visitor-{uuid.uuid4()}" if random.random() < UNKNOWN_SHARE else "")

    @task(2)
    def item_page(self) -> None:
        """Ten items that go with one that was just recommended."""
        for item in self.recommend("recommend for-you", 1):
            self.recommend("recommend similar", 10, serving_config="similar", context_item_ids=[item])


class Browser(Shopper):
    """Someone who does things, and is recommended to after each: the answer has seen the event."""

    weight = 3
    wait_time = constant_pacing(0.5)

    @task
    def browse(self) -> None:
        """Look at what is recommended; one in five goes into the cart, one in ten is bought."""
        user = random.choice(PEOPLE)
        for item in self.recommend("recommend for-you", 20, user)[:3]:
            self.act(user, "view", item)
            if random.random() < 0.2:
                self.act(user, "add_to_cart", item)
            if random.random() < 0.1:
                self.act(user, "purchase", item)

    def act(self, user: str, kind: str, item: str) -> None:
        """Record an event, then ask for what has seen it."""
        event = tidings.Event(user, kind, items=[item], event_id=str(uuid.uuid4()))
        recorded = self.call(
            f"record {kind}",
            lambda: CLIENT.record(event),
            lambda found: found.verdicts[0].status is tidings.EventStatus.ACCEPTED,
        )
        if recorded is not None:
            self.recommend("recommend after event", 10, user, consistency_token=recorded.consistency_token)


class Subscriber(Shopper):
    """Someone who listens for a while, is told something now and then, and acknowledges it."""

    weight = 1
    wait_time = constant_pacing(1.0)

    @task
    def listen(self) -> None:
        """Subscribe, be sent pushes one after another, and get each of them."""
        user = random.choice(PEOPLE)
        with CLIENT.subscribe(user, device_id=str(uuid.uuid4()), max_unacked=100) as pushes:
            for _ in range(PUSHES):
                title = f"news {uuid.uuid4()}"
                began = time.perf_counter()
                sent = self.call("send push", partial(CLIENT.send_push, user, title, ttl=60))
                if sent is None or not sent.push_id:
                    return  # This person was told enough today.
                try:
                    with gevent.Timeout(PATIENCE, Incomplete("the push did not come")):
                        # Others are sent to the same person.
                        next(push for push in pushes if push.title == title)
                    error = None
                except (Incomplete, tidings.TidingsError) as missed:
                    error = missed
                self.environment.events.request.fire(
                    request_type="stream",
                    name="send push to receipt",
                    response_time=(time.perf_counter() - began) * 1e3,
                    response_length=0,
                    exception=error,
                )
                gevent.sleep(random.uniform(0.05, 0.3))
