"""How the pages of reports look, and figures in them. A page carries all it shows and loads nothing."""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from html import escape
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.figure import Figure

INK, MUTED, ACCENT, LINE, LIMIT = "#1c2430", "#667085", "#0b6e4f", "#d7dce3", "#b42318"

STYLE = f"""
:root {{ color-scheme: light; }}
body {{ margin: 0; background: #f4f6f8; color: {INK}; font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }}
main {{ max-width: 1040px; margin: 0 auto; padding: 32px 20px 64px; }}
h1 {{ font-size: 26px; margin: 0; letter-spacing: -.01em; }}
h2 {{ font-size: 17px; margin: 0 0 12px; }}
p {{ margin: 4px 0 0; color: {MUTED}; }}
section {{ background: #fff; border: 1px solid {LINE}; border-radius: 10px; padding: 20px 22px; margin-top: 18px; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 12px; margin-top: 20px; }}
.card {{ background: #fff; border: 1px solid {LINE}; border-radius: 10px; padding: 12px 16px; flex: 1 1 auto; }}
.card b {{ display: block; font-size: 19px; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.card span {{ color: {MUTED}; font-size: 13px; }}
.good b {{ color: {ACCENT}; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }}
th {{ color: {MUTED}; font-weight: 500; text-align: right; border-bottom: 1px solid {LINE}; padding: 4px 10px; }}
td {{ text-align: right; padding: 4px 10px; border-bottom: 1px solid #eef1f4; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
tr.won td {{ background: #e8f5ef; font-weight: 600; }}
tr.short td {{ color: {MUTED}; }}
.pair {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 18px; }}
svg {{ max-width: 100%; height: auto; }}
pre {{ background: #f4f6f8; border-radius: 8px; padding: 14px; overflow-x: auto; font-size: 13px; margin: 0; }}
summary {{ cursor: pointer; font-weight: 600; font-size: 17px; }}
details pre {{ margin-top: 12px; }}
"""


def inline(figure: Figure) -> str:
    """The figure as an <svg> element without the header and the metadata that only a file of its own needs."""
    out = StringIO()
    figure.savefig(out, format="svg", transparent=True)
    svg = out.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)


def lettering() -> AbstractContextManager[None]:
    """Draw and save figures within it: their text stays text, in the page's own font."""
    return matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "text.color": INK})


def plain(axes: Any) -> None:
    """Give matplotlib axes a quiet grid and no frame."""
    axes.grid(True, which="major", color=LINE, linewidth=0.6)
    axes.tick_params(which="both", colors=MUTED, labelsize=9, length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def table(head: Sequence[str], rows: Sequence[tuple[Sequence[str], str]]) -> str:
    """A table; each row comes with its CSS class."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = [
        f'<tr class="{kind}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for cells, kind in rows
    ]
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
