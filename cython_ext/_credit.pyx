# cython: language_level=3, binding=True
"""The regular CCR and CCA of a session, compiled: what nearly all messages of a gateway look like, in one pass each.

The readable twin is the general path, `ocs.servers.gy` over `protocols.diameter.credit_control` and
`credit_control_answers`, whose behaviour is the truth: whatever is not wholly regular is left to it by returning `None`.
The numbers of AVPs below stand also in the dictionary; a test compares them (`CODES`).

A leaf: of ours it knows only the decoded message of `_avp`, and is given the types that it makes. All AVPs that it is
shown come from that decoder, so that the types of their values are those of the dictionary.
"""

cimport cython
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check
from cpython.long cimport PyLong_Check

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from cython_ext._avp cimport Message

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    unsigned long long PyLong_AsUnsignedLongLongMask(object number) except? 0xFFFFFFFFFFFFFFFF

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
    DIGIT_TYPES = 2  # types of Subscription-Id that are digits: E.164 and IMSI
    DIGITS_MAX = 20
    HEADER_OCTETS = 20
    FLAG_PROXIABLE = 0x40
    FLAG_MANDATORY = 0x40
    FLAG_VENDOR = 0x80
    SUCCESS = 2001
    ANSWER_OCTETS_MAX = 4096
    SERVICE_OCTETS_MAX = 120  # of one MSCC without its Service-Identifiers: 8 + (8 + 16) + 12 + 12 + 12 + 20 + 16
    IDENTIFIER_OCTETS = 12

# Kinds of units, numbered as the engine does.
cdef enum:
    MONEY = 0
    OCTETS
    SECONDS
    EVENTS

cdef enum:
    AS_SEEN = -1  # whether the client speaks 3GPP's dialect is found from the message

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


cdef uint64_t DIGEST_START = 0x9E3779B97F4A7C15


cdef inline uint64_t mixed(uint64_t state, uint64_t word) noexcept nogil:
    state = (state ^ word) * <uint64_t>0x9E3779B97F4A7C15
    return state ^ (state >> 32)


cdef uint64_t mixed_octets(uint64_t state, const char* octets, Py_ssize_t size) noexcept nogil:
    cdef uint64_t word
    state = mixed(state, <uint64_t>size)
    while size >= 8:
        memcpy(&word, octets, 8)
        state = mixed(state, word)
        octets += 8
        size -= 8
    if size:
        word = 0
        memcpy(&word, octets, size)
        state = mixed(state, word)
    return state


cdef uint64_t mixed_value(uint64_t state, object value) except? 0:
    cdef Py_ssize_t size
    cdef const char* text
    cdef double number
    cdef uint64_t word
    if PyLong_Check(value):
        return mixed(state, PyLong_AsUnsignedLongLongMask(value))
    if isinstance(value, str):
        text = PyUnicode_AsUTF8AndSize(value, &size)
        return mixed_octets(state, text, size)
    if isinstance(value, bytes):
        return mixed_octets(state, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    if isinstance(value, list):
        return mixed_avps(state, <list>value)
    if PyFloat_Check(value):
        number = PyFloat_AS_DOUBLE(value)
        memcpy(&word, &number, 8)
        return mixed(state, word)
    # An Address: family, and text or octets.
    return mixed_value(mixed_value(state, (<tuple?>value)[0]), (<tuple>value)[1])


cdef uint64_t mixed_avp(uint64_t state, tuple avp) except? 0:
    state = mixed(mixed(state, <uint64_t>avp[0]), <uint64_t>avp[1])
    return mixed_value(state, avp[2])


cdef uint64_t mixed_avps(uint64_t state, list avps) except? 0:
    # Nested no deeper than the decoder nests them.
    cdef tuple avp
    state = mixed(state, <uint64_t>len(avps))
    for avp in avps:
        state = mixed_avp(state, avp)
    return state


cdef bytes folded(uint64_t state):
    cdef unsigned char[4] octets
    put32(octets, <uint32_t>(state ^ (state >> 32)))
    return PyBytes_FromStringAndSize(<char*>octets, 4)


cpdef bytes digest_of(list charged):
    """Four octets over AVPs; the readable twin is `protocols.diameter.content_digest`."""
    cdef uint64_t state = DIGEST_START
    cdef tuple avp
    for avp in charged:
        state = mixed_avp(state, avp)
    return folded(state)


@cython.final
cdef class Speaker:
    """How one gateway speaks."""

    def __init__(self, by_group, reduce_uris, tgpp, failures_decide, dict places, dict heads):
        """`by_group`: quota is by Rating-Group alone where there is one. `tgpp`: whether it speaks 3GPP's dialect;
        `None`: found from each message. `failures_decide`: denials may change the command's code. `places` has the rank
        of each kind of identity that is used. `heads` has, by CC-Request-Type, the ready AVPs of an answer from
        Result-Code to CC-Request-Type; without them its answers are not regular.
        """
        self.failures_decide = failures_decide
        self.by_group = by_group
        self.reduce_uris = reduce_uris
        self.tgpp = AS_SEEN if tgpp is None else <bint>tgpp
        self.places = places
        self.heads = heads


@cython.final
@cython.freelist(64)
cdef class Asked:
    """What the answer to a regular request repeats."""

    cdef tuple echo(self, object key):
        """What the MSCC of a key was: `(rating_group or None, service_identifiers, code for octets)`."""
        cdef Py_ssize_t place
        for place in range(len(self.keys)):
            if self.keys[place] is key or self.keys[place] == key:
                return <tuple>self.echoes[place]
        return None


@cython.final
cdef class RegularCredit:
    """Reads regular CCRs as the engine's requests, and writes its regular outcomes as CCAs.

    `types` are those of the engine: `charging_request, service_request, units, quota_key, identity`, called with their
    members in order, and `rating_context`, called with the AVPs. `request_kinds` by CC-Request-Type (those of a session
    only), `identity_kinds` by Subscription-Id-Type, `reasons` by Reporting-Reason. `normalise(kind, text, reduce_uris)`,
    `reason_of(numbers)`, `context_of(service_context_id)` and `speaker_of(origin_host)` are asked where no short answer
    is known; the last two may put what they find into `contexts` and `speakers`. `success` and `terminate` are the
    engine's result and final action that are written here, `denials` the codes of other results of a key.
    """

    def __init__(
        self, types, dict request_kinds, tuple identity_kinds, dict reasons, no_reason, normalise, reason_of,
        dict contexts, context_of, dict speakers, speaker_of, success, terminate, dict denials,
    ):
        (
            self.charging_request, self.service_request, self.units_type, self.quota_key, self.identity,
            self.rating_context,
        ) = types
        self.request_kinds = request_kinds
        self.identity_kinds = identity_kinds
        self.reasons = reasons
        self.no_reason = no_reason
        self.normalise = normalise
        self.reason_of = reason_of
        self.contexts = contexts
        self.context_of = context_of
        self.speakers = speakers
        self.speaker_of = speaker_of
        self.success = success
        self.terminate = terminate
        self.denials = denials

    def read(self, Message message not None):
        """`(request, asked)` of a regular CCR, `None` for any other."""
        cdef object session_id = None, origin_host = None, origin_realm = None, context_id = None
        cdef object request_type = None, request_number = None, event_timestamp = None, user_name = None, value
        cdef object origin_state_id = 0, context, kind
        cdef list subscriptions = [], groups = []
        cdef uint32_t seen = 0, bit
        cdef uint64_t key, digest = DIGEST_START
        cdef bint vendor_members = False, opening
        cdef tuple avp, services, identities
        cdef Speaker speaker
        cdef Asked asked
        if message.errors:
            return None
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
                    digest = mixed_avp(digest, avp)
                    bit, context_id = SEEN_SERVICE_CONTEXT_ID, value
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
                    subscriptions.append(value)
                elif key == MULTIPLE_SERVICES_CREDIT_CONTROL:
                    digest = mixed_avp(digest, avp)
                    groups.append(value)
                elif key == MULTIPLE_SERVICES_INDICATOR:
                    bit = SEEN_MULTIPLE_SERVICES_INDICATOR
                elif key == SERVICE_IDENTIFIER:
                    digest = mixed_avp(digest, avp)
                    bit = SEEN_SERVICE_IDENTIFIER
                elif key == REQUESTED_ACTION:
                    digest = mixed_avp(digest, avp)
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
                    digest = mixed_avp(digest, avp)
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
        kind = self.request_kinds.get(request_type)
        if kind is None:
            return None
        opening = <int>request_type == 1
        if opening and not subscriptions and not user_name:
            return None
        context = self.contexts.get(context_id)
        if context is None:
            context = self.context_of(context_id)
            if context is None:
                return None
        value = self.speakers.get(origin_host)
        speaker = self.speaker_of(origin_host) if value is None else value

        asked = Asked.__new__(Asked)
        services = self.services(groups, speaker, asked, &vendor_members)
        if services is None:
            return None
        identities = self.identities(subscriptions, user_name, speaker)
        if identities is None:
            return None
        asked.session_id = session_id
        asked.number = request_number
        asked.head = speaker.heads.get(request_type)
        asked.failures_decide = speaker.failures_decide
        asked.tgpp = speaker.tgpp != 0
        if speaker.tgpp == AS_SEEN:
            asked.tgpp = vendor_members or (<str>context_id).lower().endswith("@3gpp.org")
        return (
            self.charging_request(
                session_id, kind, request_number, origin_host, origin_realm, context, services, identities, None,
                None if event_timestamp is None else event_timestamp * 1_000_000, origin_state_id,
                self.rating_context(message.avps), None, None, folded(digest),
            ),
            asked,
        )

    cdef tuple services(self, list groups, Speaker speaker, Asked asked, bint* vendor_members):
        """The engine's requests for all MSCCs, `None` unless each is regular and has a key of its own."""
        cdef list found = [], keys = [], echoes = [], members
        cdef object key
        for members in groups:
            key = self.service(members, speaker, found, echoes, vendor_members)
            if key is None or key in keys:
                return None
            keys.append(key)
        asked.keys = keys
        asked.echoes = echoes
        return tuple(found)

    cdef object service(self, list members, Speaker speaker, list found, list echoes, bint* vendor_members):
        """Add one MSCC and return its key; `None` if it is not regular."""
        cdef tuple avp, identifiers = ()
        cdef uint64_t number
        cdef object rating_group = None, requested = None, units, key, reason
        cdef list used = [], several = None, reasons = [], inner = []
        cdef int octets_code = CC_TOTAL_OCTETS, ignored = 0
        for avp in members:
            number = <uint64_t>avp[0]
            if number >> 32 == TGPP:
                vendor_members[0] = True
                number &= 0xFFFFFFFF
                if number == REPORTING_REASON:
                    reasons.append(avp[2])
                elif number == REFUND_INFORMATION:
                    return None
            elif number == RATING_GROUP:
                if rating_group is not None:
                    return None
                rating_group = avp[2]
            elif number == SERVICE_IDENTIFIER:
                if several is None:
                    several = []
                several.append(avp[2])
            elif number == REQUESTED_SERVICE_UNIT:
                # Reasons are no part of what is requested.
                if requested is not None:
                    return None
                requested = self.units(<list>avp[2], None, &octets_code)
                if requested is None:
                    return None
            elif number == USED_SERVICE_UNIT:
                units = self.units(<list>avp[2], inner, &ignored)
                if units is None:
                    return None
                used.append(units)
        if several is not None:
            identifiers = tuple(dict.fromkeys(several))
        if speaker.by_group and rating_group is not None:
            key = self.quota_key(rating_group)
        else:
            key = self.quota_key(rating_group, tuple(sorted(identifiers)))
        reasons += inner
        if not reasons:
            reason = self.no_reason
        elif len(reasons) > 1:
            reason = self.reason_of(reasons)
        else:
            reason = self.reasons.get(reasons[0])
            if reason is None:
                reason = self.reason_of(reasons)
        found.append(self.service_request(key, requested, tuple(used), reason))
        echoes.append((rating_group, identifiers, octets_code))
        return key

    cdef object units(self, list members, list reasons, int* octets_code):
        """A Requested- or Used-Service-Unit, `None` if it states an amount twice or in money.

        `octets_code` becomes that of the one direction that is stated without a total (CC-068).
        """
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
        if total is None and (uplink is None) != (downlink is None):
            octets_code[0] = CC_OUTPUT_OCTETS if uplink is None else CC_INPUT_OCTETS
        return self.units_type(total, uplink, downlink, time_s, specific)

    cdef tuple identities(self, list subscriptions, object user_name, Speaker speaker):
        """Usable identities, each once, in the profile's order (CC-014); `None` for a Subscription-Id to be judged."""
        cdef list members, found = []
        cdef tuple avp
        cdef uint64_t key
        cdef object number, data, identity, kind, place
        cdef int last = -1, rank
        cdef bint in_order = True
        for members in subscriptions:
            number = data = None
            for avp in members:
                key = <uint64_t>avp[0]
                if key == SUBSCRIPTION_ID_TYPE and number is None:
                    number = avp[2]
                elif key == SUBSCRIPTION_ID_DATA and data is None:
                    data = avp[2]
            if number is None or not data or not 0 <= number < SUBSCRIPTION_TYPES:
                return None
            kind = self.identity_kinds[<int>number]
            if <int>number < DIGIT_TYPES and is_digits(data):
                identity = self.identity(kind, data)  # nothing to normalise
            else:
                identity = self.normalise(kind, data, speaker.reduce_uris)
                if identity is None:
                    continue
                kind = identity.kind
            place = speaker.places.get(kind)
            if place is not None:
                rank = place
                in_order = in_order and rank > last
                last = rank
                found.append(identity)
        if user_name:
            identity = self.normalise("username", user_name, False)
            place = speaker.places.get("username")
            if identity is not None and place is not None:
                in_order = in_order and <int>place > last
                found.append(identity)
        if not in_order:
            places = speaker.places
            found = sorted(dict.fromkeys(found), key=lambda one: places[one.kind])
        return tuple(found)

    def answer(self, Message message not None, Asked asked not None, outcome):
        """The CCA for a regular outcome, `None` for any other: success, and quota in units or a denial for keys asked.

        Octets as the general path writes them: header, Session-Id, the ready head, CC-Request-Number, MSCCs with their
        members in the order of TS 32.299, Proxy-Infos.
        """
        cdef unsigned char[ANSWER_OCTETS_MAX] octets
        cdef unsigned char* at = octets + HEADER_OCTETS
        cdef unsigned char* group
        cdef unsigned char* inner
        cdef Py_ssize_t size, padding
        cdef const char* text
        cdef bytes proxy_info, head = asked.head
        cdef tuple identifiers, echo
        cdef int kind, code
        cdef uint32_t result_code
        cdef uint64_t wide
        cdef object granted, unit, threshold, final, validity_s, value
        if head is None or outcome.result is not self.success or outcome.enough_credit is not None:
            return None
        text = PyUnicode_AsUTF8AndSize(asked.session_id, &size)
        # Whatever is written goes only where it fits; SERVICE_OCTETS_MAX is an MSCC at its longest.
        if HEADER_OCTETS + 8 + size + 3 + PyBytes_GET_SIZE(head) + 12 > ANSWER_OCTETS_MAX:
            return None
        at = put_head(at, SESSION_ID, <uint32_t>(8 + size))
        memcpy(at, text, size)
        at += size
        padding = -size & 3
        memset(at, 0, padding)
        at += padding
        memcpy(at, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        at += PyBytes_GET_SIZE(head)
        at = put_number(at, CC_REQUEST_NUMBER, asked.number)
        for one in <tuple?>outcome.services:
            if not one.in_group or one.refund_token is not None:
                return None
            final = one.final
            result_code = SUCCESS
            if one.result is not self.success:
                # A denial; what is final stands beside it only by a profile whose answers are not regular.
                value = self.denials.get(one.result)
                if value is None or asked.failures_decide:
                    return None
                result_code = value
                final = None
            elif final is not None and final.action is not self.terminate:
                return None
            echo = asked.echo(one.key)
            if echo is None:
                return None
            identifiers = <tuple>echo[1]
            if octets + ANSWER_OCTETS_MAX - at < SERVICE_OCTETS_MAX + IDENTIFIER_OCTETS * len(identifiers):
                return None
            group = at
            at += 8
            granted, unit, kind = one.granted, one.unit, MONEY
            if granted is not None and unit is not None:
                kind = unit
                if kind == MONEY:
                    return None
                inner = at
                at += 8
                if kind == SECONDS:
                    at = put_number(at, CC_TIME, at_most_32(granted))
                else:
                    code = <int>echo[2] if kind == OCTETS else CC_SERVICE_SPECIFIC_UNITS
                    wide = granted
                    at = put_head(at, <uint32_t>code, 16)
                    at = put32(put32(at, <uint32_t>(wide >> 32)), <uint32_t>wide)
                put_head(inner, GRANTED_SERVICE_UNIT, <uint32_t>(at - inner))
            for identifier in identifiers:
                at = put_number(at, SERVICE_IDENTIFIER, identifier)
            if echo[0] is not None:
                at = put_number(at, RATING_GROUP, echo[0])
            validity_s = one.validity_s
            if validity_s is not None:
                at = put_number(at, VALIDITY_TIME, at_most_32(validity_s))
            at = put_number(at, RESULT_CODE, result_code)
            if final is not None:
                at = put_head(at, FINAL_UNIT_INDICATION, 20)
                at = put_number(at, FINAL_UNIT_ACTION, 0)
            threshold = one.threshold
            if kind != MONEY and asked.tgpp and threshold is not None and threshold < granted:
                code = TIME_QUOTA_THRESHOLD if kind == SECONDS else UNIT_QUOTA_THRESHOLD
                if kind == OCTETS:
                    code = VOLUME_QUOTA_THRESHOLD
                at = put32(put32(at, <uint32_t>code), ((<uint32_t>FLAG_VENDOR | FLAG_MANDATORY) << 24) | 16)
                at = put32(put32(at, TGPP), at_most_32(threshold))
            put_head(group, MULTIPLE_SERVICES_CREDIT_CONTROL, <uint32_t>(at - group))
        for proxy_info in message.proxy_infos:
            if octets + ANSWER_OCTETS_MAX - at < PyBytes_GET_SIZE(proxy_info):
                return None
            memcpy(at, PyBytes_AS_STRING(proxy_info), PyBytes_GET_SIZE(proxy_info))
            at += PyBytes_GET_SIZE(proxy_info)
        size = at - octets
        put32(octets, (1U << 24) | <uint32_t>size)
        put32(octets + 4, ((message.flags & <uint32_t>FLAG_PROXIABLE) << 24) | message.command)
        put32(octets + 8, message.application)
        put32(octets + 12, message.hop_by_hop)
        put32(octets + 16, message.end_to_end)
        return PyBytes_FromStringAndSize(<char*>octets, size)


cdef bint holds(list avps, uint32_t code) except -1:
    """Whether an AVP of 3GPP stands in a group."""
    cdef tuple avp
    cdef uint64_t wanted = (<uint64_t>TGPP << 32) | code
    for avp in avps:
        if <uint64_t>avp[0] == wanted:
            return True
    return False


cdef bint is_digits(object text) except -1:
    """Whether a text is 1 to 20 ASCII digits, which normalising leaves as they are."""
    cdef Py_ssize_t size, place
    cdef const char* octets = PyUnicode_AsUTF8AndSize(text, &size)
    if not 1 <= size <= DIGITS_MAX:
        return False
    for place in range(size):
        if not c"0" <= octets[place] <= c"9":
            return False
    return True
