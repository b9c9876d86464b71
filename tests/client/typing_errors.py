"""Wrong calls that a type checker must refuse: an ignore that is not needed fails `make check` (never run)."""

import tidings


def wrong(client: tidings.Client) -> None:
    """Each line is one mistake."""
    client.recommend(42)  # type: ignore[arg-type]
    client.recommend("u1", 5)  # type: ignore[call-arg]
    client.recommend("u1", k="5")  # type: ignore[arg-type]
    client.recommend("u1", context_item_ids=[1])  # type: ignore[list-item]
    client.recommend("u1", n=5)  # type: ignore[call-arg]
    client.batch_recommend(["u1"])  # type: ignore[list-item]
    client.promote_release()  # type: ignore[call-arg]
    print(client.recommend("u1").items[0].price)  # type: ignore[attr-defined]
    client.recommend("u1").release_id = "x"  # type: ignore[misc]
    price: float = client.recommend("u1").items[0].item.price  # type: ignore[assignment]
    assert price
    for item in client.recommend("u1"):  # type: ignore[attr-defined]
        assert item
    tidings.Client(50051)  # type: ignore[arg-type]
    tidings.Client("127.0.0.1:50051", 1.0)  # type: ignore[call-arg]
    tidings.RecommendQuery("u1", 5)  # type: ignore[call-arg]
    print(tidings.NotFound("x").retry_after)  # type: ignore[attr-defined]
    client.record(["u1"])  # type: ignore[list-item]
    tidings.Event("u1", "view", ["a"], "home")  # type: ignore[call-arg]
    tidings.Event("u1", "view", [5])  # type: ignore[list-item]
    tidings.Event("u1", "view").event_id = "x"  # type: ignore[misc]
    client.send_push("u1", "t", ttl="1h")  # type: ignore[arg-type]
    client.subscribe("u1", "phone")  # type: ignore[call-arg]
    for push in client.subscribe("u1"):
        print(push.expire_time.year)  # type: ignore[union-attr]


async def wrong_asyncio(client: tidings.aio.Client) -> None:
    """Each line is one mistake."""
    print((await client.recommend("u1")).item)  # type: ignore[attr-defined]
    print(client.recommend("u1").items)  # type: ignore[attr-defined]
    for push in client.subscribe("u1"):  # type: ignore[attr-defined]
        assert push
    with client:  # type: ignore[attr-defined]
        pass
