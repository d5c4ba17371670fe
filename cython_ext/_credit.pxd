"""C-level interface of the regular CCR and CCA, for other compiled modules."""

from cython_ext._avp cimport Message


cpdef object read_ccr(Message message)
cpdef object write_cca(Message message, str session_id, bytes head, object request_number, object services)
