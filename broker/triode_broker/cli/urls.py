"""The form of URLs in settings. Knows no setting, and not what is found behind a URL."""

from urllib.parse import urlsplit


def is_url(url: str, *schemes: str) -> bool:
    """Whether it has one of these schemes and a host, and nothing that only looks like a part of a URL."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        return False
