"""Which addresses a data set may be downloaded from, and how one is shown."""

import re
from urllib.parse import urlsplit

FORM = "https://HOST/FOLDER/"


def objection(address: str) -> str | None:
    """Say what is wrong with a mirror's address, without repeating it; None if it is good.

    A name or password in it is refused: it would be kept with the run and shown in messages.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "not a web address"
    if "@" in address:
        return "a user's name or password in the address"
    if parts.scheme not in ("https", "http") or not host or not address.isprintable():
        return "not a web address"
    if parts.query or parts.fragment or " " in address:
        return "not the address of a folder"
    return None


def shown(address: str) -> str:
    """The address without what may be secret: a user's name, a password, a query."""
    return re.sub(r"[?#].*", "?…", re.sub(r"^.*@", "…@", address, flags=re.DOTALL))
