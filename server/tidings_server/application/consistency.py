"""Consistency tokens: what a write gives, and a read that carries one is sure to see that write."""

from tidings_core.errors import Conflict, InvalidInput
from tidings_server.application.store import Store

_VERSION = "1"


def write_token(store: Store) -> str:
    """The token of everything that is on disk by now."""
    return f"{_VERSION}.{store.epoch}.{store.position}"


def check_token(store: Store, token: str, field: str = "consistency_token") -> None:
    """See that a read from `store` shows the write that a token is of; "" is of none.

    A write is acknowledged after reads see it, so it is enough that the store has come so far. Raises InvalidInput for
    what is no token, Conflict when the write is not in this store.
    """
    if not token:
        return
    version, _, rest = token.partition(".")
    epoch, _, number = rest.rpartition(".")
    if version != _VERSION or not epoch or not (number.isascii() and number.isdigit() and len(number) < 20):
        raise InvalidInput((field, "is no token of this server: give the one that RecordEvents returned, unchanged"))
    if epoch != store.epoch:
        raise Conflict(f"{field} is of another history than this server's: what was written then is not here")
    if int(number) > store.position:
        raise Conflict(f"{field} is of event {number}, and this server has {store.position}: its state was set back")
