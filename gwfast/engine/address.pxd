# Addresses of clients: 16 bytes (IPv4 as ::ffff:a.b.c.d), their text, and the networks that are trusted.
from libc.stdint cimport uint8_t, uint32_t
from gwfast.engine.sys cimport sockaddr_storage

cdef enum:
    ADDRESS_TEXT = 46      # INET6_ADDRSTRLEN

cdef void raw_address(const sockaddr_storage *address, uint8_t *raw) noexcept nogil
cdef void address_text(const uint8_t *raw, char *text, uint8_t *n) noexcept nogil
cdef void text_address(const char *text, uint8_t *raw) noexcept nogil      # all zero where it is none

cdef struct Network:
    uint8_t address[16]
    uint8_t bits

cdef class Networks:
    cdef Network *networks
    cdef uint32_t count
    cdef bint has(self, const uint8_t *raw) noexcept
