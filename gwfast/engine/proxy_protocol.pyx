"""The PROXY protocol, versions 1 and 2 (see proxy_protocol.pxd)."""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy, strlen

from gwfast.engine.sys cimport AF_INET, AF_INET6, inet_ntop, inet_pton

cdef enum:
    V1_MOST = 107


cdef int parse_proxy(const char *at, size_t n, char *address, uint8_t *address_n) noexcept nogil:
    address_n[0] = 0
    if n and at[0] == 13:
        return version2(at, n, address, address_n)
    return version1(at, n, address, address_n)


cdef int version2(const char *at, size_t n, char *address, uint8_t *address_n) noexcept nogil:
    cdef const uint8_t *bytes = <const uint8_t *>at
    cdef size_t length
    cdef uint8_t family
    if memcmp(at, b"\r\n\r\n\x00\r\nQUIT\n", n if n < 12 else 12) != 0:
        return -1
    if n < 16:
        return 0
    if bytes[12] != 0x20 and bytes[12] != 0x21:
        return -1
    length = (<size_t>bytes[14] << 8) | bytes[15]
    if length + 16 > PROXY_MOST:
        return -1
    if n < 16 + length:
        return 0
    if bytes[12] == 0x20:          # LOCAL: a health check of the proxy itself
        return <int>(16 + length)
    family = bytes[13]
    if family == 0x11:
        if length < 12:
            return -1
        name(AF_INET, at + 16, address, address_n)
    elif family == 0x21:
        if length < 36:
            return -1
        name(AF_INET6, at + 16, address, address_n)
    # What else there is (2.2: AF_UNIX, UNSPEC, datagrams, what is not assigned) says nothing that we could use: as nginx and
    # HAProxy do, the connection keeps its own addresses. TLVs behind the addresses are skipped.
    return <int>(16 + length)


cdef void name(int family, const void *from_, char *address, uint8_t *address_n) noexcept nogil:
    if inet_ntop(family, from_, address, PROXY_ROOM) != NULL:
        address_n[0] = <uint8_t>strlen(address)


cdef int version1(const char *at, size_t n, char *address, uint8_t *address_n) noexcept nogil:
    # PROXY TCP4|TCP6 source destination sport dport CRLF
    cdef const char *end
    cdef const char *words[6]
    cdef uint32_t lengths[6]
    cdef uint32_t count = 0, i, begin = 6, line
    cdef char room[PROXY_ROOM]
    cdef uint8_t raw[16]
    cdef int family
    if memcmp(at, b"PROXY ", n if n < 6 else 6) != 0:
        return -1
    end = <const char *>memchr(at, 13, n if n < V1_MOST else V1_MOST)
    if end == NULL:
        return -1 if n >= V1_MOST else 0
    line = <uint32_t>(end - at)
    if line + 1 >= n:
        return 0
    if end[1] != 10:
        return -1
    if line >= 13 and memcmp(at + 6, b"UNKNOWN", 7) == 0 and (line == 13 or at[13] == 32):
        return <int>line + 2
    for i in range(6, line + 1):
        if i == line or at[i] == 32:
            if count == 5 or i == begin:
                return -1
            words[count] = at + begin
            lengths[count] = i - begin
            count += 1
            begin = i + 1
    if count != 5 or lengths[0] != 4 or memcmp(words[0], b"TCP", 3) != 0:
        return -1
    if words[0][3] == c"4":
        family = AF_INET
    elif words[0][3] == c"6":
        family = AF_INET6
    else:
        return -1
    for i in range(2, 0, -1):      # the destination is only checked; the source is kept
        if lengths[i] >= PROXY_ROOM:
            return -1
        memcpy(room, words[i], lengths[i])
        room[lengths[i]] = 0
        if inet_pton(family, room, raw) != 1:
            return -1
    if not port(words[3], lengths[3]) or not port(words[4], lengths[4]):
        return -1
    name(family, raw, address, address_n)
    return <int>line + 2


cdef bint port(const char *at, uint32_t n) noexcept nogil:
    cdef uint32_t i, value = 0
    if n == 0 or n > 5 or (n > 1 and at[0] == 48):
        return False
    for i in range(n):
        if at[i] < 48 or at[i] > 57:
            return False
        value = value * 10 + <uint32_t>(at[i] - 48)
    return value <= 65535


def parse(bytes data not None):
    """Parse a header: (length, source address or ''), or None where more bytes are needed; ValueError where it is none."""
    cdef char address[PROXY_ROOM]
    cdef uint8_t n
    cdef int result = parse_proxy(data, len(data), address, &n)
    if result < 0:
        raise ValueError("not a PROXY header")
    return (result, address[:n].decode()) if result else None
