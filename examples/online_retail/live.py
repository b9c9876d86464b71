"""The live part of the demo: the weeks after the cut as a stream of orders, and the pushes they call for."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

import tidings
import tidings.aio

SUBSCRIBERS = 80
SECONDS = 50.0
"""The orders of four weeks are replayed within this time."""
SHOWN = 40
"""So many pushes are printed as they come; the rest are only counted."""
LATER = 3
"""Pushes that come after the last order, in seconds, are waited for."""


@dataclass(frozen=True)
class Order:
    """One invoice of one customer: distinct items, at its (moved) time."""

    user: str
    moment: datetime
    items: tuple[str, ...]

    @property
    def event_id(self) -> str:
        """Its id as an event."""
        return f"order-{self.user}-{self.moment:%Y%m%dT%H%M%S}"


@dataclass
class Score:
    """What became of the pushes: items pushed and items bought later, ours and popularity's, and latencies in s."""

    pushes: int = 0
    items: int = 0
    hits: int = 0
    judged: int = 0
    pushes_hit: int = 0
    popular_items: int = 0
    popular_hits: int = 0
    popular_pushes_hit: int = 0
    latencies: list[float] = field(default_factory=list)


def read_orders(work: Path, cut: datetime) -> list[Order]:
    """Orders after the cut, in order of time. The lines of one invoice have one customer and one time."""
    columns = pq.read_table(work / "events.parquet", columns=["user_id", "item_id", "timestamp"]).to_pydict()
    lines: dict[tuple[datetime, str], dict[str, None]] = defaultdict(dict)
    for user, item, moment in zip(columns["user_id"], columns["item_id"], columns["timestamp"], strict=True):
        if moment.replace(tzinfo=cut.tzinfo) >= cut:
            lines[moment, user][item] = None
    return [Order(user, moment, tuple(items)) for (moment, user), items in sorted(lines.items())]


def choose(orders: Sequence[Order], known: Sequence[str], seed: int = 0) -> list[str]:
    """Some customers of `known` who ordered at least twice after the cut: of one order nothing can be said later."""
    times: dict[str, int] = defaultdict(int)
    for order in orders:
        times[order.user] += 1
    again = sorted(user for user in known if times[user] >= 2)
    return sorted(random.Random(seed).sample(again, min(SUBSCRIBERS, len(again))))


class Replay:
    """Sends the orders of the chosen customers, and judges each push by what its customer ordered afterwards."""

    def __init__(self, client: tidings.aio.Client, orders: Sequence[Order], users: Sequence[str],
                 titles: dict[str, str], console: Console) -> None:  # fmt: skip
        chosen = set(users)
        self._client = client
        self._orders = [order for order in orders if order.user in chosen]
        self._users = users
        self._titles = titles
        self._console = console
        self._sent: dict[str, float] = {}
        self._by_event = {order.event_id: order for order in self._orders}
        self._bestsellers: dict[str, list[str]] = {}
        self._waiting = {order.event_id for order in self._orders}
        self._all_judged = asyncio.Event()
        self.score = Score()

    async def run(self) -> None:
        """Replay everything; returns when the last push has come, or a few seconds after the last order."""
        listeners = [asyncio.create_task(self._listen(user)) for user in self._users]
        try:
            await self._send()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_judged.wait(), LATER)
        finally:
            for listener in listeners:
                listener.cancel()
            await asyncio.gather(*listeners, return_exceptions=True)

    async def _send(self) -> None:
        start, pace = time.monotonic(), SECONDS / max(len(self._orders), 1)
        for number, order in enumerate(self._orders):
            await asyncio.sleep(max(0.0, start + number * pace - time.monotonic()))
            # What popularity would have pushed at this moment: the bestsellers this customer does not have.
            popular = await self._client.recommend(
                order.user, k=3, serving_config="bestsellers", exclude_item_ids=order.items
            )
            self._bestsellers[order.event_id] = [item.item.item_id for item in popular.items]
            event = tidings.Event(order.user, "purchase", items=order.items, event_id=order.event_id)
            self._sent[order.event_id] = time.monotonic()
            await self._client.record(event)

    async def _listen(self, user: str) -> None:
        async with self._client.subscribe(user) as pushes:
            async for push in pushes:
                if push.event_id in self._sent:
                    self._judge(push, time.monotonic() - self._sent[push.event_id])

    def _judge(self, push: tidings.Push, latency: float) -> None:
        order, score = self._by_event[push.event_id], self.score
        score.pushes += 1
        score.latencies.append(latency)
        later = [other for other in self._orders if other.user == order.user and other.moment > order.moment]
        bought = {item for other in later for item in other.items}
        pushed = [item.item.item_id for item in push.items]
        hits = [item for item in pushed if item in bought]
        if later:
            popular = self._bestsellers[push.event_id]
            score.judged += 1
            score.items += len(pushed)
            score.hits += len(hits)
            score.pushes_hit += bool(hits)
            score.popular_items += len(popular)
            score.popular_hits += sum(item in bought for item in popular)
            score.popular_pushes_hit += any(item in bought for item in popular)
        if score.pushes <= SHOWN:
            self._show(push, order, hits, latency)
        self._waiting.discard(push.event_id)
        if not self._waiting:
            self._all_judged.set()

    def _show(self, push: tidings.Push, order: Order, hits: Sequence[str], latency: float) -> None:
        first = next((item for item in push.items if item.item.item_id in hits), push.items[0])
        mark = "[green]✓[/green]" if hits else " "
        self._console.print(
            f"  {order.moment:%d %b} {order.user} {latency * 1000:4.0f} ms {mark} {first.item.title[:27]:27}"
            f" [dim]{self._because(first)[:29]}[/dim]",
            soft_wrap=True,
        )

    def _because(self, item: tidings.RecommendedItem) -> str:
        reason = item.reasons[0]
        if reason.item_id:
            return f"with {self._titles.get(reason.item_id, reason.item_id)}"
        return {"matches_taste": "near this customer's taste", "trending": "many buy it now"}.get(
            str(reason.code), str(reason.code).replace("_", " ")
        )


def show_live(address: str, work: Path, cut: datetime, known: Sequence[str], titles: dict[str, str],
              console: Console) -> None:  # fmt: skip
    """Replay, show the pushes as they come and, in the end or on Ctrl-C, how they did."""
    orders = read_orders(work, cut)
    users = choose(orders, known)
    mine = [order for order in orders if order.user in set(users)]
    console.print(
        f"the next four weeks of {len(users)} customers, {len(mine)} orders, replayed in {SECONDS:.0f} s: each order is"
        " recorded as an event,\nand the customer's open stream gets a push of three items, of which one is shown here"
        " ([green]✓[/green]: bought later). Ctrl-C ends it early.\n"
    )
    score = Score()
    try:
        asyncio.run(_replay(address, orders, users, titles, console, score))
    except KeyboardInterrupt:
        console.print("  ended early")
    if score.pushes:
        _show_score(score, len(mine), console)


async def _replay(address: str, orders: Sequence[Order], users: Sequence[str], titles: dict[str, str],
                  console: Console, score: Score) -> None:  # fmt: skip
    async with tidings.aio.Client(address, timeout=10) as client:
        replay = Replay(client, orders, users, titles, console)
        replay.score = score
        await replay.run()


def _show_score(score: Score, orders: int, console: Console) -> None:
    more = score.pushes - SHOWN
    if more > 0:
        console.print(f"  and {more} more")
    milliseconds = np.array(score.latencies) * 1000
    console.print(
        f"\n{score.pushes} pushes for {orders} orders; event to push: median {np.median(milliseconds):.1f} ms,"
        f" 99th percentile {np.percentile(milliseconds, 99):.1f} ms (both on disk before they are answered)"
    )
    if not score.judged:
        return
    console.print(
        f"{score.judged} of them came before another order of the same customer; of their items, bought later:"
    )
    table = Table(box=None, padding=(0, 2))
    for column in ("", "items bought later", "pushes with one"):
        table.add_column(column, justify="right" if column else "left")
    rows = (
        ("Tidings", score.hits, score.items, score.pushes_hit),
        ("bestsellers", score.popular_hits, score.popular_items, score.popular_pushes_hit),
    )
    for name, hits, items, pushes in rows:
        table.add_row(name, f"{hits} of {items} ({hits / max(items, 1):.1%})", f"{pushes / score.judged:.1%}")
    console.print(table)
    console.print(
        "  bought later: in a later order than the one that caused the push; cancelled sales and what is no goods count"
        " for nothing"
    )
