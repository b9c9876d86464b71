"""The demo: a real shop's orders become embeddings, an index, a running server, ranked answers, and live pushes.

Trains on UCI Online Retail up to 2011-11-11, then asks a running server what a few real customers will want and
compares with what they bought in the four weeks after. Then those weeks are replayed as a live stream of orders, and
customers who subscribed get pushes. Times are moved forward by whole weeks, so that the cut is "this week".
Everything it makes lies in `.demo/`; a second run reuses it.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

import tidings
from live import show_live
from prepare import prepare

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CUT = datetime(2011, 11, 11, tzinfo=UTC)
"""Training ends here; the four weeks to the end of the data set are what the customers do "later"."""
WEEK = timedelta(weeks=1)
K = 20
SHOWN = 3
SHOWN_ITEMS = 6
BATCH = 256

console = Console(highlight=False)


@dataclass(frozen=True)
class Shop:
    """What the customers did before and after the cut, by distinct items, newest first before it."""

    titles: dict[str, str]
    before: dict[str, list[str]]
    later: dict[str, set[str]]

    @property
    def returning(self) -> list[str]:
        """Customers who bought before, and something new later."""
        return sorted(user for user, new in self.later.items() if new and user in self.before)


def fingerprint() -> str:
    """Hash of everything the release is made from: the data, the code that trains and builds."""
    digest = hashlib.sha256()
    for pattern in ("examples/online_retail/*.p*", "core/*/*.py", "training/*/*.py", "index_builder/*/*.py"):
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def make_release(work: Path) -> datetime:
    """Prepare, train and build, unless it is done already; returns the moved cut."""
    done = work / "done.json"
    key = fingerprint()
    if done.is_file():
        made = json.loads(done.read_text())
        if made["fingerprint"] == key:
            console.print("reusing the release of an earlier run (`make clean` starts over)")
            return datetime.fromisoformat(made["cut"])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    weeks = (datetime.now(UTC) - CUT) // WEEK
    cut = CUT + weeks * WEEK
    console.rule("1. a real shop: UCI Online Retail", align="left")
    counts = prepare(work, shift_weeks=weeks)
    console.print(
        f"{counts.lines:,} order lines, without {counts.not_goods:,} that are no goods and {counts.guests:,} of guests;"
        f" {counts.sales_taken_back:,} sales were taken back by cancellations",
        f"\n{counts.events:,} purchases of {counts.items:,} items by {counts.users:,} customers,"
        f" moved forward by {weeks} weeks; training ends on {cut:%Y-%m-%d}",
    )
    console.rule("2. events become embeddings and a ranker", align="left")
    run(
        "tidings-train", "fit", "--events", work / "events.parquet", "--catalogue", work / "catalogue.parquet",
        "--until", f"{cut:%Y-%m-%dT%H:%M:%SZ}", "--out", work / "model",
    )  # fmt: skip
    console.rule("3. embeddings become a release", align="left")
    run(
        "tidings-build-index", "build", "--model", work / "model", "--catalogue", work / "catalogue.parquet",
        "--attribute", "family", "--out", work / "releases",
    )  # fmt: skip
    done.write_text(json.dumps({"fingerprint": key, "cut": cut.isoformat()}))
    return cut


def run(program: str, *arguments: object) -> None:
    """Run one of our commands as a user would, showing the command."""
    words = [program, *(os.path.relpath(word) if isinstance(word, Path) else str(word) for word in arguments)]
    console.print(f"[bold]$ {' '.join(words)}[/bold]", soft_wrap=True)
    found = Path(sys.executable).with_name(program)
    ended = subprocess.run([found, *words[1:]], check=False).returncode
    if ended:
        raise SystemExit(ended)


def read_shop(work: Path, cut: datetime) -> Shop:
    """What each customer bought, split at the cut."""
    catalogue = pq.read_table(work / "catalogue.parquet", columns=["id", "title"]).to_pydict()
    events = pq.read_table(work / "events.parquet", columns=["user_id", "item_id", "timestamp"]).to_pydict()
    before: dict[str, dict[str, float]] = defaultdict(dict)
    later: dict[str, set[str]] = defaultdict(set)
    for user, item, moment in zip(events["user_id"], events["item_id"], events["timestamp"], strict=True):
        if moment.replace(tzinfo=UTC) < cut:
            before[user][item] = max(before[user].get(item, 0.0), moment.timestamp())
        else:
            later[user].add(item)
    return Shop(
        dict(zip(catalogue["id"], catalogue["title"], strict=True)),
        {user: sorted(items, key=lambda item: -items[item]) for user, items in before.items()},
        {user: items - before[user].keys() if user in before else items for user, items in later.items()},
    )


@contextmanager
def server(work: Path, listen: str) -> Iterator[tuple[str, str]]:
    """A running server over the demo's releases; gives its gRPC and HTTP addresses and stops it in the end."""
    command: list[str | Path] = [Path(sys.executable).with_name("tidings-server"), "--releases", work / "releases"]
    command += ["--state", work / "state", "--config", HERE / "server.toml"]
    command += ["--listen", listen, "--http", "127.0.0.1:0", "--log-format", "json"]
    log = work / "server.log"
    with log.open("w") as out:
        # Its own process group: Ctrl-C is for the demo, which then stops the server in order.
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        end = time.monotonic() + 30
        while not (found := re.search(r'"grpc": *"([^"]+)".*"http": *"([^"]+)"', log.read_text())):
            if process.poll() is not None or time.monotonic() > end:
                console.print(f"[red]the server did not start:[/red]\n{log.read_text()}")
                raise SystemExit(1)
            time.sleep(0.05)
        yield found[1], found[2]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def ask(client: tidings.Client, users: Sequence[str], config: str) -> dict[str, tidings.Recommendation]:
    """Ask for many customers at once."""
    answers: dict[str, tidings.Recommendation] = {}
    for at in range(0, len(users), BATCH):
        part = users[at : at + BATCH]
        queries = [tidings.RecommendQuery(user, k=K, serving_config=config) for user in part]
        answers |= dict(zip(part, client.batch_recommend(queries, timeout=30), strict=True))
    return answers


def show_customers(client: tidings.Client, shop: Shop) -> None:
    """A few customers: what they bought, what is recommended and why, and what they did buy later."""
    usual = [user for user in shop.returning if 10 <= len(shop.before[user]) <= 80 and len(shop.later[user]) >= 5]
    for user in usual[:SHOWN]:
        answer = client.recommend(user, k=K)
        hits = [item for item in answer.items if item.item.item_id in shop.later[user]]
        console.print(f"\n[bold]customer {user}[/bold] bought, newest first:")
        for before in shop.before[user][:SHOWN_ITEMS]:
            console.print(f"    {shop.titles.get(before, before)}")
        table = Table(box=None, padding=(0, 1), title_justify="left")
        for column in ("", "recommended", "score", "because"):
            table.add_column(column, justify="right" if column == "score" else "left")
        shown = [*answer.items[:SHOWN_ITEMS], *(item for item in hits if item not in answer.items[:SHOWN_ITEMS])]
        for item in shown:
            bought = "[green]bought later[/green]" if item in hits else ""
            table.add_row(bought, item.item.title, f"{item.score:.2f}", because(item, shop))
        console.print(table)
        console.print(
            f"  {len(hits)} of {len(answer.items)} were bought in the four weeks after"
            f" (of {len(shop.later[user])} items new to this customer)"
        )


def because(item: tidings.RecommendedItem, shop: Shop) -> str:
    """The strongest reason, in words."""
    reason = item.reasons[0]
    match reason.code:
        case tidings.ReasonCode.SIMILAR_TO_BOUGHT:
            return f"goes with {shop.titles.get(reason.item_id, reason.item_id)}"
        case tidings.ReasonCode.MATCHES_TASTE:
            return "near this customer's taste"
        case tidings.ReasonCode.TRENDING:
            return "many buy it now"
        case other:
            return str(other)


def show_scores(client: tidings.Client, shop: Shop) -> None:
    """How much of what was bought later was recommended, to every returning customer, beside bestsellers."""
    users = shop.returning
    table = Table(box=None, padding=(0, 2))
    for column in ("", f"Recall@{K}", "customers with a hit", "items hit"):
        table.add_column(column, justify="right" if column else "left")
    recalls = []
    for name, config in (("Tidings", "for-you"), ("bestsellers", "bestsellers")):
        answers = ask(client, users, config)
        hits = [len({i.item.item_id for i in answers[user].items} & shop.later[user]) for user in users]
        recall = sum(hit / len(shop.later[user]) for hit, user in zip(hits, users, strict=True)) / len(users)
        recalls.append(recall)
        table.add_row(name, f"{recall:.4f}", f"{sum(hit > 0 for hit in hits) / len(users):.1%}", f"{sum(hits):,}")
    console.print(f"\n{len(users):,} customers came back and bought something new to them; {K} recommendations each:")
    console.print(table)
    console.print(
        f"  that is {recalls[0] / recalls[1]:.1f} times the recall of the bestsellers: what most customers buy"
    )
    console.print("  these weeks, without what the customer has (the figures of step 2 are of the weeks before)")


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".demo"), help="where everything is made (default .demo)")
    parser.add_argument("--listen", default="127.0.0.1:50051")
    parser.add_argument("--stay", action=argparse.BooleanOptionalAction, default=sys.stdin.isatty(),
                        help="keep the server running until Ctrl-C (default: when run in a terminal)")  # fmt: skip
    options = parser.parse_args()
    began = time.monotonic()
    cut = make_release(options.work)
    shop = read_shop(options.work, cut)
    # What an earlier run recorded would make this one's events duplicates.
    shutil.rmtree(options.work / "state", ignore_errors=True)
    with server(options.work, options.listen) as (grpc_address, http_address), tidings.Client(grpc_address) as client:
        release = client.list_releases()[0]
        client.promote_release(release.release_id)
        console.rule("4. a running server answers", align="left")
        console.print(
            f"release {release.release_id}: {release.item_count:,} items, {release.user_count:,} users,"
            f" index {release.index_key}, recall@{release.recall_k} {release.recall:.3f}"
        )
        show_customers(client, shop)
        show_scores(client, shop)
        console.rule("5. live: orders in, pushes out", align="left")
        show_live(grpc_address, options.work, cut, shop.returning, shop.titles, console)
        console.rule("6. try it yourself", align="left")
        show_next(options.work, grpc_address, http_address, shop, stays=options.stay)
        console.print(f"\ndone in {time.monotonic() - began:.0f} s")
        if options.stay:
            console.print("the server runs until you press Ctrl-C")
            try:
                signal.pause()
            except KeyboardInterrupt:
                console.print("\nstopping")


def show_next(work: Path, grpc_address: str, http_address: str, shop: Shop, *, stays: bool) -> None:
    """Addresses, and commands to try next."""
    bin_folder = os.path.relpath(Path(sys.executable).parent)
    where = os.path.relpath(work)
    if not stays:
        folders = f"--releases {where}/releases --state {where}/state"
        config = os.path.relpath(HERE / "server.toml")
        console.print(f"start the server: {bin_folder}/tidings-server {folders} --config {config}", soft_wrap=True)
        grpc_address = "127.0.0.1:50051"
    else:
        console.print(f"gRPC {grpc_address} (health, reflection)   metrics http://{http_address}/metrics")
    option = "" if grpc_address == "127.0.0.1:50051" else f" --server {grpc_address}"
    some = shop.returning[0]
    item = shop.before[some][0]
    newest = max(path.name for path in (work / "releases").iterdir() if not path.name.startswith("."))
    for command in (
        f"tidings recommend {some} -k 10{option}",
        f"tidings recommend nobody{option}",
        f"tidings recommend {some} --serving-config similar --context {item}{option}",
        f"tidings subscribe {some}{option}   # and in another terminal:",
        f"tidings record {some} purchase {item}{option}",
        f"tidings profile {some}{option}",
        f"tidings releases list{option}",
        f"tidings-build-index inspect {where}/releases/{newest}",
    ):
        console.print(f"    {bin_folder}/{command}", soft_wrap=True)
    console.print(f"report of the index choice: {where}/releases/{newest}/report.html", soft_wrap=True)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As an exception, so that the server is stopped on the way out, also when the terminal is closed.
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
