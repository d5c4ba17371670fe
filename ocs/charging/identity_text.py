"""One spelling per identity, whoever writes it: the gateway in a request, or the operator in a command (CC-016)."""

from __future__ import annotations

import re

from ocs.charging.requests import Identity

KINDS = ("e164", "imsi", "nai", "sip", "private", "username")
"""Kinds of identity, in the default order of preference (CC-014)."""

MAX_IDENTITY_CHARACTERS = 253
"""Longest identity that is looked up; a longer one is no identity of ours."""

_SEPARATORS = str.maketrans("", "", " -.()")
_DIGITS = re.compile(r"\d{1,20}", re.ASCII)
_URI = re.compile(r"(sips?|tel):([^@;?]+)(?:@([^;?]*))?(.*)", re.IGNORECASE | re.DOTALL)


def normalise(kind: str, value: str, reduce_uris: bool = False) -> Identity | None:
    """The identity under which a subscriber is provisioned and found; `None` if the text cannot be one of its kind.

    E.164: digits only, an optional leading `+` and visual separators dropped. IMSI: digits. NAI and SIP URI: the part
    after the last `@` in lower case, as is the URI's scheme. Others: as written, without surrounding blanks. With
    `reduce_uris` the SIP and TEL URIs of E.164 and SIP identities are cut to their user part: a telephone number
    becomes an E.164 identity.
    """
    text = value.strip()
    if not text or len(text) > MAX_IDENTITY_CHARACTERS:
        return None
    if reduce_uris and kind in ("e164", "sip"):
        kind, text = _reduced(kind, text)
    if kind == "e164":
        return _digits(kind, text.removeprefix("+").translate(_SEPARATORS))
    if kind == "imsi":
        return _digits(kind, text)
    if kind in ("nai", "sip"):
        text = _lower_domain(text)
    return Identity(kind, text)


def _digits(kind: str, text: str) -> Identity | None:
    return Identity(kind, text) if _DIGITS.fullmatch(text) else None


def _reduced(kind: str, text: str) -> tuple[str, str]:
    match = _URI.fullmatch(text)
    if match is None:
        return kind, text
    scheme, user, _host, parameters = match.groups()
    telephone = scheme.lower() == "tel" or user.startswith("+") or "user=phone" in parameters.lower()
    # A SIP user of digits alone may be an IMSI or a local name: only the marks above make it a telephone number.
    return ("e164" if telephone else kind), user


def _lower_domain(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in ("sip", "sips", "tel"):
        text = f"{scheme.lower()}:{rest}"
    user, at, domain = text.rpartition("@")
    return f"{user}@{domain.lower()}" if at else text
