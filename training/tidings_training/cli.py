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
from tidings_training.evaluate import METRICS, Evaluation
from tidings_training.event_files import Layout, columns_from_text, parse_time
from tidings_training.fit import HOLDOUT_DAYS, Fitted, fit
from tidings_training.trainer import Settings

COMMAND = "tidings-train"

app = typer.Typer(
    help="Train on a shop's events, and prove what it is worth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _train() -> None:
    """Train on a shop's events, and prove what it is worth."""


@app.command("fit")
def fit_command(
    events: Annotated[Path, typer.Option(help="Parquet, Arrow, CSV or TSV with user_id, item_id, timestamp, ...")],
    out: Annotated[Path, typer.Option(metavar="MODEL", help="The model directory to write.")],
    catalogue: Annotated[
        Path | None, typer.Option(help="Parquet, Arrow or CSV with id, price, categories, ...")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Ignore events after it: ISO 8601 or Unix s.")
    ] = None,
    holdout_days: Annotated[float, typer.Option(help="Evaluate on so many last days.")] = HOLDOUT_DAYS,
    evaluate: Annotated[bool, typer.Option("--evaluate/--no-evaluate", help="Measure what it is worth.")] = True,
    factors: Annotated[int, typer.Option(min=1, max=4096, help="Length of the embeddings.")] = FACTORS,
    iterations: Annotated[int, typer.Option(min=1, max=1000, help="Iterations of ALS.")] = ITERATIONS,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Equal seeds give equal models.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use; all when not given.")] = None,
    separator: Annotated[str | None, typer.Option(help="Of a text file; by its ending when not given.")] = None,
    header: Annotated[bool, typer.Option("--header/--no-header", help="Whether a text file names its columns.")] = True,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="OURS=THEIRS,...",
            help="What the file calls our columns, such as user_id=customer,item_id=sku; column numbers from 1 without "
            "a header.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Learn embeddings, neighbours, statistics and a ranker, and measure them on the last days."""
    start = time.monotonic()
    with faults_told(COMMAND):
        if evaluate and not 0 < holdout_days < float("inf"):
            raise InvalidInput(("holdout_days", f"is {holdout_days:g}, must be above 0; or use --no-evaluate"))
        layout = Layout(
            columns_from_text(columns.split(",") if columns else ()),
            None if separator is None else separator.replace("\\t", "\t"),
            header,
        )
        with ShownProgress(Console(stderr=True)) as progress:
            fitted = fit(
                events,
                catalogue,
                out,
                layout=layout,
                until=None if until is None else parse_time(until, "until"),
                holdout_days=holdout_days if evaluate else None,
                settings=Settings(
                    factors=factors,
                    iterations=iterations,
                    seed=seed,
                    threads=threads or len(os.sched_getaffinity(0)),
                ),
                progress=progress,
            )
        seconds = time.monotonic() - start
        if as_json:
            print_json(_as_json(fitted, out, seconds))
        else:
            _print(Console(), fitted, out, seconds)


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
    table = Table(title=f"New purchases of the last {days:g} days among {found.at} recommendations")
    table.add_column("")
    for metric in METRICS:
        table.add_column(metric.replace("_", " "), justify="right")
    table.add_column(f"recall over popularity, {found.confidence:.0%}", justify="right", no_wrap=True)
    against = {d.of: d for d in found.differences if d.to == "popularity" and d.metric == "recall"}
    for name, means in found.means.items():
        gain = against.get(name)
        shown = "" if gain is None else f"{gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
        table.add_row(name, *(f"{means[metric]:.4f}" for metric in METRICS), shown)
    console.print(table)
    console.print(
        f"{found.evaluated:,} users evaluated of {found.buyers:,} who bought; {found.unknown:,} were unknown before, "
        f"{found.nothing_new:,} bought nothing new. {found.purchases_of_unknown_items:,} of {found.purchases:,} new "
        "purchases were of items unknown before, and count as missed.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
