"""The ClientHello, peeked at: which name, which protocols, which versions (see client_hello.pxd).

Rules
- The records are walked first, then the message is read over their seams: nothing is copied but the name.
- Every length must fill exactly what encloses it; what follows the message in its last record is refused, since nothing may
  (RFC 8446 5.1). An extension that is looked at may be there once (RFC 8446 4.2).
- One name of type host_name, of letters, digits, '-' and '_' in labels of 1 to 63, no final dot (RFC 6066 3).
- It is read again from the start when more bytes came: a walk over the records, no state.
- What refuses it is the alert that RFC 8446 asks for, and where that leaves a choice OpenSSL's.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memset

cdef enum:
    RECORD = 5                 # the head of a record
    RECORD_MOST = 16384        # RFC 8446 5.1
    ALERT = 21                 # types of records
    HANDSHAKE = 22
    FATAL = 2
    CLIENT_HELLO = 1
    MESSAGE = 4                # the head of a message
    SHORTEST = 2 + 32 + 1 + 4 + 2
    LABEL_MOST = 63
    SERVER_NAME = 0            # extensions (RFC 8446 4.2)
    ALPN = 16
    SUPPORTED_VERSIONS = 43
    SSL_2 = 0x80               # in the first byte of a record: the length is in what is left of it and the next one

# By their numbers (RFC 8446 6), for people.
ALERTS = {
    ALERT_UNEXPECTED_MESSAGE: "unexpected_message", ALERT_RECORD_OVERFLOW: "record_overflow",
    ALERT_HANDSHAKE_FAILURE: "handshake_failure", ALERT_ILLEGAL_PARAMETER: "illegal_parameter",
    ALERT_DECODE_ERROR: "decode_error", ALERT_PROTOCOL_VERSION: "protocol_version",
    ALERT_MISSING_EXTENSION: "missing_extension", ALERT_UNRECOGNIZED_NAME: "unrecognized_name",
}

# Where reading is: `at` to `end` are left of this record, `left` of the message over all records, which are all there.
# `alert` is what refuses the part that is read now, where that is not well-formed.
cdef struct Cursor:
    const uint8_t *at
    const uint8_t *end
    uint32_t left
    int alert


cdef int hello_peek(const uint8_t *at, uint32_t n, Hello *hello) noexcept nogil:
    cdef Cursor cursor
    cdef int whole = walk(at, n)
    memset(hello, 0, sizeof(Hello))
    if whole <= 0:
        return whole
    cursor.at = at + RECORD
    cursor.end = cursor.at + record_length(at)
    cursor.left = MESSAGE
    cursor.alert = ALERT_DECODE_ERROR
    skip(&cursor, 1)
    cursor.left = <uint32_t>take(&cursor, 3)
    return whole if read_message(&cursor, hello) else -cursor.alert


cdef void put_alert(uint8_t *to, int alert, uint16_t version) noexcept nogil:
    cdef uint8_t minor = 3 if version == 0 or version > 0x0303 else <uint8_t>version
    to[0], to[1], to[2], to[3], to[4], to[5], to[6] = ALERT, 3, minor, 0, 2, FATAL, <uint8_t>alert


cdef inline uint32_t record_length(const uint8_t *at) noexcept nogil:
    return <uint32_t>at[3] << 8 | at[4]


# Why no record of a handshake begins here, as far as its first bytes tell; HELLO_PARTIAL: one may.
cdef int judge(const uint8_t *at, uint32_t begin, uint32_t n) noexcept nogil:
    if begin < n and at[begin] != HANDSHAKE:
        if begin or not at[0] & SSL_2:
            return -ALERT_UNEXPECTED_MESSAGE
        if n < 3:
            return HELLO_PARTIAL
        return -ALERT_PROTOCOL_VERSION if at[2] == CLIENT_HELLO else -ALERT_UNEXPECTED_MESSAGE
    if begin + 1 < n and at[begin + 1] != 3:
        return -ALERT_PROTOCOL_VERSION
    return HELLO_PARTIAL


# Walks the records of the message: where it ends, or as hello_peek(). Each byte is judged as soon as it is there.
cdef int walk(const uint8_t *at, uint32_t n) noexcept nogil:
    cdef uint32_t begin = 0        # of the record
    cdef uint32_t had = 0          # of the message, its head included
    cdef uint32_t size = 0         # of the message, as far as its head is known
    cdef uint32_t length, i
    cdef int wrong
    while True:
        wrong = judge(at, begin, n)
        if wrong or begin + RECORD > n:
            return wrong
        length = record_length(at + begin)
        if length == 0:
            return -ALERT_UNEXPECTED_MESSAGE
        if length > RECORD_MOST:
            return -ALERT_RECORD_OVERFLOW
        begin += RECORD
        for i in range(min(length, <uint32_t>MESSAGE)):
            if had + i >= MESSAGE:
                break
            if begin + i >= n:
                return HELLO_PARTIAL
            if had + i == 0 and at[begin] != CLIENT_HELLO:
                return -ALERT_UNEXPECTED_MESSAGE
            size = size << 8 | (at[begin + i] if had + i else 0)
        had += length
        if had >= MESSAGE:
            if size < SHORTEST:
                return -ALERT_DECODE_ERROR
            if had > size + MESSAGE:
                return -ALERT_UNEXPECTED_MESSAGE   # something follows it
            if size + MESSAGE - had + begin + length > HELLO_MOST:
                return -ALERT_ILLEGAL_PARAMETER
            if had == size + MESSAGE:
                return <int>(begin + length) if begin + length <= n else HELLO_PARTIAL
        elif begin + length > HELLO_MOST:
            return -ALERT_ILLEGAL_PARAMETER
        begin += length


# The next n bytes as a number, n <= 3; -1 where the message, or the part that is read, has not so many.
cdef int take(Cursor *cursor, uint32_t n) noexcept nogil:
    cdef int value = 0
    if n > cursor.left:
        return -1
    cursor.left -= n
    while n:
        if cursor.at == cursor.end:
            cursor.end = cursor.at + RECORD + record_length(cursor.at)
            cursor.at += RECORD
        value = value << 8 | cursor.at[0]
        cursor.at += 1
        n -= 1
    return value


cdef bint skip(Cursor *cursor, uint32_t n) noexcept nogil:
    cdef uint32_t step
    if n > cursor.left:
        return False
    cursor.left -= n
    while n:
        if cursor.at == cursor.end:
            cursor.end = cursor.at + RECORD + record_length(cursor.at)
            cursor.at += RECORD
        step = min(n, <uint32_t>(cursor.end - cursor.at))
        cursor.at += step
        n -= step
    return True


# Goes into a part whose length is in the next `size` bytes and shows how much is behind it; -1: there is less. The part is
# read until nothing of it is left, then leave() goes on with what is behind.
cdef int enter(Cursor *cursor, uint32_t size) noexcept nogil:
    cdef int length = take(cursor, size)
    cdef int behind
    if length < 0 or <uint32_t>length > cursor.left:
        return -1
    behind = <int>cursor.left - length
    cursor.left = <uint32_t>length
    return behind


cdef inline bint leave(Cursor *cursor, int behind) noexcept nogil:
    if cursor.left:
        return False
    cursor.left = <uint32_t>behind
    return True


cdef bint read_message(Cursor *cursor, Hello *hello) noexcept nogil:
    cdef int length
    cdef int version = take(cursor, 2)
    if version < 0x0300:                       # whoever says so means it (RFC 8446 4.1.2, appendix D.5)
        cursor.alert = ALERT_PROTOCOL_VERSION
        return False
    if not skip(cursor, 32):
        return False
    hello.legacy = <uint16_t>version
    hello.version = <uint16_t>min(version, 0x0303)     # without the extension no higher one is offered (RFC 8446 4.2.1)
    length = take(cursor, 1)                   # session id
    if length < 0 or length > 32 or not skip(cursor, <uint32_t>length):
        return False
    length = take(cursor, 2)                   # cipher suites
    if length < 2 or length & 1 or not skip(cursor, <uint32_t>length):
        return False
    length = take(cursor, 1)                   # compression methods
    if length < 1 or not skip(cursor, <uint32_t>length):
        return False
    if cursor.left == 0:                       # TLS 1.2 may be without extensions (RFC 5246 7.4.1.2)
        return True
    return enter(cursor, 2) == 0 and read_extensions(cursor, hello)


cdef bint read_extensions(Cursor *cursor, Hello *hello) noexcept nogil:
    cdef uint32_t seen = 0
    cdef int type, behind
    cdef bint good
    while cursor.left:
        type = take(cursor, 2)
        behind = enter(cursor, 2)
        if type < 0 or behind < 0:
            return False
        if type != SERVER_NAME and type != ALPN and type != SUPPORTED_VERSIONS:
            skip(cursor, cursor.left)
        elif seen & (1u << (type & 31)):
            cursor.alert = ALERT_ILLEGAL_PARAMETER
            return False
        else:
            seen |= 1u << (type & 31)
            if type == SERVER_NAME:
                good = read_names(cursor, hello)
            elif type == ALPN:
                good = read_offers(cursor, hello)
            else:
                good = read_versions(cursor, hello)
            if not good:
                return False
        if not leave(cursor, behind):
            return False
    return True


cdef bint read_names(Cursor *cursor, Hello *hello) noexcept nogil:
    if enter(cursor, 2) != 0 or take(cursor, 1) != 0 or enter(cursor, 2) != 0:
        return False
    return read_name(cursor, hello)


cdef bint read_name(Cursor *cursor, Hello *hello) noexcept nogil:
    cdef uint32_t n = cursor.left
    cdef uint32_t label = 0
    cdef uint32_t i
    cdef uint8_t c
    if n == 0:
        return False
    cursor.alert = ALERT_UNRECOGNIZED_NAME
    if n > NAME_MOST:
        return False
    for i in range(n):
        c = <uint8_t>take(cursor, 1)
        if b'A' <= c <= b'Z':
            c |= 32
        if c == b'.':
            if label == 0:
                return False
            label = 0
        elif b'a' <= c <= b'z' or b'0' <= c <= b'9' or c == b'-' or c == b'_':
            label += 1
            if label > LABEL_MOST:
                return False
        else:
            return False
        hello.name[i] = <char>c
    if label == 0:
        return False
    hello.name_n = <uint8_t>n
    cursor.alert = ALERT_DECODE_ERROR
    return True


cdef bint read_offers(Cursor *cursor, Hello *hello) noexcept nogil:
    cdef int behind
    if enter(cursor, 2) != 0 or cursor.left == 0:
        return False
    hello.offers |= OFFER_ANY
    while cursor.left:
        behind = enter(cursor, 1)
        if behind < 0 or cursor.left == 0:
            return False
        hello.offers |= read_offer(cursor)
        leave(cursor, behind)
    return True


cdef uint8_t read_offer(Cursor *cursor) noexcept nogil:
    cdef char word[10]
    cdef uint32_t n = cursor.left
    cdef uint32_t i
    if n > sizeof(word):
        skip(cursor, n)
        return 0
    for i in range(n):
        word[i] = <char>take(cursor, 1)
    if n == 2 and memcmp(word, b"h2", 2) == 0:
        return OFFER_H2
    if n == 8 and memcmp(word, b"http/1.1", 8) == 0:
        return OFFER_HTTP1
    if n == 10 and memcmp(word, b"acme-tls/1", 10) == 0:
        return OFFER_ACME
    return 0


# The highest of supported_versions that is one of TLS (RFC 8446 4.2.1): all others, which are there to be ignored, are.
cdef bint read_versions(Cursor *cursor, Hello *hello) noexcept nogil:
    cdef int version
    if enter(cursor, 1) != 0 or cursor.left == 0 or cursor.left & 1:
        return False
    hello.version = 0
    while cursor.left:
        version = take(cursor, 2)
        if 0x0300 <= version <= 0x0304 and version > hello.version:
            hello.version = <uint16_t>version
    return True


def hello_at(size_t address, uint32_t n):
    """Read a ClientHello that lies at an address: a dict of its parts, or the name of the alert that refuses it ('': partial)."""
    cdef Hello hello
    result = hello_peek(<const uint8_t *>address, n, &hello)
    if result <= 0:
        return ALERTS[-result] if result else ""
    return {"length": result, "name": hello.name[:hello.name_n].decode("ascii"), "legacy": hello.legacy,
            "version": hello.version,
            "offers": {word for word, bit in (("any", OFFER_ANY), ("h2", OFFER_H2), ("http/1.1", OFFER_HTTP1),
                                              ("acme-tls/1", OFFER_ACME)) if hello.offers & bit}}


def hello_of(data: bytes):
    """Read a ClientHello: as hello_at()."""
    return hello_at(<size_t><const char *>data, <uint32_t>len(data))


def alert_of(int alert, uint16_t version) -> bytes:
    """Write an alert: see put_alert()."""
    cdef uint8_t room[ALERT_BYTES]
    put_alert(room, alert, version)
    return room[:ALERT_BYTES]
