"""URLs as a bot writes them: which of them can be asked at all."""

from urllib.parse import urlsplit

import httpx


def names_a_host(url: str) -> bool:
    """Whether a URL names a host, and a port that there can be.

    Libraries tell of one that does not in many ways, and of some only once they connect.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode("idna"), parts.port
    except ValueError:  # a UnicodeError, of the host's labels, is one
        return False
    return bool(host) and port != 0


async def only_to_hosts(request: httpx.Request) -> None:
    """A hook of httpx, which calls it for redirects, too.

    Raises httpx.InvalidURL for a URL that names no host.
    """
    if not names_a_host(str(request.url)):
        raise httpx.InvalidURL("the URL names no host")
