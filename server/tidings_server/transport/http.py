"""The small HTTP listener: /metrics for Prometheus, /livez and /readyz for whoever starts and watches the process."""

import errno
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from tidings_core.errors import InUse, InvalidInput
from tidings_server.settings import Address

NotReady = Callable[[], str]
"""Why the server is not ready, "" when it is."""


class HttpListener:
    """Serves /metrics, /livez and /readyz until closed."""

    def __init__(self, registry: CollectorRegistry, not_ready: NotReady) -> None:
        """`/readyz` answers 200, or 503 with the reason that `not_ready` gives."""
        self._registry = registry
        self._not_ready = not_ready
        app = web.Application()
        app.add_routes(
            [web.get("/metrics", self._metrics), web.get("/livez", self._live), web.get("/readyz", self._ready)]
        )
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, address: Address) -> Address:
        """Listen, and return the address with its real port. Raises InUse or InvalidInput."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, address.host, address.port).start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InUse(
                    f"http: {address} is in use by another process: stop it, or name another address"
                ) from error
            raise InvalidInput(("http", f"{address} cannot be listened on: {error.strerror}")) from error
        return address.with_port(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        reason = self._not_ready()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)
