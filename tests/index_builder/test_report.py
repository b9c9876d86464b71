"""The report is one page that carries everything and says what the manifest says."""

import re
from html.parser import HTMLParser
from pathlib import Path

from tests.index_builder.shop import NOW, embeddings, make_model
from tidings_core.features import ITEM_FEATURES
from tidings_index_builder.build import build_release


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
