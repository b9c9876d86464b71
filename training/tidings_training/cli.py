"""The command `tidings-train`."""

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tidings_core.errors import InvalidInput
from tidings_index_builder.show import ShownProgress
from tidings_index_builder.terminal import faults_told, print_json
from tidings_training.als import FACTORS, ITERATIONS
from tidings_training.audit_command import check_command
from tidings_training.carts import CartEvaluation
from tidings_training.evaluate import METRICS, Evaluation
from tidings_training.event_files import Layout, columns_from_text, parse_time
from tidings_training.fit import HOLDOUT_DAYS, Fitted, fit, measure_carts
from tidings_training.proof.command import evaluate_command
from tidings_training.run.command import run_command
from tidings_training.trainer import RETRIEVAL, Retrieval, Settings

COMMAND = "tidings-train"

app = typer.Typer(
    help="Train on a shop's events, and prove what it is worth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


app.command("check")(check_command)
app.command("evaluate")(evaluate_command)
app.command("run")(run_command)


@app.callback()
def _train() -> None:
    """Train on a shop's events, and prove what it is worth."""


EventsFile = Annotated[Path, typer.Option(help="Parquet, Arrow, CSV or TSV with user_id, item_id, timestamp, ...")]
CatalogueFile = Annotated[Path | None, typer.Option(help="Parquet, Arrow or CSV with id, price, categories, ...")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Ignore events after it: ISO 8601 or Unix s.")]
HoldoutDays = Annotated[float, typer.Option(help="Evaluate on so many last days.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Equal seeds give equal models.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Cores to use; all when not given.")]
Separator = Annotated[str | None, typer.Option(help="Of a text file; by its ending when not given.")]
Header = Annotated[bool, typer.Option("--header/--no-header", help="Whether a text file names its columns.")]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="OURS=THEIRS,...",
        help="What the file calls our columns, such as user_id=customer,item_id=sku; column numbers from 1 without "
        "a header.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command("fit")
def fit_command(
    events: EventsFile,
    out: Annotated[Path, typer.Option(metavar="MODEL", help="The model directory to write.")],
    catalogue: CatalogueFile = None,
    until: Until = None,
    holdout_days: HoldoutDays = HOLDOUT_DAYS,
    evaluate: Annotated[bool, typer.Option("--evaluate/--no-evaluate", help="Measure what it is worth.")] = True,
    retrieval: Annotated[str, typer.Option(help=f"What makes the embeddings: {', '.join(RETRIEVAL)}.")] = "als",
    factors: Annotated[int, typer.Option(min=1, max=4096, help="Length of the embeddings.")] = FACTORS,
    iterations: Annotated[int, typer.Option(min=1, max=1000, help="Iterations of ALS.")] = ITERATIONS,
    seed: Seed = 0,
    threads: Threads = None,
    separator: Separator = None,
    header: Header = True,
    columns: Columns = None,
    as_json: Json = False,
) -> None:
    """Learn embeddings, neighbours, statistics and a ranker, and measure them on the last days."""
    start = time.monotonic()
    with faults_told(COMMAND):
        if evaluate:
            _check_days(holdout_days, "; or use --no-evaluate")
        with ShownProgress(Console(stderr=True)) as progress:
            fitted = fit(
                events,
                catalogue,
                out,
                layout=_layout(separator, header, columns),
                until=None if until is None else parse_time(until, "until"),
                holdout_days=holdout_days if evaluate else None,
                settings=Settings(
                    retrieval=_retrieval(retrieval),
                    factors=factors,
                    iterations=iterations,
                    seed=seed,
                    threads=_cores(threads),
                ),
                progress=progress,
            )
        seconds = time.monotonic() - start
        if as_json:
            print_json(_as_json(fitted, out, seconds))
        else:
            _print(Console(), fitted, out, seconds)


@app.command("carts")
def carts_command(
    events: EventsFile,
    catalogue: CatalogueFile = None,
    until: Until = None,
    holdout_days: HoldoutDays = HOLDOUT_DAYS,
    seed: Seed = 0,
    threads: Threads = None,
    separator: Separator = None,
    header: Header = True,
    columns: Columns = None,
    as_json: Json = False,
) -> None:
    """Show a part of each order of the last days, and measure how much of the rest is named. Writes nothing."""
    with faults_told(COMMAND):
        _check_days(holdout_days)
        with ShownProgress(Console(stderr=True)) as progress:
            found = measure_carts(
                events,
                catalogue,
                layout=_layout(separator, header, columns),
                until=None if until is None else parse_time(until, "until"),
                holdout_days=holdout_days,
                settings=Settings(seed=seed, threads=_cores(threads)),
                progress=progress,
            )
        if as_json:
            print_json(asdict(found))
        else:
            _print_carts(Console(), found)


def _check_days(holdout_days: float, way_out: str = "") -> None:
    if not 0 < holdout_days < float("inf"):
        raise InvalidInput(("holdout_days", f"is {holdout_days:g}, must be above 0{way_out}"))


def _layout(separator: str | None, header: bool, columns: str | None) -> Layout:
    named = columns_from_text(columns.split(",") if columns else ())
    return Layout(named, None if separator is None else separator.replace("\\t", "\t"), header)


def _retrieval(name: str) -> Retrieval:
    for known in RETRIEVAL:
        if name == known:
            return known
    raise InvalidInput(("retrieval", f"there is no {name}; there are {', '.join(RETRIEVAL)}"))


def _cores(threads: int | None) -> int:
    return threads or len(os.sched_getaffinity(0))


def _as_json(fitted: Fitted, out: Path, seconds: float) -> dict[str, Any]:
    model = fitted.model
    return {
        "model": str(out),
        "as_of": model.as_of,
        "seconds": round(seconds, 3),
        **{name: model.lineage[name] for name in ("events", "settings", "ranker", "versions")},
        "evaluation": None if fitted.evaluation is None else asdict(fitted.evaluation),
    }


def _print(console: Console, fitted: Fitted, out: Path, seconds: float) -> None:
    about, ranker = fitted.model.lineage["events"], fitted.model.lineage["ranker"]
    if fitted.evaluation is not None:
        _print_evaluation(console, fitted.evaluation)
    learned = "no ranker: too few purchases to learn from"
    if ranker:
        learned = f"a ranker from {ranker['lists']:,} lists of candidates"
    console.print(
        f"{out}: {about['users']:,} users, {about['items']:,} items, {about['events']:,} events until {about['last']}; "
        f"{learned}; {seconds:.1f} s",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _print_evaluation(console: Console, found: Evaluation) -> None:
    days = (found.end - found.split) / 86_400
    console.print(_table(found, f"New purchases of the last {days:g} days among {found.at} recommendations"))
    console.print(
        f"{found.evaluated:,} users evaluated of {found.buyers:,} who bought; {found.unknown:,} were unknown before, "
        f"{found.nothing_new:,} bought nothing new. {found.purchases_of_unknown_items:,} of {found.purchases:,} new "
        "purchases were of items unknown before, and count as missed.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _print_carts(console: Console, found: CartEvaluation) -> None:
    days = (found.end - found.split) / 86_400
    console.print(_table(found, f"The rest of the orders of the last {days:g} days among {found.at} recommendations"))
    console.print(
        f"{found.evaluated:,} orders evaluated of {found.orders:,}, those with two known items or more; half of each "
        f"was shown, {found.to_find:,} items were to be found.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _table(found: Evaluation | CartEvaluation, title: str) -> Table:
    table = Table(title=title)
    table.add_column("")
    for metric in METRICS:
        table.add_column(metric.replace("_", " "), justify="right")
    table.add_column(f"recall over popularity, {found.confidence:.0%}", justify="right", no_wrap=True)
    against = {d.of: d for d in found.differences if d.to == "popularity" and d.metric == "recall"}
    for name, means in found.means.items():
        gain = against.get(name)
        shown = "" if gain is None else f"{gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
        table.add_row(name, *(f"{means[metric]:.4f}" for metric in METRICS), shown)
    return table
