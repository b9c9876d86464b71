"""Tags from end to end: a real server, the client, and what a shop would say of a person."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tidings
from tests.support.server import RunningServer, start_server
from tests.support.world import linear_ranker, make_world
from tidings_core.attributes import Keyword
from tidings_core.tables import BytesTable
from tidings_server.application.watch_tags import NEVER

CONFIG = """
[privacy]
min_audience = 0

[attribute.tier]
kind = "keyword"
values = ["basic", "gold"]

[attribute.diet]
kind = "tags"
sensitive = true

[tag.eats]
when = "diet"

[tag.vip]
when = '''
tier == "gold" and
has_tag("gender:male")
'''
weight = 3

[trigger.watch-bought]
event = "tag"
tag = "recent_purchase:watch"
serving_config = "for-you"
template = "hello"
when = 'has_tag("gender:male") and city == "Beijing"'

[trigger.plays-chess]
event = "tag"
tag = "interests:chess"
serving_config = "for-you"
template = "hello"

[template.hello]
title = "You have it: {{ tag }}"
"""


CONTROLS = """
[control.guests]
kind = "pin"
item_ids = ["item-299"]
tags = ["guest_of_honour", "eats"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose release has smartphones (item-0, item-3, …), watches (item-1, …) and lamps (item-2, …)."""
    place = tmp_path_factory.mktemp("tags")
    world = make_world(bare=False)
    codes = (np.array([1, 2, 0])[np.arange(len(world.parts.item_ids)) % 3]).astype(np.int32)
    attributes = {
        **world.parts.attributes,
        "category": Keyword(codes, BytesTable.of([b"lamp", b"smartphone", b"watch"])),
    }
    shop = replace(world, parts=replace(world.parts, attributes=attributes))
    release_id = shop.write(place / "releases").release_id
    (place / "controls.toml").write_text(CONTROLS)
    (place / "server.toml").write_text(f'controls = "{place / "controls.toml"}"\n{CONFIG}')
    with start_server(place / "releases", place / "state", "--config", str(place / "server.toml")) as running:
        with tidings.Client(running.address) as client:
            client.promote_release(release_id)
        yield running


def test_a_ranker_may_go_by_what_is_said_of_a_person(tmp_path: Path) -> None:
    """A release that names attributes is ranked by them as soon as they are said, and explains what it saw."""
    ranker = linear_ranker({"log_price": 1.0}, {}, {}, {"thrifty": -1.0, "taste=dear": 1.0})
    world = make_world()
    shop = replace(world, parts=replace(world.parts, ranker=ranker))
    release_id = shop.write(tmp_path / "releases").release_id
    config = tmp_path / "server.toml"
    config.write_text('[attribute.thrifty]\nkind = "flag"\n[attribute.taste]\nkind = "keyword"\n')
    with (
        start_server(tmp_path / "releases", tmp_path / "state", "--config", str(config)) as running,
        tidings.Client(running.address, timeout=10.0) as client,
    ):
        client.promote_release(release_id)

        def prices() -> list[float]:
            items = [one.item.item_id for one in client.recommend("user-7", k=8).items]
            return [float(world.prices[int(item.removeprefix("item-"))]) for item in items]

        client.update_profile("user-7", {"thrifty": True})
        cheap = prices()
        client.update_profile("user-7", {"thrifty": None, "taste": "dear"})
        dear = prices()
        assert cheap == sorted(cheap)
        assert dear == sorted(dear, reverse=True)
        told = client.explain("user-7").items[0]
        seen = {one.name: one.value for one in told.features if one.block == "user"}
        assert (seen["thrifty"], seen["taste=dear"]) == (0.0, 1.0)


@pytest.fixture
def client(server: RunningServer) -> Iterator[tidings.Client]:
    """A connection."""
    with tidings.Client(server.address, timeout=10.0) as connection:
        yield connection


def values(profile: tidings.Profile, family: str) -> set[str]:
    """The values of a family of tags."""
    found = (tag.tag.partition(":") for tag in profile.tags)
    return {value for name, _, value in found if name == family}


def test_a_man_of_25_from_beijing_who_likes_fashion_and_tech_and_bought_a_smartphone_and_a_watch(
    client: tidings.Client,
) -> None:
    """His tags are 25-34, male, fashion and tech, smartphone and watch, and no others of these families."""
    client.update_profile(
        "li", {"age": 25, "gender": "male", "city": "Beijing", "interests": ["fashion", "tech"]}, source="form"
    )
    done = client.record(tidings.Event("li", "purchase", [tidings.EventItem("item-0", 1, 500.0), "item-1"]))
    profile = client.get_profile("li", consistency_token=done.consistency_token)
    assert {one.name: one.value for one in profile.attributes} == {
        "age": 25.0,
        "gender": "male",
        "city": "Beijing",
        "interests": ("fashion", "tech"),
    }
    assert values(profile, "age_group") == {"25-34"}
    assert values(profile, "gender") == {"male"}
    assert values(profile, "interests") == {"fashion", "tech"}
    assert values(profile, "recent_purchase") == {"smartphone", "watch"}
    assert values(profile, "lifecycle") == {"new"}
    assert values(profile, "rfm") == {"big_spender"}
    (bought,) = [tag for tag in profile.tags if tag.tag == "recent_purchase:watch"]
    assert (bought.weight, bought.source) == (1.0, "rule")
    assert bought.expire_time is not None
    assert timedelta(days=29) < bought.expire_time - datetime.now(UTC) <= timedelta(days=30)


def test_a_tag_that_comes_calls_for_a_push_to_those_of_whom_the_condition_holds(client: tidings.Client) -> None:
    """One who buys a watch gets it, in words with the tag; another one of elsewhere does not, and it is said why."""
    for user, city in (("xi", "Beijing"), ("leo", "Rome")):
        client.update_profile(user, {"gender": "male", "city": city})
        client.record(tidings.Event(user, "purchase", ["item-1"]))
    with client.subscribe("xi") as pushes:
        push = next(pushes)
    assert push.title == "You have it: recent_purchase:watch"
    assert push.trigger == "watch-bought"
    tags = {tag.tag: tag for tag in client.get_profile("xi").tags}
    assert tags["recent_purchase:watch"].since is not None


def test_who_consents_again_is_looked_at_at_once(client: tidings.Client, server: RunningServer) -> None:
    """What was said while nothing might be made of it gives its tag with the consent, and not with the next event."""
    client.set_preferences("may", tidings.Preferences(consent={"profiling": False}))
    client.update_profile("may", {"interests": ["chess"]})
    with closing(sqlite3.connect(server.log.with_name("state") / "tidings.db")) as database:
        until = time.monotonic() + 20
        while database.execute("SELECT due FROM looks WHERE user_id = 'may'").fetchone() != (NEVER,):
            assert time.monotonic() < until
    client.set_preferences("may", tidings.Preferences(consent={"profiling": True}))
    with client.subscribe("may") as pushes:
        assert next(pushes).title == "You have it: interests:chess"


def test_a_birth_date_gives_the_age_and_when_it_ends(client: tidings.Client) -> None:
    """It wins over an age that was said; the band ends on a birthday."""
    today = datetime.now(UTC).date()
    born = today.replace(year=today.year - 34, day=7)
    client.update_profile("wei", {"birth_date": born, "age": 99})
    (tag,) = client.get_profile("wei").tags
    assert tag.tag == "age_group:25-34"
    assert tag.expire_time is not None
    assert tag.expire_time.date() == born.replace(year=born.year + 35)


def test_a_shop_s_own_rule_asks_for_other_tags(client: tidings.Client) -> None:
    """With its weight; when what it stands on is removed it is gone."""
    client.update_profile("ann", {"tier": "gold", "gender": "male"})
    tags = {tag.tag: tag.weight for tag in client.get_profile("ann").tags}
    assert tags == {"vip": 3.0, "gender:male": 1.0}
    client.update_profile("ann", {"tier": None})
    assert {tag.tag for tag in client.get_profile("ann").tags} == {"gender:male"}
    with pytest.raises(tidings.InvalidArgument, match=r"the rule \[tag.vip\] gives"):
        client.update_profile("ann", tags=["vip"])


def test_an_audience_is_of_those_who_are_what_is_asked_for(client: tidings.Client) -> None:
    """By attributes, a date among them, and by tags, their families and those set by hand; others are not found."""
    client.update_profile("user-3", {"city": "Suzhou", "birth_date": "2001-05-03"}, tags=["press"])
    client.update_profile("user-4", {"city": "Turin", "gender": "female"})
    client.update_profile("user-5", {"city": "Suzhou", "age": 40})

    def found(*must: tidings.Condition | tidings.Filter, **more: list[tidings.Condition]) -> set[str]:
        pages = client.find_audience(["item-0"], user_filter=tidings.Filter(must=list(must), **more), page_size=1)
        return {one.user_id for page in pages for one in page.members if one.user_id.startswith("user-")}

    assert found(tidings.any_of("city", "Suzhou")) == {"user-3", "user-5"}
    assert found(tidings.any_of("tags", "press")) == {"user-3"}
    assert found(tidings.any_of("tags", "gender")) == {"user-4"}
    assert found(tidings.any_of("tags", "age_group:35-44", "gender:female")) == {"user-4", "user-5"}
    assert found(tidings.less_than("birth_date", datetime(2002, 1, 1, tzinfo=UTC))) == {"user-3"}
    assert found(tidings.between("age", 30, 50)) == {"user-5"}
    everybody = {f"user-{number}" for number in range(60)}
    nobody_of_turin = [tidings.any_of("city", "Turin")]
    assert found(must_not=nobody_of_turin) == everybody - {"user-4"}


@pytest.mark.parametrize(
    ("condition", "field", "said"),
    [
        (tidings.any_of("shoe", "x"), "user_filter.must[0].attribute", "which no user has; there are age (number)"),
        (tidings.any_of("age", "x"), "user_filter.must[0].any_of", "is not for age, a number"),
        (tidings.any_of("diet", "vegan"), "user_filter", "goes by diet: sensitive"),
        (tidings.any_of("tags", "eats:vegan"), "user_filter", "goes by diet: sensitive"),
    ],
)
def test_an_audience_cannot_be_asked_for_by_what_is_not_declared_or_sensitive(
    client: tidings.Client, condition: tidings.Condition, field: str, said: str
) -> None:
    """Not by way of a tag either."""
    with pytest.raises(tidings.InvalidArgument) as raised:
        list(client.find_audience(["item-0"], user_filter=tidings.Filter(must=[condition])))
    assert said in dict(raised.value.fields)[field]


def test_a_control_is_for_those_who_have_its_tag(client: tidings.Client) -> None:
    """And not for others, nor by a tag that goes by a sensitive attribute; the record of an answer is of no other."""
    client.update_profile("user-9", tags=["guest_of_honour"])
    client.update_profile("user-10", {"diet": ["vegan"]})

    def first(user: str) -> str:
        return client.recommend(user, k=3).items[0].item.item_id

    assert first("user-9") == "item-299"
    assert first("user-10") != "item-299"
    assert first("user-11") != "item-299"
    client.update_profile("user-9", remove_tags=["guest_of_honour"])
    assert first("user-9") != "item-299"


def test_who_would_have_a_tag_is_counted_beside_the_server(
    server: RunningServer, client: tidings.Client, tmp_path: Path
) -> None:
    """By the rules of a file that is not in use, and by hand; each tag of a family by itself."""
    client.update_profile("paul", {"city": "Kyoto"}, tags=["guest"])
    client.update_profile("mary", {"city": "Kyoto"})
    config = tmp_path / "next.toml"
    rules = '[attribute.city]\nkind = "keyword"\n[tag.lives]\nwhen = "city"\n'
    config.write_text(f"{rules}[privacy]\nmin_audience = 0\n")
    place = server.log.parent
    where = ["--config", str(config), "--state", str(place / "state"), "--releases", str(place / "releases"), "--json"]

    def preview(name: str) -> dict[str, Any]:
        words = [str(Path(sys.executable).with_name("tidings-server")), "tags", "preview", name, *where]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        found: dict[str, Any] = json.loads(ran.stdout)
        return found

    lives = preview("lives")
    assert lives["tags"]["lives:Kyoto"] == 2
    assert lives["have"] <= lives["users"]
    assert preview("guest")["have"] == 1
    assert preview("recent_purchase:smartphone")["have"] >= 1
    assert preview("nothing")["have"] == 0
    # Of a few people nothing is told, unless the settings say so.
    config.write_text(rules)
    few = preview("guest")
    assert (few["have"], few["tags"], few["withheld"]) == (0, {}, True)
    words = [str(Path(sys.executable).with_name("tidings-server")), "tags", "preview", "guest", *where[:-1]]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.startswith(f"too few to tell of {few['users']} users would have guest")


def test_a_hundred_thousand_tags_are_refused(client: tidings.Client) -> None:
    """By number; nothing is kept of them."""
    with pytest.raises(tidings.InvalidArgument, match="has 100000 entries"):
        client.update_profile("mule", tags=[f"t{n}" for n in range(100_000)])
    with pytest.raises(tidings.NotFound):
        client.get_profile("mule")


def test_a_map_of_ten_megabytes_is_refused_with_the_limit(client: tidings.Client) -> None:
    """The size of a message is what it meets."""
    with pytest.raises(tidings.TidingsError, match="4194304"):
        client.update_profile("mule", {f"a{n}": "x" * 1000 for n in range(10_000)})
