# What the fields of a head say together about the body's length and the connection (RFC 9110 7.6, 7.8, 8.6; RFC 9112 6).
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from gwfast.http.head cimport Field, Slice

cdef enum:
    CONNECTION_OPTIONS = 32       # of one head: each is looked for among all fields

cdef struct Notes:
    uint64_t content_length
    uint8_t minor
    uint8_t has_host
    uint8_t has_length
    uint8_t chunked
    uint8_t close
    uint8_t keep_alive
    uint8_t wants_upgrade      # Connection: upgrade
    uint8_t upgrades           # Upgrade fields
    uint8_t named              # Connection names other fields
    uint8_t expect
    uint8_t trailers
    Slice upgrade
    uint32_t options

cdef void clear(Notes *notes) noexcept nogil

# Takes down a field that the gateway acts on, in a request or a response, and flags it if it is hop-by-hop. 0 or BAD_*.
cdef int note(Field *field, Notes *notes) noexcept nogil

# Why note() refused this field (Why).
cdef uint8_t why_noted(const Field *field, const Notes *notes) noexcept nogil

# Flags the fields that Connection names, once all are known.
cdef void mark_named(Field *fields, uint32_t count) noexcept nogil

# Whether the fields ask for an upgrade that the gateway may pass on.
cdef bint wants_upgrade(const Notes *notes) noexcept nogil

# Whether a field is between neighbours by its name (FieldId).
cdef bint is_hop(uint16_t id) noexcept nogil

# Whether a name says who asks what of whom, or how long it is: what Connection must not name and trailers must not have.
cdef bint is_guarded(const char *name, uint32_t n) noexcept nogil
