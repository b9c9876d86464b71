"""Three people do three things at once, and each gets a push that fits: in English, and in Chinese."""

import json
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tidings
from tests.support.server import RunningServer, start_server

PER_CATEGORY = 12
PHONES, EXTRAS, WATCHES, DRESSES, SHOES, NOVELS = range(6)
HABITS = ((PHONES, EXTRAS), (WATCHES,), (DRESSES, SHOES), (NOVELS,))
"""What people of one kind buy together."""


@dataclass(frozen=True)
class Language:
    """A shop's words: categories from broad to narrow, what its products are called, and what the three people say."""

    name: str
    categories: tuple[tuple[str, str], ...]
    products: tuple[str, ...]
    makers: tuple[str, ...]
    search: str
    fashion: str
    templates: str


ENGLISH = Language(
    "en",
    (
        ("Electronics", "Smartphones"),
        ("Electronics", "Phone accessories"),
        ("Electronics", "Wearables"),
        ("Fashion", "Dresses"),
        ("Fashion", "Shoes"),
        ("Books", "Novels"),
    ),
    ("smartphone", "phone case", "smart watch", "summer dress", "running shoes", "novel"),
    ("Aurora", "Borealis", "Cirrus"),
    "watch",
    "Fashion",
    """
[template.goes-with]
title = "{% if because %}For your new {{ because.title }}{% else %}For you{% endif %}"
body = "{{ item.title }} goes well with it."
[template.found]
title = "You searched for “{{ query }}”"
body = "Have a look at {{ item.title }}."
[template.browsing]
title = "New in {{ category }}"
body = "{{ items | map(attribute='title') | join(', ') }}"
""",
)
CHINESE = Language(
    "zh",
    (
        ("数码", "手机"),
        ("数码", "手机配件"),
        ("数码", "穿戴设备"),
        ("服饰", "连衣裙"),
        ("服饰", "鞋靴"),
        ("图书", "小说"),
    ),
    ("智能手机", "手机保护壳", "运动手表", "夏季连衣裙", "轻便跑鞋", "长篇小说"),
    ("极光", "北辰", "云海"),
    "手表",
    "服饰",
    """
[template.goes-with]
title = "{% if because %}为您的新{{ because.title }}{% else %}为您推荐{% endif %}"
body = "{{ item.title }}与它很相配。"
[template.found]
title = "您搜索过“{{ query }}”"
body = "看看{{ item.title }}吧。"
[template.browsing]
title = "{{ category }}上新"
body = "{{ items | map(attribute='title') | join('、') }}"
""",
)
TRIGGERS = """
[trigger.bought]
event = "purchase"
serving_config = "goes-with"
template = "goes-with"
[trigger.searched]
event = "search"
serving_config = "search"
template = "found"
[trigger.browsed]
event = "view"
of = "category"
serving_config = "browse"
template = "browsing"
"""


def item_id(category: int, number: int) -> str:
    """Id of an item: its category and its number there."""
    return f"{category}-{number}"


def category_of(item: tidings.RecommendedItem) -> int:
    """Number of a recommended item's category."""
    return int(item.item.item_id.split("-")[0])


def write_catalogue(language: Language, path: Path) -> None:
    """A catalogue of six categories, in the shop's language."""
    rows = [
        {
            "id": item_id(category, number),
            "title": f"{language.makers[number % 3]} {language.products[category]} {number + 1}",
            "categories": list(path_of),
            "brand": language.makers[number % 3],
            "price": 10.0 * (category + 1) + number,
            "currency": "EUR",
        }
        for category, path_of in enumerate(language.categories)
        for number in range(PER_CATEGORY)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_events(path: Path) -> None:
    """What 300 customers bought in the last months, each along one habit; everybody buys a novel now and then."""
    rng = np.random.default_rng(7)
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    bought = [
        (user, category)
        for user in range(300)
        for habit in [HABITS[user % len(HABITS)]]
        for category in (*habit, *habit, *habit, NOVELS if rng.random() < 0.3 else habit[0])
    ]
    rows = [
        {
            "user_id": f"customer-{user}",
            "item_id": item_id(category, int(rng.integers(PER_CATEGORY))),
            "timestamp": end - timedelta(hours=float(rng.uniform(0, 24 * 90))),
        }
        for user, category in bought
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def run(program: str, *arguments: object) -> None:
    """Run one of the commands."""
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


@contextmanager
def shop(language: Language, folder: Path) -> Iterator[tuple[RunningServer, tidings.Client]]:
    """The shop in a language: trained, built, served with three triggers, its release promoted."""
    write_catalogue(language, folder / "catalogue.parquet")
    write_events(folder / "events.parquet")
    given = ("--catalogue", folder / "catalogue.parquet")
    run("tidings-train", "fit", "--events", folder / "events.parquet", *given, "--out", folder / "model",
        "--factors", 16, "--no-evaluate")  # fmt: skip
    run("tidings-build-index", "build", "--model", folder / "model", *given, "--out", folder / "releases")
    (folder / "server.toml").write_text(language.templates + TRIGGERS)
    with (
        start_server(folder / "releases", folder / "state", "--config", str(folder / "server.toml")) as server,
        tidings.Client(server.address, timeout=10) as client,
    ):
        client.promote_release(client.list_releases()[0].release_id)
        yield server, client


def first_pushes(server: RunningServer, users: Mapping[str, tidings.Event]) -> dict[str, tidings.Push]:
    """Subscribe for everyone, let all act at once, and return the first push of each."""
    found: dict[str, tidings.Push] = {}
    ready = threading.Barrier(len(users))

    def act(user: str, event: tidings.Event) -> None:
        with tidings.Client(server.address, timeout=10) as client, client.subscribe(user) as pushes:
            ready.wait(30)
            assert client.record(event).verdicts[0].status is tidings.EventStatus.ACCEPTED
            found[user] = next(pushes)

    threads = [threading.Thread(target=act, args=entry) for entry in users.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.mark.parametrize("language", [ENGLISH, CHINESE], ids=lambda language: language.name)
def test_three_people_act_at_once_and_each_gets_a_push_that_fits(language: Language, tmp_path: Path) -> None:
    """One bought a smartphone, one searched "watch", one browsed fashion; none is pushed what was just bought.

    None of them is known to the release: what they did a moment ago is all there is.
    """
    phone = item_id(PHONES, 3)
    with shop(language, tmp_path) as (server, client):
        pushes = first_pushes(
            server,
            {
                "ann": tidings.Event("ann", "purchase", items=[phone]),
                "bob": tidings.Event("bob", "search", query=language.search),
                "eve": tidings.Event("eve", "view", category=language.fashion),
            },
        )
        assert {user: push.trigger for user, push in pushes.items()} == {
            "ann": "bought",
            "bob": "searched",
            "eve": "browsed",
        }
        assert category_of(pushes["ann"].items[0]) == EXTRAS
        assert pushes["ann"].items[0].reasons[0].item_id == phone
        assert {category_of(item) for item in pushes["bob"].items} == {WATCHES}
        assert {category_of(item) for item in pushes["eve"].items} <= {DRESSES, SHOES}
        assert all(item.item.item_id != phone for push in pushes.values() for item in push.items)

        bought = f"{language.makers[0]} {language.products[PHONES]} 4"
        template: str = tomllib.loads(language.templates)["template"]["goes-with"]["title"]
        said = template.removeprefix("{% if because %}").partition("{% else %}")[0]
        assert pushes["ann"].title == said.replace("{{ because.title }}", bought)
        assert language.search in pushes["bob"].title
        assert language.fashion in pushes["eve"].title
        assert pushes["bob"].items[0].item.title in pushes["bob"].body

        answer = client.recommend("ann", k=20)
        assert phone not in [item.item.item_id for item in answer.items]
        profile = client.get_profile("ann")
        assert [item.item_id for item in profile.bought_items] == [phone]


def test_every_push_leaves_a_full_record(tmp_path: Path) -> None:
    """From the command alone: what was considered, at which scores, from which sources, in which release, and why."""
    with shop(ENGLISH, tmp_path) as (server, client):
        push = first_pushes(server, {"ann": tidings.Event("ann", "purchase", items=[item_id(PHONES, 3)])})["ann"]
        release = client.list_releases()[0].release_id
        command = [str(Path(sys.executable).with_name("tidings-server")), "decisions"]
        command += ["--state", str(tmp_path / "state"), "--user", "ann", "--json"]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        (decision,) = [json.loads(line) for line in said.splitlines()]
    assert decision["push_id"] == push.push_id
    assert decision["release_id"] == release
    assert decision["serving_config"] == "goes-with"
    assert decision["profile_version"] >= 1
    chosen = [item["item_id"] for item in decision["chosen"]]
    assert chosen == [item.item.item_id for item in push.items]
    assert set(chosen) <= set(decision["candidates"]["item_ids"])
    assert len(decision["candidates"]["scores"]) == len(decision["candidates"]["item_ids"])
    assert decision["chosen"][0]["reasons"]
