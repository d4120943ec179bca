"""Addresses of clients (see address.pxd)."""
import ipaddress

cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset, strlen

from gwfast.engine.sys cimport AF_INET, AF_INET6, inet_ntop, inet_pton, sockaddr_in, sockaddr_in6, sockaddr_storage


cdef void raw_address(const sockaddr_storage *address, uint8_t *raw) noexcept nogil:
    memset(raw, 0, 16)
    if address.ss_family == AF_INET:
        raw[10] = raw[11] = 255
        memcpy(raw + 12, &(<const sockaddr_in *>address).sin_addr, 4)
    elif address.ss_family == AF_INET6:
        memcpy(raw, &(<const sockaddr_in6 *>address).sin6_addr, 16)


cdef void address_text(const uint8_t *raw, char *text, uint8_t *n) noexcept nogil:
    if memcmp(raw, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
        inet_ntop(AF_INET, raw + 12, text, ADDRESS_TEXT)
    else:
        inet_ntop(AF_INET6, raw, text, ADDRESS_TEXT)
    n[0] = <uint8_t>strlen(text)


cdef void text_address(const char *text, uint8_t *raw) noexcept nogil:
    memset(raw, 0, 16)
    if inet_pton(AF_INET, text, raw + 12) == 1:
        raw[10] = raw[11] = 255
    elif inet_pton(AF_INET6, text, raw) != 1:
        memset(raw, 0, 16)


@cython.final
@cython.no_gc
cdef class Networks:
    """CIDRs, tested one after the other: an operator names few. Raises ValueError for what is none."""

    def __cinit__(self, cidrs):
        cdef uint32_t i
        parsed = [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs]
        self.networks = <Network *>calloc(len(parsed) + 1, sizeof(Network))
        if self.networks == NULL:
            raise MemoryError
        for i, network in enumerate(parsed):
            packed = network.network_address.packed
            bits = network.prefixlen
            if network.version == 4:
                packed = bytes(10) + b"\xff\xff" + packed
                bits += 96
            memcpy(self.networks[i].address, <char *>packed, 16)
            self.networks[i].bits = bits
        self.count = len(parsed)

    def __dealloc__(self):
        free(self.networks)

    cdef bint has(self, const uint8_t *raw) noexcept:
        cdef uint32_t i, whole
        cdef Network *network
        for i in range(self.count):
            network = self.networks + i
            whole = network.bits // 8
            if memcmp(network.address, raw, whole) == 0 and (
                    network.bits % 8 == 0 or (network.address[whole] ^ raw[whole]) >> (8 - network.bits % 8) == 0):
                return True
        return False
