"""A day of a shop, and a flash sale in the middle of it, in as many seconds as you like.

    locust -f loadtest/shop_day.py --headless --users 60 --run-time 10m --html day.html

The people of locustfile.py. `--users` is how many there are in the sale, `--run-time` how long the day takes. Watch
whether the latencies of the sale are those of the evening, and how soon after it all is as before.
"""

from typing import Any, ClassVar

from locust import LoadTestShape

from locustfile import Browser, Subscriber, Visitor  # noqa: F401 - Locust takes them from here

DAY = (
    (0.10, 0.05, "night"),
    (0.25, 0.15, "morning"),
    (0.45, 0.25, "noon"),
    (0.50, 1.00, "the sale begins"),
    (0.62, 1.00, "flash sale"),
    (0.80, 0.35, "evening"),
    (1.00, 0.10, "late evening"),
)
"""Until which part of the day, what part of the most people are there, and what that is called."""


class ShopDay(LoadTestShape):
    """How many people are there at each moment."""

    use_common_options: ClassVar[bool] = True

    def tick(self) -> tuple[int, float] | None:
        """The number of people who are there now, and how many come in a second; None at the end."""
        assert self.runner is not None
        options: Any = self.runner.environment.parsed_options
        now: float = self.get_run_time()  # type: ignore[no-untyped-call]
        most, seconds = options.num_users or 60, options.run_time or 600
        for until, part, _ in DAY:
            if now < until * seconds:
                return max(1, round(part * most)), max(1.0, most / 2)
        return None
