"""The command `tidings-train check`."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from tidings_core.errors import InvalidInput
from tidings_index_builder.show import ShownProgress
from tidings_index_builder.terminal import faults_told, print_json
from tidings_training.audit import Audit, audit
from tidings_training.event_files import parse_time, read_log
from tidings_training.log import cored
from tidings_training.proof.command import COMMAND, read_config
from tidings_training.proof.splits import GAP_MINUTES, PROTOCOLS, SHARE, Cut

SHOWN_BOTS = 5


def check_command(
    events: Annotated[Path, typer.Option(help="Parquet, Arrow, CSV or TSV with user_id, item_id, timestamp, ...")],
    protocol: Annotated[str, typer.Option(help=f"The split to look at: {', '.join(PROTOCOLS)}.")] = "temporal",
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
    core_of: Annotated[
        int, typer.Option("--core", min=0, help="Keep users and items with so many of each other; 5 is usual.")
    ] = 0,
    config: Annotated[Path | None, typer.Option(metavar="TOML", help="A file with columns, separator, header.")] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="OURS=THEIRS,...", help="What the file calls our columns, as for fit.")
    ] = None,
    separator: Annotated[str | None, typer.Option(help="Of a text file; by its ending when not given.")] = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="Whether a text file names its columns.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Look events over before anything is learned from them. Writes nothing."""
    with faults_told(COMMAND), ShownProgress(Console(stderr=True)) as progress:
        if protocol not in PROTOCOLS:
            raise InvalidInput(("protocol", f"there is no {protocol}; the protocols are {', '.join(PROTOCOLS)}"))
        progress("reading events")
        layout = read_config(config, columns, separator, header).layout
        log = cored(read_log(events, layout, None if until is None else parse_time(until, "until")), core_of)
        progress("looking them over")
        cut = Cut(
            protocol=protocol,
            holdout_days=holdout_days,
            share=share,
            gap_minutes=gap_minutes,
        )
        found = audit(log, cut, time.time())
    if as_json:
        print_json({"file": str(events), **asdict(found)})
    else:
        _print(Console(), events, found)


def _print(console: Console, events: Path, found: Audit) -> None:
    table = Table(title=str(events), box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    held = found.held
    rows = {
        "events": f"{found.events:,} from {_day(found.first)} to {_day(found.last)}",
        "users, items": f"{found.users:,}, {found.items:,}",
        "types": ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.items()),
        "with a value": f"{found.valued:.1%}"
        + ("" if found.least_value is None else f", {found.least_value:g} to {found.largest_value:g}"),
        "named sessions": f"{found.sessions:,}",
        "duplicates": f"{found.duplicates:,}",
        "wanted again": f"{found.repeats:.1%}",
        "at one time": f"{found.ties:.1%}",
        "users of one item": f"{found.single_users:.1%}",
        "gaps": ", ".join(f"{gap.days:.0f} days from {_day(gap.start)}" for gap in found.gaps) or "none",
        "machines": "; ".join(f"{bot.user_id} {bot.why}" for bot in found.bots[:SHOWN_BOTS]) or "none",
        "split": "none"
        if held is None
        else f"{held.protocol}: {held.questions:,} questions, {held.cold_people:.1%} of people without a past, "
        f"{held.cold_items:.1%} of what is wanted unknown, {held.earlier:.1%} not later than what is learned from",
    }
    for name, fact in rows.items():
        table.add_row(name, fact)
    console.print(table)
    for problem in found.problems or ["nothing to mend was found"]:
        console.print(f"- {problem}", highlight=False, markup=False, soft_wrap=True)


def _day(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d}"
