"""What controls would change, for people and for machines."""

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidings_server.application.preview_controls import Example, Preview

SHOWN = 8
"""So many places of an answer are shown to people."""


def as_json(found: Preview, release_id: str) -> str:
    """A preview as one line of JSON."""
    return json.dumps({"release_id": release_id, **asdict(found)}, ensure_ascii=False, separators=(",", ":"))


def print_preview(console: Console, found: Preview) -> None:
    """Print a preview as tables."""
    if not console.is_terminal:
        console = Console(file=console.file, width=160)
    share = f" ({found.changed / found.answers:.1%})" if found.answers else ""
    left_out = f"; {found.left_out:,} left out" if found.left_out else ""
    _say(
        console,
        f"{found.changed:,} of {found.answers:,} recorded answers would change{share}: {found.added:,} items come in, "
        f"{found.gone:,} fall out, {found.moved:,} change place{left_out}",
    )
    if found.controls:
        table = _table("control", "kind", "answers it is for", "answers it changes")
        for one in found.controls:
            table.add_row(_cell(one.name), one.kind, f"{one.in_force:,}", f"{one.changed:,}")
        console.print(table)
    if found.more or found.fewer:
        table = _table("item", "answers before", "after", "")
        for one_item in (*found.more, *found.fewer):
            by = one_item.after - one_item.before
            table.add_row(_cell(one_item.item_id), f"{one_item.before:,}", f"{one_item.after:,}", f"{by:+,}")
        console.print(table)
    for example in found.examples:
        _print_example(console, example)


def _print_example(console: Console, example: Example) -> None:
    _say(console, f"\n{example.decision_id}: {example.user_id or '(no user)'}, {example.serving_config}")
    for name, ids in (("before", example.before), ("after", example.after)):
        more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        _say(console, f"  {name:7}{', '.join(ids[:SHOWN])}{more}")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        numbers = name not in ("item", "control", "kind")
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    return table


def _say(console: Console, line: str) -> None:
    console.print(_cell(line), soft_wrap=True)


def _cell(content: str) -> Text:
    # Ids are the shop's: they must not be read as markup, nor steer the terminal.
    return Text("".join(character if character.isprintable() or character == "\n" else " " for character in content))
