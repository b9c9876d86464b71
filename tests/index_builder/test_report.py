"""The report is one page that carries everything and says what the manifest says."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.index_builder.shop import NOW, clustered, embeddings, make_model
from tidings_core.features import ITEM_FEATURES
from tidings_index_builder import candidates, race
from tidings_index_builder.build import build_release
from tidings_index_builder.race import Budgets
from tidings_index_builder.tune import tune
from tidings_index_builder.tuning_report import chart, trial_table, why


class _Page(HTMLParser):
    """What a browser would load from elsewhere, and the text it would show."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.texts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data") and not (value or "").startswith("#"):
                self.loaded.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_the_report_loads_nothing_and_tells_everything(tmp_path: Path) -> None:
    """No script, style sheet, image or font from elsewhere; every trial, feature and fact stands in it."""
    items, users = embeddings(400, 60)
    users.ids[0] = "<script>"
    manifest = build_release(
        items=items,
        users=users,
        model=make_model(items, users),
        metric="cosine",
        releases=tmp_path,
        now=NOW,
        lineage={"trainer": "<img src=x>"},
    )
    text = (tmp_path / manifest.release_id / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.loaded == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "svg" in page.tags
    shown = " ".join(page.texts)
    for fact in (f"{manifest.index.recall:.4f}", manifest.index.key, "400", "2023-11-14 22:13:20 UTC", *ITEM_FEATURES):
        assert fact in shown
    for trial in manifest.lineage["build"]["tuning"]["trials"]:
        assert trial["key"] in shown
    assert page.texts.count("chosen") == 1
    assert "20 users that had no part in choosing it" in shown
    assert "Choosing took" in shown
    assert "neighbours" in shown


def test_the_choice_is_explained_with_every_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the winner won, what came next, what was tried on a sample, what the limits were; all on the chart."""
    monkeypatch.setattr(candidates, "IVF_FROM", 1000)
    monkeypatch.setattr(race, "SCREEN", 1500)
    items, users = clustered(6000, 500)
    tuned = tune(items, users, "inner_product", target=0.9, k=20, budgets=Budgets(bytes_per_item=60.0))
    told = why(tuned)
    assert "  " not in told
    assert told.startswith(tuned.winner.key)
    assert f"{tuned.recall:.4f} of the nearest 20 for users that had no part in choosing it" in told
    assert "candidates were tried on 1,500 of the 6,000 items" in told
    assert "The limit was 60 bytes per item." in told
    drawn = chart(tuned)
    for trial in tuned.trials:
        assert f"{trial.key}{' (sample)' if trial.items == 1500 else ''}" in drawn
    assert "target 0.9" in drawn
    assert "at most 60 bytes per item" in drawn
    skipped = replace(tuned, skipped=(("IVF9,SQ8", "no time was left"),))
    _, rows = trial_table(skipped)
    assert len(rows) == len(tuned.trials) + 1
    assert [kind for _, kind in rows].count("won") == 1
    assert rows[-1][0][-1] == "skipped: no time was left"


def test_exact_search_is_explained_too() -> None:
    """Where nothing competes the paragraph and the chart still say what there is."""
    items, users = clustered(50, 10)
    tuned = tune(items, users, "l2", target=0.95, k=5, exact=True)
    assert why(tuned).startswith("Exact search won")
    assert "Flat" in chart(tuned)
