"""The HTTP listener tells machines how the server is."""

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from tidings_core.errors import InUse, InvalidInput
from tidings_server.settings import Address
from tidings_server.transport.http import HttpListener

ANY = Address("127.0.0.1", 0)


async def get(address: Address, path: str) -> tuple[int, str]:
    """Status and body."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as answer:
        return answer.status, await answer.text()


async def test_readiness_says_why_not() -> None:
    """503 with the reason until there is none; liveness does not care."""
    reasons = ["no release is serving"]
    listener = HttpListener(CollectorRegistry(), lambda: reasons[0])
    address = await listener.start(ANY)
    assert await get(address, "/readyz") == (503, "no release is serving\n")
    assert await get(address, "/livez") == (200, "ok\n")
    reasons[0] = ""
    assert await get(address, "/readyz") == (200, "ok\n")
    assert (await get(address, "/elsewhere"))[0] == 404
    await listener.close()


async def test_metrics_are_prometheus_text() -> None:
    """What is registered is scraped."""
    registry = CollectorRegistry()
    Counter("cakes_total", "Cakes baked.", registry=registry).inc(3)
    listener = HttpListener(registry, lambda: "")
    address = await listener.start(ANY)
    status, body = await get(address, "/metrics")
    assert status == 200
    assert "cakes_total 3.0" in body
    await listener.close()


async def test_an_address_in_use_is_named() -> None:
    """The second listener on a port is refused."""
    first, second = (HttpListener(CollectorRegistry(), lambda: "") for _ in range(2))
    address = await first.start(ANY)
    with pytest.raises(InUse, match=f"http: {address} is in use"):
        await second.start(address)
    await second.close()
    await first.close()


async def test_an_address_of_another_machine_is_refused() -> None:
    """An address that cannot be had is named with the system's reason."""
    listener = HttpListener(CollectorRegistry(), lambda: "")
    with pytest.raises(InvalidInput, match=r"http: 192\.0\.2\.1:1 cannot be listened on"):
        await listener.start(Address("192.0.2.1", 1))
    await listener.close()
