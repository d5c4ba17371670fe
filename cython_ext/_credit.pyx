# cython: language_level=3, binding=True
"""The regular CCR and CCA of a session, compiled: what nearly all messages of a gateway look like, in one pass each.

The readable twin is the general path, `protocols.diameter.credit_control` and `credit_control_answers`, whose behaviour
is the truth: whatever is not wholly regular is left to it by returning `None`. The numbers of AVPs below stand also in
the dictionary; a test compares them (`CODES`).

A leaf: of ours it knows only the decoded message of `_avp`. All AVPs that it is shown come from that decoder, so that
the types of their values are those of the dictionary.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from cython_ext._avp cimport Message

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

# AVPs of the IETF.
cdef enum:
    USER_NAME = 1
    ACCT_MULTI_SESSION_ID = 50
    EVENT_TIMESTAMP = 55
    AUTH_APPLICATION_ID = 258
    ACCT_APPLICATION_ID = 259
    VENDOR_SPECIFIC_APPLICATION_ID = 260
    SESSION_ID = 263
    ORIGIN_HOST = 264
    RESULT_CODE = 268
    ORIGIN_STATE_ID = 278
    DESTINATION_REALM = 283
    DESTINATION_HOST = 293
    TERMINATION_CAUSE = 295
    ORIGIN_REALM = 296
    CC_CORRELATION_ID = 411
    CC_INPUT_OCTETS = 412
    CC_MONEY = 413
    CC_OUTPUT_OCTETS = 414
    CC_REQUEST_NUMBER = 415
    CC_REQUEST_TYPE = 416
    CC_SERVICE_SPECIFIC_UNITS = 417
    CC_SUB_SESSION_ID = 419
    CC_TIME = 420
    CC_TOTAL_OCTETS = 421
    FINAL_UNIT_INDICATION = 430
    GRANTED_SERVICE_UNIT = 431
    RATING_GROUP = 432
    REQUESTED_ACTION = 436
    REQUESTED_SERVICE_UNIT = 437
    SERVICE_IDENTIFIER = 439
    SERVICE_PARAMETER_INFO = 440
    SUBSCRIPTION_ID = 443
    SUBSCRIPTION_ID_DATA = 444
    USED_SERVICE_UNIT = 446
    VALIDITY_TIME = 448
    FINAL_UNIT_ACTION = 449
    SUBSCRIPTION_ID_TYPE = 450
    MULTIPLE_SERVICES_INDICATOR = 455
    MULTIPLE_SERVICES_CREDIT_CONTROL = 456
    USER_EQUIPMENT_INFO = 458
    SERVICE_CONTEXT_ID = 461
    USER_EQUIPMENT_INFO_EXTENSION = 653
    SUBSCRIPTION_ID_EXTENSION = 659

# AVPs of 3GPP.
cdef enum:
    TGPP = 10415
    TIME_QUOTA_THRESHOLD = 868
    VOLUME_QUOTA_THRESHOLD = 869
    REPORTING_REASON = 872
    SERVICE_INFORMATION = 873
    UNIT_QUOTA_THRESHOLD = 1226
    SMS_INFORMATION = 2000
    REFUND_INFORMATION = 2022
    AOC_REQUEST_TYPE = 2055

CODES = {
    "User-Name": USER_NAME,
    "Acct-Multi-Session-Id": ACCT_MULTI_SESSION_ID,
    "Event-Timestamp": EVENT_TIMESTAMP,
    "Auth-Application-Id": AUTH_APPLICATION_ID,
    "Acct-Application-Id": ACCT_APPLICATION_ID,
    "Vendor-Specific-Application-Id": VENDOR_SPECIFIC_APPLICATION_ID,
    "Session-Id": SESSION_ID,
    "Origin-Host": ORIGIN_HOST,
    "Result-Code": RESULT_CODE,
    "Origin-State-Id": ORIGIN_STATE_ID,
    "Destination-Realm": DESTINATION_REALM,
    "Destination-Host": DESTINATION_HOST,
    "Termination-Cause": TERMINATION_CAUSE,
    "Origin-Realm": ORIGIN_REALM,
    "CC-Correlation-Id": CC_CORRELATION_ID,
    "CC-Input-Octets": CC_INPUT_OCTETS,
    "CC-Money": CC_MONEY,
    "CC-Output-Octets": CC_OUTPUT_OCTETS,
    "CC-Request-Number": CC_REQUEST_NUMBER,
    "CC-Request-Type": CC_REQUEST_TYPE,
    "CC-Service-Specific-Units": CC_SERVICE_SPECIFIC_UNITS,
    "CC-Sub-Session-Id": CC_SUB_SESSION_ID,
    "CC-Time": CC_TIME,
    "CC-Total-Octets": CC_TOTAL_OCTETS,
    "Final-Unit-Indication": FINAL_UNIT_INDICATION,
    "Granted-Service-Unit": GRANTED_SERVICE_UNIT,
    "Rating-Group": RATING_GROUP,
    "Requested-Action": REQUESTED_ACTION,
    "Requested-Service-Unit": REQUESTED_SERVICE_UNIT,
    "Service-Identifier": SERVICE_IDENTIFIER,
    "Service-Parameter-Info": SERVICE_PARAMETER_INFO,
    "Subscription-Id": SUBSCRIPTION_ID,
    "Subscription-Id-Data": SUBSCRIPTION_ID_DATA,
    "Used-Service-Unit": USED_SERVICE_UNIT,
    "Validity-Time": VALIDITY_TIME,
    "Final-Unit-Action": FINAL_UNIT_ACTION,
    "Subscription-Id-Type": SUBSCRIPTION_ID_TYPE,
    "Multiple-Services-Indicator": MULTIPLE_SERVICES_INDICATOR,
    "Multiple-Services-Credit-Control": MULTIPLE_SERVICES_CREDIT_CONTROL,
    "User-Equipment-Info": USER_EQUIPMENT_INFO,
    "Service-Context-Id": SERVICE_CONTEXT_ID,
    "User-Equipment-Info-Extension": USER_EQUIPMENT_INFO_EXTENSION,
    "Subscription-Id-Extension": SUBSCRIPTION_ID_EXTENSION,
    "Time-Quota-Threshold": TIME_QUOTA_THRESHOLD,
    "Volume-Quota-Threshold": VOLUME_QUOTA_THRESHOLD,
    "Reporting-Reason": REPORTING_REASON,
    "Service-Information": SERVICE_INFORMATION,
    "Unit-Quota-Threshold": UNIT_QUOTA_THRESHOLD,
    "SMS-Information": SMS_INFORMATION,
    "Refund-Information": REFUND_INFORMATION,
    "AoC-Request-Type": AOC_REQUEST_TYPE,
}
"""Name and code of every AVP that is known here."""

cdef enum:
    CREDIT_CONTROL_APPLICATION = 4
    SUBSCRIPTION_TYPES = 5
    HEADER_OCTETS = 20
    FLAG_PROXIABLE = 0x40
    FLAG_MANDATORY = 0x40
    FLAG_VENDOR = 0x80
    SUCCESS = 2001
    ANSWER_OCTETS_MAX = 4096
    SERVICE_OCTETS_MAX = 120  # of one MSCC without its Service-Identifiers: 8 + (8 + 16) + 12 + 12 + 12 + 20 + 16
    IDENTIFIER_OCTETS = 12

# Bits of the AVPs that stand once in a command; the last eight must be there.
cdef enum:
    SEEN_OTHER = 0
    SEEN_DESTINATION_HOST
    SEEN_USER_NAME
    SEEN_ACCT_MULTI_SESSION_ID
    SEEN_ORIGIN_STATE_ID
    SEEN_EVENT_TIMESTAMP
    SEEN_SERVICE_IDENTIFIER
    SEEN_TERMINATION_CAUSE
    SEEN_REQUESTED_ACTION
    SEEN_MULTIPLE_SERVICES_INDICATOR
    SEEN_CC_CORRELATION_ID
    SEEN_USER_EQUIPMENT_INFO
    SEEN_USER_EQUIPMENT_INFO_EXTENSION
    SEEN_AOC_REQUEST_TYPE
    SEEN_SERVICE_INFORMATION
    SEEN_SESSION_ID
    SEEN_ORIGIN_HOST
    SEEN_ORIGIN_REALM
    SEEN_DESTINATION_REALM
    SEEN_AUTH_APPLICATION_ID
    SEEN_SERVICE_CONTEXT_ID
    SEEN_CC_REQUEST_TYPE
    SEEN_CC_REQUEST_NUMBER
    REQUIRED = 0xFF << SEEN_SESSION_ID


cpdef object read_ccr(Message message):
    """The facts of a regular CCR, `None` for any other.

    `(session_id, origin_host, origin_realm, service_context_id, request_type, request_number, event_timestamp_s or None,
    origin_state_id, ((type, data), ...), user_name or None, services, charged, vendor_members)`. A service is
    `(rating_group or None, service_identifiers, requested or None, used, reasons)`, units are `(total, input, output,
    time_s, service_specific)` with `None` for what is absent; `reasons` has those in the group before those in its used
    units. `charged` are the AVPs that `content_digest` covers, in their order; `vendor_members`: an MSCC holds an AVP of
    3GPP.
    """
    if message.errors:
        return None
    cdef object session_id = None, origin_host = None, origin_realm = None, context = None
    cdef object request_type = None, request_number = None, event_timestamp = None, user_name = None, value
    cdef object origin_state_id = 0
    cdef list subscriptions = [], services = [], charged = []
    cdef uint32_t seen = 0, bit
    cdef uint64_t key
    cdef bint vendor_members = False
    cdef tuple avp, found
    for avp in message.avps:
        key = <uint64_t>avp[0]
        value = avp[2]
        bit = SEEN_OTHER
        if key >> 32 == 0:
            if key == SESSION_ID:
                bit, session_id = SEEN_SESSION_ID, value
            elif key == ORIGIN_HOST:
                bit, origin_host = SEEN_ORIGIN_HOST, value
            elif key == ORIGIN_REALM:
                bit, origin_realm = SEEN_ORIGIN_REALM, value
            elif key == DESTINATION_REALM:
                bit = SEEN_DESTINATION_REALM
            elif key == DESTINATION_HOST:
                bit = SEEN_DESTINATION_HOST
            elif key == AUTH_APPLICATION_ID:
                if <uint32_t>value != CREDIT_CONTROL_APPLICATION:
                    return None
                bit = SEEN_AUTH_APPLICATION_ID
            elif key == SERVICE_CONTEXT_ID:
                charged.append(avp)
                bit, context = SEEN_SERVICE_CONTEXT_ID, value
            elif key == CC_REQUEST_TYPE:
                bit, request_type = SEEN_CC_REQUEST_TYPE, value
            elif key == CC_REQUEST_NUMBER:
                bit, request_number = SEEN_CC_REQUEST_NUMBER, value
            elif key == ORIGIN_STATE_ID:
                bit, origin_state_id = SEEN_ORIGIN_STATE_ID, value
            elif key == EVENT_TIMESTAMP:
                bit, event_timestamp = SEEN_EVENT_TIMESTAMP, value
            elif key == USER_NAME:
                bit, user_name = SEEN_USER_NAME, value
            elif key == SUBSCRIPTION_ID:
                found = subscription(<list>value)
                if found is None:
                    return None
                subscriptions.append(found)
            elif key == MULTIPLE_SERVICES_CREDIT_CONTROL:
                charged.append(avp)
                found = service(<list>value, &vendor_members)
                if found is None:
                    return None
                services.append(found)
            elif key == MULTIPLE_SERVICES_INDICATOR:
                bit = SEEN_MULTIPLE_SERVICES_INDICATOR
            elif key == SERVICE_IDENTIFIER:
                charged.append(avp)
                bit = SEEN_SERVICE_IDENTIFIER
            elif key == REQUESTED_ACTION:
                charged.append(avp)
                bit = SEEN_REQUESTED_ACTION
            elif key == TERMINATION_CAUSE:
                bit = SEEN_TERMINATION_CAUSE
            elif key == USER_EQUIPMENT_INFO:
                bit = SEEN_USER_EQUIPMENT_INFO
            elif key == USER_EQUIPMENT_INFO_EXTENSION:
                bit = SEEN_USER_EQUIPMENT_INFO_EXTENSION
            elif key == CC_CORRELATION_ID:
                bit = SEEN_CC_CORRELATION_ID
            elif key == ACCT_MULTI_SESSION_ID:
                bit = SEEN_ACCT_MULTI_SESSION_ID
            elif (
                key == REQUESTED_SERVICE_UNIT
                or key == USED_SERVICE_UNIT
                or key == SUBSCRIPTION_ID_EXTENSION
                or key == ACCT_APPLICATION_ID
                or key == VENDOR_SPECIFIC_APPLICATION_ID
                or key == SERVICE_PARAMETER_INFO
                or key == CC_SUB_SESSION_ID
            ):
                return None
        elif key >> 32 == TGPP:
            key &= 0xFFFFFFFF
            if key == SERVICE_INFORMATION:
                if holds(<list>value, SMS_INFORMATION):
                    return None
                charged.append(avp)
                bit = SEEN_SERVICE_INFORMATION
            elif key == AOC_REQUEST_TYPE:
                bit = SEEN_AOC_REQUEST_TYPE
            elif key == REFUND_INFORMATION:
                return None
        if bit != SEEN_OTHER:
            if seen & (1U << bit):
                return None
            seen |= 1U << bit
    if seen & REQUIRED != REQUIRED or not session_id or not origin_host or not origin_realm:
        return None
    return (
        session_id, origin_host, origin_realm, context, request_type, request_number, event_timestamp, origin_state_id,
        subscriptions, user_name, services, charged, vendor_members,
    )


cdef bint holds(list avps, uint32_t code) except -1:
    """Whether an AVP of 3GPP stands in a group."""
    cdef tuple avp
    cdef uint64_t wanted = (<uint64_t>TGPP << 32) | code
    for avp in avps:
        if <uint64_t>avp[0] == wanted:
            return True
    return False


cdef tuple subscription(list members):
    cdef tuple avp
    cdef uint64_t key
    cdef object kind = None, data = None
    for avp in members:
        key = <uint64_t>avp[0]
        if key == SUBSCRIPTION_ID_TYPE and kind is None:
            kind = avp[2]
        elif key == SUBSCRIPTION_ID_DATA and data is None:
            data = avp[2]
    if kind is None or not data or not 0 <= kind < SUBSCRIPTION_TYPES:
        return None
    return (kind, data)


cdef tuple service(list members, bint* vendor_members):
    """One MSCC, `None` if it is not regular."""
    cdef tuple avp, requested = None, found
    cdef uint64_t key
    cdef object rating_group = None
    cdef list used = None, identifiers = None, reasons = [], inner = []
    for avp in members:
        key = <uint64_t>avp[0]
        if key >> 32 == TGPP:
            vendor_members[0] = True
            key &= 0xFFFFFFFF
            if key == REPORTING_REASON:
                reasons.append(avp[2])
            elif key == REFUND_INFORMATION:
                return None
        elif key == RATING_GROUP:
            if rating_group is not None:
                return None
            rating_group = avp[2]
        elif key == SERVICE_IDENTIFIER:
            if identifiers is None:
                identifiers = []
            identifiers.append(avp[2])
        elif key == REQUESTED_SERVICE_UNIT:
            if requested is not None:
                return None
            # Reasons are no part of what is requested.
            requested = units(<list>avp[2], None)
            if requested is None:
                return None
        elif key == USED_SERVICE_UNIT:
            found = units(<list>avp[2], inner)
            if found is None:
                return None
            if used is None:
                used = []
            used.append(found)
    if inner:
        reasons += inner
    return (
        rating_group, () if identifiers is None else tuple(identifiers), requested, () if used is None else used, reasons
    )


cdef tuple units(list members, list reasons):
    """A Requested- or Used-Service-Unit, `None` if it states an amount twice or in money."""
    cdef tuple avp
    cdef uint64_t key
    cdef object total = None, uplink = None, downlink = None, time_s = None, specific = None
    for avp in members:
        key = <uint64_t>avp[0]
        if key == CC_TOTAL_OCTETS:
            if total is not None:
                return None
            total = avp[2]
        elif key == CC_INPUT_OCTETS:
            if uplink is not None:
                return None
            uplink = avp[2]
        elif key == CC_OUTPUT_OCTETS:
            if downlink is not None:
                return None
            downlink = avp[2]
        elif key == CC_TIME:
            if time_s is not None:
                return None
            time_s = avp[2]
        elif key == CC_SERVICE_SPECIFIC_UNITS:
            if specific is not None:
                return None
            specific = avp[2]
        elif key == CC_MONEY:
            return None
        elif reasons is not None and key == (<uint64_t>TGPP << 32 | REPORTING_REASON):
            reasons.append(avp[2])
    return (total, uplink, downlink, time_s, specific)


cdef inline unsigned char* put32(unsigned char* at, uint32_t number) noexcept nogil:
    at[0] = <unsigned char>(number >> 24)
    at[1] = <unsigned char>(number >> 16)
    at[2] = <unsigned char>(number >> 8)
    at[3] = <unsigned char>number
    return at + 4


cdef inline unsigned char* put_head(unsigned char* at, uint32_t code, uint32_t length) noexcept nogil:
    return put32(put32(at, code), (<uint32_t>FLAG_MANDATORY << 24) | length)


cdef inline unsigned char* put_number(unsigned char* at, uint32_t code, uint32_t number) noexcept nogil:
    return put32(put_head(at, code, 12), number)


cdef inline uint32_t at_most_32(object number) except? 0:
    """As the general path: a number that is too large is written as the largest."""
    cdef uint64_t wide = number
    return <uint32_t>wide if wide < 0xFFFFFFFFU else 0xFFFFFFFFU


cpdef object write_cca(Message message, str session_id, bytes head, object request_number, object services):
    """The CCA to a regular CCR: header, Session-Id, `head`, CC-Request-Number, services, Proxy-Infos; `None` if too long.

    `head` are the ready AVPs from Result-Code to CC-Request-Type. A service is `(rating_group or None,
    service_identifiers, code of the granted unit or 0, granted, validity_s or None, final_action or None, code of the
    threshold or 0, threshold)`; its Result-Code is 2001.
    """
    cdef unsigned char[ANSWER_OCTETS_MAX] octets
    cdef unsigned char* at = octets + HEADER_OCTETS
    cdef unsigned char* group
    cdef unsigned char* inner
    cdef Py_ssize_t size, padding, bound
    cdef const char* text = PyUnicode_AsUTF8AndSize(session_id, &size)
    cdef tuple one
    cdef bytes proxy_info
    cdef uint32_t code
    cdef uint64_t wide
    # Everything that is written below is counted here first, at its longest.
    bound = HEADER_OCTETS + 8 + size + 3 + PyBytes_GET_SIZE(head) + 12
    for one in services:
        bound += SERVICE_OCTETS_MAX + IDENTIFIER_OCTETS * len(<tuple>one[1])
    for proxy_info in message.proxy_infos:
        bound += PyBytes_GET_SIZE(proxy_info)
    if bound > ANSWER_OCTETS_MAX:
        return None

    at = put_head(at, SESSION_ID, <uint32_t>(8 + size))
    memcpy(at, text, size)
    at += size
    padding = -size & 3
    memset(at, 0, padding)
    at += padding
    memcpy(at, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
    at += PyBytes_GET_SIZE(head)
    at = put_number(at, CC_REQUEST_NUMBER, request_number)
    for rating_group, identifiers, unit, granted, validity_s, final_action, threshold_code, threshold in services:
        group = at
        at += 8
        code = unit
        if code:
            inner = at
            at += 8
            if code == CC_TIME:
                at = put_number(at, code, at_most_32(granted))
            else:
                wide = granted
                at = put_head(at, code, 16)
                at = put32(put32(at, <uint32_t>(wide >> 32)), <uint32_t>wide)
            put_head(inner, GRANTED_SERVICE_UNIT, <uint32_t>(at - inner))
        for identifier in <tuple>identifiers:
            at = put_number(at, SERVICE_IDENTIFIER, identifier)
        if rating_group is not None:
            at = put_number(at, RATING_GROUP, rating_group)
        if validity_s is not None:
            at = put_number(at, VALIDITY_TIME, at_most_32(validity_s))
        at = put_number(at, RESULT_CODE, SUCCESS)
        if final_action is not None:
            at = put_head(at, FINAL_UNIT_INDICATION, 20)
            at = put_number(at, FINAL_UNIT_ACTION, final_action)
        code = threshold_code
        if code:
            at = put32(put32(at, code), ((<uint32_t>FLAG_VENDOR | FLAG_MANDATORY) << 24) | 16)
            at = put32(put32(at, TGPP), at_most_32(threshold))
        put_head(group, MULTIPLE_SERVICES_CREDIT_CONTROL, <uint32_t>(at - group))
    for proxy_info in message.proxy_infos:
        memcpy(at, PyBytes_AS_STRING(proxy_info), PyBytes_GET_SIZE(proxy_info))
        at += PyBytes_GET_SIZE(proxy_info)

    size = at - octets
    put32(octets, (1U << 24) | <uint32_t>size)
    put32(octets + 4, ((message.flags & <uint32_t>FLAG_PROXIABLE) << 24) | message.command)
    put32(octets + 8, message.application)
    put32(octets + 12, message.hop_by_hop)
    put32(octets + 16, message.end_to_end)
    return PyBytes_FromStringAndSize(<char*>octets, size)
