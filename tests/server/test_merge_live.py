"""MergeProfiles against a real server with a real client: from a visitor's first look to answers for the user."""

import grpc
import pytest

import tidings
from tests.server.conftest import Shop
from tests.support.server import start_server


def test_a_visitor_who_logs_in_gets_answers_of_both_and_one_stream(
    built_shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What either bought is recommended to neither id; profile, stream and refusals go by the person, also later."""
    state = tmp_path_factory.mktemp("merge") / "state"
    with start_server(built_shop.path, state) as server, tidings.Client(server.address) as client:
        client.promote_release(built_shop.a)
        bought = [item.item.item_id for item in client.recommend("visitor-1", k=3).items]
        client.record(
            [
                tidings.Event("visitor-1", "purchase", [bought[0]]),
                tidings.Event("ann", "purchase", [bought[1]]),
                tidings.Event("visitor-1", "view", [bought[2]]),
            ]
        )
        done = client.merge_profiles("visitor-1", "ann")
        assert (done.user_id, done.already) == ("ann", False)
        for name in ("ann", "visitor-1"):
            profile = client.get_profile(name, consistency_token=done.consistency_token)
            assert profile.user_id == "ann"
            assert {item.item_id for item in profile.bought_items} == set(bought[:2])
            answer = client.recommend(name, k=50, consistency_token=done.consistency_token)
            assert not {item.item.item_id for item in answer.items} & set(bought[:2])
        with pytest.raises(tidings.InvalidArgument, match="circle"):
            client.merge_profiles("ann", "visitor-1")
        with pytest.raises(tidings.FailedPrecondition, match="'ann'"):
            client.merge_profiles("visitor-1", "bob")
        with pytest.raises(tidings.InvalidArgument) as refused:
            client.merge_profiles("a\x00", "")
        assert [field for field, _ in refused.value.fields] == ["visitor_id", "user_id"]
        assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT
        with client.subscribe("visitor-1", device_id="phone") as subscription:
            sent = client.send_push("ann", "Hello")
            assert next(iter(subscription)).push_id == sent.push_id
        assert server.stop() == 0
    with start_server(built_shop.path, state) as server, tidings.Client(server.address) as client:
        assert client.merge_profiles("visitor-1", "ann").already
        kept = [one["user_id"] for one in client.export_profile("visitor-1") if one["kind"] == "event"]
        assert sorted(kept) == ["ann", "ann", "visitor-1", "visitor-1"]
        client.record(tidings.Event("visitor-1", "view", [bought[2]]))
        assert {count.type: count.total for count in client.get_profile("ann").counts} == {"view": 2, "purchase": 2}
        assert client.erase_profile("visitor-1").removed["ids"] == 2
        for name in ("ann", "visitor-1"):
            with pytest.raises(tidings.NotFound):
                client.get_profile(name)
            assert [one.status for one in client.record(tidings.Event(name, "view", ["x"])).verdicts] == ["erased"]
