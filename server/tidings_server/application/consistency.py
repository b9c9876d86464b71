"""Consistency tokens: what a write gives, and a read that carries one is sure to see that write."""

from tidings_core.errors import Conflict, InvalidInput
from tidings_server.application.store import Store

_VERSION = "1"


def write_token(store: Store) -> str:
    """The token of everything that is on disk by now."""
    return f"{_VERSION}.{store.epoch}.{store.position}.{store.catalogue_position}"


def check_token(store: Store, token: str, field: str = "consistency_token") -> None:
    """See that a read from `store` shows the write that a token is of; "" is of none.

    A write is acknowledged after reads see it, so it is enough that the store has come so far. Raises InvalidInput for
    what is no token, Conflict when the write is not in this store.
    """
    if not token:
        return
    version, _, rest = token.partition(".")
    epoch, *numbers = rest.split(".")
    if version != _VERSION or not epoch or len(numbers) != 2 or not all(map(_is_number, numbers)):
        raise InvalidInput((field, "is no token of this server: give the one that a write returned, unchanged"))
    if epoch != store.epoch:
        raise Conflict(f"{field} is of another history than this server's: what was written then is not here")
    told = (("event", store.position), ("change of the catalogue", store.catalogue_position))
    for number, (what, there) in zip(numbers, told, strict=True):
        if int(number) > there:
            raise Conflict(f"{field} is of {what} {number}, and this server has {there}: its state was set back")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20
