"""Load on a running server: recommendations for random users of its release.

    locust -f loadtest/locustfile.py --headless --users 20 --spawn-rate 20 --run-time 20s

TIDINGS_SERVER names the server (default 127.0.0.1:50051). TIDINGS_RELEASES names its releases directory (default
.demo/releases); the users asked for are those of its newest release. A call that fails, or is answered with less than
was asked for, counts as a failure. Locust spends more on a call than the server does: read latencies here at few users,
and capacity from loadtest/ratio.py.
"""

import os
import random
import time
from pathlib import Path
from typing import Any

from grpc.experimental import gevent as grpc_gevent

grpc_gevent.init_gevent()  # Before any channel is made: gRPC's own threads do not yield to Locust's.

from locust import User, constant_pacing, task  # noqa: E402

import tidings  # noqa: E402
from tidings_core.release import Manifest, list_releases, open_release  # noqa: E402

SERVER = os.environ.get("TIDINGS_SERVER", "127.0.0.1:50051")
RELEASES = Path(os.environ.get("TIDINGS_RELEASES", ".demo/releases"))
UNKNOWN_SHARE = 0.02
"""Share of visitors whom the release does not know."""


def known_users(releases: Path) -> list[str]:
    """Ids of the users of the newest release."""
    newest = next(found for found in list_releases(releases) if isinstance(found, Manifest))
    users = open_release(releases / newest.release_id).snapshot.users
    return [users[row] for row in range(len(users))]


USERS = known_users(RELEASES)
CLIENT = tidings.Client(SERVER, timeout=5)


class Shopper(User):
    """Someone who opens pages of the shop, ten a second."""

    wait_time = constant_pacing(0.1)

    @task(8)
    def for_you(self) -> None:
        """The front page: twenty items for this user."""
        user = f"visitor-{random.random()}" if random.random() < UNKNOWN_SHARE else random.choice(USERS)
        self._call("recommend for-you", 20, user_id=user)

    @task(2)
    def similar(self) -> None:
        """An item's page: ten items that go with one just recommended."""
        front = CLIENT.recommend(random.choice(USERS), k=1)
        if front.items:
            page = front.items[0].item.item_id
            self._call("recommend similar", 10, user_id="", serving_config="similar", context_item_ids=[page])

    def _call(self, name: str, k: int, user_id: str, **more: Any) -> None:
        began = time.perf_counter()
        error: Exception | None = None
        size = 0
        try:
            answer = CLIENT.recommend(user_id or random.choice(USERS), k=k, **more)
            size = len(answer.items)
            if size < k:
                error = AssertionError(f"{size} items of {k}: {answer.degraded}")
        except tidings.TidingsError as failed:
            error = failed
        self.environment.events.request.fire(
            request_type="grpc",
            name=name,
            response_time=(time.perf_counter() - began) * 1e3,
            response_length=size,
            exception=error,
        )
