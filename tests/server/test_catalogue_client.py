"""The client and the `tidings items` command against a real server."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import tidings
from tests.server.conftest import Shop
from tests.support.server import RunningServer, start_server
from tidings.__main__ import main

THEN = datetime(2025, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def server(built_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that serves release a."""
    with start_server(built_shop.path, tmp_path_factory.mktemp("client") / "state") as server:
        with tidings.Client(server.address) as client:
            client.promote_release(built_shop.a)
        yield server


def lamp(item_id: str, time: datetime = THEN) -> tidings.CatalogItem:
    """An item with something in every field."""
    return tidings.CatalogItem(
        item_id,
        time,
        title="Lantern",
        categories=("light", "lamps"),
        brand="Acme",
        price=9.5,
        currency="EUR",
        publish_time=THEN,
        shown={"note": "hand made"},
        attributes={"watts": 40.0, "colours": ("red",), "made": THEN, "sale": True, "maker": "Acme"},
        available=True,
        stock=3.0,
    )


def test_an_item_comes_back_as_it_was_upserted(server: RunningServer) -> None:
    """Every field, and the token finds it."""
    with tidings.Client(server.address, timeout=10) as client:
        done = client.upsert_items([lamp("lamp-1"), lamp("lamp-2")])
        assert done.results == (tidings.UpsertResult.APPLIED,) * 2
        assert client.get_item("lamp-1", consistency_token=done.consistency_token) == lamp("lamp-1")
        found = client.recommend(
            "ann", serving_config="search", query="lantern", consistency_token=done.consistency_token
        )
        assert {one.item.item_id for one in found.items} == {"lamp-1", "lamp-2"}
        client.upsert_items(tidings.CatalogItem("lamp-1", THEN + timedelta(hours=1), price=7.0), only=["price"])
        assert client.get_item("lamp-1").price == 7.0
        assert len(list(client.list_items())) == 302
        gone = client.delete_items(["lamp-1", "nobody"], THEN + timedelta(hours=2))
        assert gone.results == (tidings.DeleteResult.DELETED, tidings.DeleteResult.NOT_FOUND)
        with pytest.raises(tidings.NotFound):
            client.get_item("lamp-1")


def test_the_asyncio_client_does_the_same(server: RunningServer) -> None:
    """Upsert, get, list, delete."""

    async def run() -> None:
        async with tidings.aio.Client(server.address, timeout=10) as client:
            done = await client.upsert_items(lamp("aio"))
            assert (await client.get_item("aio", consistency_token=done.consistency_token)).title == "Lantern"
            assert "aio" in [item.item_id async for item in client.list_items()]
            assert (await client.delete_items("aio", THEN + timedelta(hours=1))).results == (
                tidings.DeleteResult.DELETED,
            )

    asyncio.run(run())


def test_what_cannot_be_sent_is_named_for_every_item() -> None:
    """Before any call is made."""
    with tidings.Client("127.0.0.1:1") as client:
        naive = datetime(2025, 1, 1)
        with pytest.raises(tidings.InvalidArgument) as refused:
            client.upsert_items(
                [
                    tidings.CatalogItem("a", naive),
                    lamp("b"),
                    tidings.CatalogItem("c", THEN, vector="x"),  # type: ignore[arg-type]
                ]
            )
        assert [field for field, _ in refused.value.fields] == ["items[0].update_time", "items[2].vector"]
        with pytest.raises(tidings.InvalidArgument):
            client.upsert_items([], only="price")


def test_the_command_upserts_a_file_gets_lists_and_deletes(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As people and scripts use it; a bad line is named by its number, and nothing of its batch is taken."""
    file = tmp_path / "items.jsonl"
    lines: list[dict[str, Any]] = [
        {"item_id": f"file-{n}", "update_time": "2025-06-01T00:00:00Z", "title": "Filed", "attributes": {"n": n}}
        for n in range(3)
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    given = ["--server", server.address]
    assert main([*given, "items", "upsert", str(file)]) == 0
    assert capsys.readouterr().out == "3 applied\n"
    assert main([*given, "--json", "items", "upsert", str(file)]) == 0
    assert json.loads(capsys.readouterr().out) == {"unchanged": 3}
    assert main([*given, "items", "get", "file-1"]) == 0
    assert {"title: Filed", "n: 1.0", "update_time: 2025-06-01 00:00:00 UTC"} <= set(
        capsys.readouterr().out.splitlines()
    )
    assert main([*given, "items", "list"]) == 0
    assert "file-2  Filed" in capsys.readouterr().out.splitlines()
    assert main([*given, "items", "delete", "file-2", "nobody"]) == 0
    assert capsys.readouterr().out == "file-2: deleted\nnobody: not found\n"
    lines[1] = {**lines[1], "price": -1, "update_time": "2025-07-01T00:00:00Z", "title": "Worse"}
    lines[0] = {**lines[0], "update_time": "2025-07-01T00:00:00Z", "title": "Worse"}
    file.write_text("\n\n".join(map(json.dumps, lines)))
    assert main([*given, "items", "upsert", str(file)]) == 1
    said = capsys.readouterr().err
    assert "line 3: item.price" in said
    assert said.endswith("tidings: nothing was taken\n")
    lines[2] = {**lines[2], "price": -1}
    file.write_text("\n\n".join(map(json.dumps, lines)))
    assert main([*given, "items", "upsert", str(file)]) == 1
    assert "line 3: item.price must be a number of 0 or more; and so in lines 5\n" in capsys.readouterr().err
    # All that is wrong is named, by the server and by the client.
    file.write_text(json.dumps(lines[2]) + '\n{"item_id": "x"}\nnonsense\n')
    assert main([*given, "items", "upsert", str(file)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in told] == [" line 1", " line 2", " line 3", " nothing was taken"]
    assert main([*given, "items", "upsert", str(tmp_path / "none.jsonl")]) == 1
    assert f"cannot read {tmp_path / 'none.jsonl'}" in capsys.readouterr().err
    file.write_text('{"item_id": "x"}\n')
    assert main([*given, "items", "upsert", str(file)]) == 1
    assert "line 1: the line lacks 'update_time'" in capsys.readouterr().err
    assert main([*given, "items", "get", "file-0"]) == 0
    assert "title: Filed" in capsys.readouterr().out
