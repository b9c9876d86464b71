"""Whether an address can be listened on, asked of the system before a front takes it."""

import errno
import os
import socket
from typing import Any

from tidings_core.errors import InUse, InvalidInput
from tidings_server.settings import Address


def check_free(address: Address) -> None:
    """Raise InUse when any address that the name stands for is taken, InvalidInput when none can be listened on.

    gRPC is content when one of several is free, and says only in its log what the others failed for.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InvalidInput(("listen", f"{address}: {address.host} is not known: {error.strerror}")) from error
    problems = [_problem(family, where) for family, _, _, _, where in found]
    if errno.EADDRINUSE in problems:
        raise InUse(f"listen: {address} is in use by another process: stop it, or name another with --listen")
    if all(problems):
        raise InvalidInput(("listen", f"{address} cannot be listened on: {os.strerror(problems[0])}"))


def _problem(family: int, where: Any) -> int:
    """The error number of listening on a socket address, 0 when it can be done."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(where)
            probe.listen(1)
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0
