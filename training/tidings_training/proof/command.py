"""The command `tidings-train evaluate`."""

import os
import tempfile
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from tidings_core.errors import InvalidInput
from tidings_index_builder.catalogue import read_catalogue
from tidings_index_builder.show import ShownProgress
from tidings_index_builder.table_files import readable
from tidings_index_builder.terminal import faults_told, print_json
from tidings_training.event_files import Layout, columns_from_text, parse_time, read_log
from tidings_training.log import cored
from tidings_training.proof.compare import QUESTIONS_LIMIT
from tidings_training.proof.prove import BASELINE, MODELS, Plan, Proof, check, fitting, prove
from tidings_training.proof.prove import as_json as as_json_of
from tidings_training.proof.splits import GAP_MINUTES, PROTOCOLS, SHARE, Cut

COMMAND = "tidings-train"
SHOWN = ("recall", "ndcg", "mrr", "coverage")
"""What fits a terminal; all else is in the JSON and in the report."""
KEYS = ("columns", "separator", "header", "options")


@dataclass(frozen=True, slots=True)
class Config:
    """What a TOML file says: the layout of the events, and options of models by name."""

    layout: Layout = field(default_factory=Layout)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def evaluate_command(
    events: Annotated[Path, typer.Option(help="Parquet, Arrow, CSV or TSV with user_id, item_id, timestamp, ...")],
    protocol: Annotated[str, typer.Option(help=f"How events are held out: {', '.join(PROTOCOLS)}.")] = "temporal",
    models: Annotated[
        str | None, typer.Option(metavar="A,B,...", help=f"Of {', '.join(MODELS)}; all that fit when not given.")
    ] = None,
    k: Annotated[str, typer.Option(metavar="K,...", help="Lengths of the lists.")] = "10,20",
    catalogue: Annotated[
        Path | None, typer.Option(help="Parquet, Arrow or CSV with id, title, categories, ...")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Ignore events after it: ISO 8601 or Unix s.")
    ] = None,
    holdout_days: Annotated[
        float | None, typer.Option(help="Days held out by temporal and sessions; 28, or a fifth of a short log.")
    ] = None,
    share: Annotated[float, typer.Option(help="Share of each user's items that random holds out.")] = SHARE,
    gap_minutes: Annotated[
        float, typer.Option(help="The pause that ends a session where none is named.")
    ] = GAP_MINUTES,
    repeats: Annotated[
        bool, typer.Option("--repeats/--new", help="Whether what a user had before counts, and may be shown.")
    ] = False,
    core_of: Annotated[
        int, typer.Option("--core", min=0, help="Keep users and items with so many of each other; 5 is usual.")
    ] = 0,
    search_seconds: Annotated[float, typer.Option(help="Search each model's options for so long.")] = 0.0,
    served: Annotated[
        bool, typer.Option("--served/--not-served", help="Ask models made of vectors through a release too.")
    ] = True,
    ablation: Annotated[bool, typer.Option("--ablation", help="Ask for-you without each of its parts too.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="HTML", help="Write a page with curves and people.")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="TOML", help="A file with columns, separator, header and options.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="OURS=THEIRS,...", help="What the file calls our columns, as for fit.")
    ] = None,
    separator: Annotated[str | None, typer.Option(help="Of a text file; by its ending when not given.")] = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="Whether a text file names its columns.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Of more questions a random choice is asked.")] = QUESTIONS_LIMIT,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Equal seeds give equal results.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use; all when not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Compare models on events that they have not seen: every item ranked, none sampled."""
    start = time.monotonic()
    with faults_told(COMMAND), ShownProgress(Console(stderr=True)) as progress:
        settings = read_config(config, columns, separator, header)
        cut = Cut(
            protocol=protocol,  # type: ignore[arg-type]  # checked with all else
            holdout_days=holdout_days,
            share=share,
            gap_minutes=gap_minutes,
            repeats=repeats,
            seed=seed,
        )
        plan = Plan(
            # Which fit is known when the events are read.
            models=(BASELINE,) if models is None else tuple(name.strip() for name in models.split(",") if name.strip()),
            ks=_numbers(k),
            cut=cut,
            options=settings.options,
            served=served,
            ablation=ablation,
            search_seconds=search_seconds,
            limit=limit,
            threads=threads or len(os.sched_getaffinity(0)),
        )
        check(plan)
        progress("reading events")
        log = read_log(events, settings.layout, None if until is None else parse_time(until, "until"))
        log = cored(log, core_of)
        if models is None:
            plan = replace(plan, models=fitting(log, cut.protocol))
        shown = None if catalogue is None else read_catalogue(catalogue)
        with tempfile.TemporaryDirectory(prefix="tidings-evaluate-") as folder:
            proof = prove(log, plan, Path(folder), shown, progress)
        if report is not None:
            progress("drawing the report")
            # Drawing needs matplotlib, which takes its time to load.
            from tidings_training.proof.report import proof_report

            report.write_text(proof_report(proof, shown), encoding="utf-8")
    found = {"events": str(events), "seconds": round(time.monotonic() - start, 3), **as_json_of(proof)}
    if as_json:
        print_json(found)
    else:
        _print(Console(), proof, found)


def read_config(path: Path | None, columns: str | None, separator: str | None, header: bool | None) -> Config:
    """What a TOML file and the command line say together; the command line wins.

    Raises InvalidInput naming every key that is not as it must be.
    """
    told: dict[str, Any] = {}
    if path is not None:
        with readable(path, "config"):
            text = path.read_text(encoding="utf-8")
        try:
            told = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(("config", f"{path} is no TOML: {error}")) from None
    faults = [(f"config {key}", f"is unknown; {path} may have {', '.join(KEYS)}") for key in told if key not in KEYS]
    kinds: tuple[tuple[str, type, str], ...] = (
        ("columns", dict, 'a table such as user_id = "customer"'),
        ("separator", str, "a text of one character"),
        ("header", bool, "true or false"),
        ("options", dict, "a table of tables such as [options.als]"),
    )
    for key, kind, wanted in kinds:
        if key in told and not isinstance(told[key], kind):
            faults.append((f"config {key}", f"must be {wanted}"))
    names = told.get("columns", {})
    if isinstance(names, dict) and not all(isinstance(name, str | int) for name in names.values()):
        faults.append(("config columns", "must name columns by text or, without a header, by number"))
    options = told.get("options", {})
    if isinstance(options, dict) and not all(isinstance(one, dict) for one in options.values()):
        faults.append(("config options", "must be a table of tables such as [options.als]"))
    if faults:
        raise InvalidInput(*faults)
    given = columns_from_text(columns.split(",")) if columns else {}
    layout = Layout(
        {**{ours: str(theirs) for ours, theirs in names.items()}, **given},
        (separator or told.get("separator") or "").replace("\\t", "\t") or None,
        told.get("header", True) if header is None else header,
    )
    return Config(layout, options)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise InvalidInput(("k", f"{text!r} must name numbers, such as 10,20")) from None


def _print(console: Console, proof: Proof, found: Mapping[str, Any]) -> None:
    k = str(max(proof.plan.ks))
    table = Table(
        title=f"{proof.split.protocol}, {found['questions']:,} questions: best {k} of {found['known_items']:,} items",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("")
    for name in SHOWN:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    table.add_column("gain in NDCG, 95%", justify="right", no_wrap=True)
    gains = {d.of: d for d in proof.differences if d.to == BASELINE and d.metric == "ndcg"}
    for name, model in found["models"].items():
        gain = gains.get(name)
        cell = (
            f"over {BASELINE}" if name == BASELINE else "" if gain is None else f"{gain.low:+.4f} to {gain.high:+.4f}"
        )
        table.add_row(name, *(f"{model['at'][k][metric]:.4f}" for metric in SHOWN), cell)
    console.print(table)
    lines = [
        f"{found['train_events']:,} events learned from, {found['test_events']:,} held out. "
        f"{found['questions_of_new_people']:,} questions of people without a past are not in the table. "
        f"{found['wanted_of_unknown_items']:,} of {found['wanted']:,} wanted items were unknown before, so missed.",
    ]
    for name, model in found["models"].items():
        if "rmse" in model:
            lines.append(f"{name}: RMSE {model['rmse']:.4f}, MAE {model['mae']:.4f} of {model['values']:,.0f} values")
        if "index_recall" in model:
            lines.append(
                f"{name}: index {model['index']}, the same list for {model['same_lists']:.1%} of the questions"
            )
    for name, trials in found["searched"].items():
        lines.append(f"{name}: {len(trials)} choices of options tried, best {trials[0]['options']}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
