"""URLs as a bot writes them: which of them can be asked at all."""

from urllib.parse import urlsplit


def names_a_host(url: str) -> bool:
    """Whether a URL names a host, and a port that there can be.

    Libraries tell of one that does not in many ways, and of some only once they connect.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:  # a UnicodeError, of the host's labels, is one
        return False
    return bool(host) and port != 0
