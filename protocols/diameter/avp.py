"""The AVP codec with the dictionary in it: compiled, or with `OCS_PURE=1` in the environment its readable twin.

A decoded AVP is `(key, flags, value)`; the value by type:

| type | value |
|---|---|
| Unsigned32, Unsigned64, Integer32, Integer64, Enumerated | `int` |
| OctetString | `bytes` |
| UTF8String, DiameterIdentity, DiameterURI, IPFilterRule | `str` |
| Address | `(family, text)` for families 1 (IPv4), 2 (IPv6, RFC 5952) and 8 (E.164), otherwise `(family, octets)` |
| Time | `int` UTC seconds since 1970 |
| Grouped | `list` of decoded AVPs |

3GPP-Charging-Id is an `int` if it has four octets and `bytes` otherwise; SMSC-Address, Originator-SCCP-Address and
Recipient-SCCP-Address are `(0, octets)` where they are no Address (docs/requirements/avps.md, "Conflicts").
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from protocols.diameter.dictionary import codec_rows
from protocols.diameter.errors import AvpError, LocalProtocolError

if TYPE_CHECKING or os.environ.get("OCS_PURE") == "1":
    from protocols.diameter._avp_reference import Codec, Message, every, first, firsts, result_code_of, whole_messages
else:
    try:
        from cython_ext._avp import Codec, Message, every, first, firsts, result_code_of, whole_messages
    except ImportError as error:
        raise ImportError(
            "the compiled AVP codec cython_ext._avp is missing: build it with `pip install -e .`, "
            "or set OCS_PURE=1 to run the slow readable codec"
        ) from error

__all__ = [
    "AvpError",
    "Codec",
    "Message",
    "check_grammar",
    "decode_message",
    "encode_avp",
    "encode_message",
    "every",
    "first",
    "firsts",
    "result_code_of",
    "same_identity",
    "whole_messages",
]

_codec = Codec(codec_rows(), AvpError, LocalProtocolError)
decode_message = _codec.decode_message
encode_avp = _codec.encode_avp
encode_message = _codec.encode_message
check_grammar = _codec.check_grammar


def same_identity(one: str, other: str) -> bool:
    """Compare two DiameterIdentity values, in which a-z and A-Z are equal (RFC 6733 §4.3.1, DB-063)."""
    return one.lower() == other.lower()
