"""What must hold for every sequence of bytes that may be a ClientHello. libFuzzer calls fuzz_one(); see ci/fuzz.

Rules: the first byte says where the input is cut, the rest is what arrives. Everything is read from copies of their exact
size. What was read is written again as records of another size: it must read the same.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcmp, memcpy
from gwfast.tls.client_hello cimport *


cdef void must(bint holds, const char *what) noexcept nogil:
    if not holds:
        fprintf(stderr, b"broken: %s\n", what)
        abort()


cdef int peek(const uint8_t *at, uint32_t n, Hello *hello) noexcept nogil:
    cdef uint8_t *exact = <uint8_t *>malloc(n)
    cdef int result
    memcpy(exact, at, n)
    result = hello_peek(exact, n, hello)
    free(exact)
    must(-ALERT_UNRECOGNIZED_NAME <= result <= <int>n and result <= HELLO_MOST, b"result")
    return result


cdef void check(const Hello *hello) noexcept nogil:
    cdef uint32_t i
    cdef char c
    must(hello.name_n <= NAME_MOST and hello.legacy >= 0x0300 and (hello.version == 0 or hello.version >> 8 == 3), b"numbers")
    must(hello.offers == 0 or hello.offers & OFFER_ANY, b"offers")
    for i in range(hello.name_n):
        c = hello.name[i]
        must(b'a' <= c <= b'z' or b'0' <= c <= b'9' or c == b'-' or c == b'_' or c == b'.', b"name")
        must(c != b'.' or (0 < i < hello.name_n - 1u and hello.name[i - 1] != b'.'), b"labels")


# Writes the message of these records as records of `size` bytes; returns where they end, or 0 where that is too large.
cdef uint32_t recut(const uint8_t *at, uint32_t n, uint32_t size, uint8_t *to, uint32_t most) noexcept nogil:
    cdef uint32_t i = 0
    cdef uint32_t left = 0
    cdef uint32_t room = 0
    cdef uint32_t end = 0
    cdef uint32_t head = 0
    while i < n:
        if left == 0:
            left = <uint32_t>at[i + 3] << 8 | at[i + 4]
            i += 5
        if room == 0:
            room = size
            head = end
            end += 5
        if end >= most:
            return 0
        to[end] = at[i]
        end += 1
        i += 1
        left -= 1
        room -= 1
        memcpy(to + head, b"\x16\x03\x03", 3)
        to[head + 3] = <uint8_t>((end - head - 5) >> 8)
        to[head + 4] = <uint8_t>(end - head - 5)
    return end


cdef void read_again(const uint8_t *at, uint32_t n, uint32_t size, const Hello *hello) noexcept nogil:
    cdef uint8_t *to = <uint8_t *>malloc(HELLO_MOST)
    cdef uint32_t end = recut(at, n, size, to, HELLO_MOST)
    cdef Hello other
    if end:
        must(peek(to, end, &other) == <int>end, b"other records")
        must(memcmp(&other, hello, sizeof(Hello)) == 0, b"the same in other records")
    free(to)


cdef int fuzz_one(const uint8_t *data, size_t size) noexcept nogil:
    cdef Hello hello
    cdef Hello part
    cdef uint32_t n, cut
    cdef int whole, first
    if size < 2:
        return 0
    n = <uint32_t>(size - 1)
    cut = <uint32_t>(<uint64_t>data[0] * n // 255)
    whole, first = peek(data + 1, n, &hello), peek(data + 1, cut, &part)
    must(first == HELLO_PARTIAL or first == whole, b"split")
    if whole > 0:
        check(&hello)
        read_again(data + 1, <uint32_t>whole, 1 + (data[0] & 63), &hello)
    return 0


target = <size_t>&fuzz_one
