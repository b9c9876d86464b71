"""Tags from end to end: a real server, the client, and what a shop would say of a person."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import tidings
from tests.support.server import RunningServer, start_server
from tests.support.world import make_world
from tidings_core.attributes import Keyword
from tidings_core.tables import BytesTable

CONFIG = """
[attribute.tier]
kind = "keyword"
values = ["basic", "gold"]

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

[template.hello]
title = "You have it: {{ tag }}"
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
    (place / "server.toml").write_text(CONFIG)
    with start_server(place / "releases", place / "state", "--config", str(place / "server.toml")) as running:
        with tidings.Client(running.address) as client:
            client.promote_release(release_id)
        yield running


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


def test_a_birth_date_gives_the_age_and_when_it_ends(client: tidings.Client) -> None:
    """It wins over an age that was said; the band ends on a birthday."""
    today = datetime.now(UTC).date()
    born = today.replace(year=today.year - 34, day=min(today.day, 28)) - timedelta(days=3)
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
