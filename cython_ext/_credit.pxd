"""C-level interface of the regular CCR and CCA, for other compiled modules."""

from libc.stdint cimport uint64_t


cdef class Speaker:
    cdef bint by_group
    cdef bint reduce_uris
    cdef int tgpp
    cdef bint failures_decide
    cdef dict places
    cdef dict heads


cdef class Asked:
    cdef str session_id
    cdef object number
    cdef bytes head
    cdef bint tgpp
    cdef bint failures_decide
    cdef readonly list keys
    cdef list echoes

    cdef tuple echo(self, object key)


cdef class RegularCredit:
    cdef object charging_request, service_request, units_type, quota_key, identity, rating_context
    cdef object no_reason, normalise, reason_of, context_of, speaker_of, success, terminate
    cdef dict request_kinds, reasons, contexts, speakers, denials
    cdef tuple identity_kinds

    cdef tuple services(self, list groups, Speaker speaker, Asked asked, bint* vendor_members)
    cdef object service(self, list members, Speaker speaker, list found, list echoes, bint* vendor_members)
    cdef object units(self, list members, list reasons, int* octets_code)
    cdef tuple identities(self, list subscriptions, object user_name, Speaker speaker)


cpdef bytes digest_of(list charged)
