"""Targets and authorities of requests (RFC 3986, RFC 9112 3.2).

Rules: the target that is forwarded is the one that was received; what is matched is its normalised path, so that
no spelling of a path reaches another rule than its plain one. A path that means nothing safe (it climbs above the
root, holds NUL or a backslash, has a broken escape) is refused. Queries are opaque: their escapes are the
backend's, their characters are checked.
"""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp
from gwfast.http.bytes cimport (CHAR_HEX, CHAR_PATH, CHAR_PLAIN, gw_host, gw_host_run, gw_path_end, gw_query_end, hex_value,
                                is_a, lower)
from gwfast.http.head cimport BAD_REQUEST, MAX_HOST, METHOD_OPTIONS, RequestHead, Slice


cdef inline void cut(Slice *slice, const char *at, const char *end) noexcept nogil:
    slice.at = at
    slice.n = <uint32_t>(end - at)


# 'http://' or 'https://' in any case: its length; 0 where it may become one; BAD_REQUEST.
cdef int scheme(const char *at, uint32_t n) noexcept nogil:
    cdef const char *word = b"https://" if n > 4 and lower(at[4]) == b's' else b"http://"
    cdef uint32_t i
    for i in range(n):
        if lower(at[i]) != word[i]:
            return BAD_REQUEST
        if word[i + 1] == 0:
            return <int>i + 1
    return 0


cdef int scan_target(const char *at, uint32_t n, RequestHead *head) noexcept nogil:
    cdef const char *p = at
    cdef const char *stop = at + n
    cdef const char *from_
    cdef int prefix
    cdef int unnormal = 0
    head.absolute = 0
    head.unnormal = 0
    head.query.at = NULL
    head.query.n = 0
    if n and p[0] == b'*':
        cut(&head.target, at, at + 1)
        head.path = head.target
        return 1
    if n and p[0] != b'/':
        prefix = scheme(at, n)
        if prefix < 0:
            return prefix
        head.absolute = 1
        p = at + prefix if prefix else stop
        from_ = p
        while p < stop and p[0] != b'/' and is_a(p[0], CHAR_PATH):
            p += 1
        cut(&head.authority, from_, p)
    from_ = p
    if p < stop and p[0] == b'/':
        p = gw_path_end(p, stop, &unnormal)
        head.unnormal = unnormal != 0
    cut(&head.path, from_, p)
    if p < stop and p[0] == b'?':
        from_ = p + 1
        p = gw_query_end(from_, stop)
        cut(&head.query, from_, p)
    cut(&head.target, at, p)
    return <int>(p - at) if p > at else BAD_REQUEST


cdef int resolve_target(RequestHead *head) noexcept nogil:
    cdef uint32_t port = 0
    head.host.at = head.host_room
    head.host.n = 0
    head.slash_path.at = NULL
    head.slash_path.n = 0
    if head.absolute:
        if parse_authority(&head.authority, head.host_room, &head.host.n, &port):
            return BAD_REQUEST
        if head.path.n == 0:   # RFC 9112 3.2.1 and 3.2.4
            head.path.at = b"*" if head.method_id == METHOD_OPTIONS and head.query.at is NULL else b"/"
            head.path.n = 1
    else:
        head.authority.at = NULL
        head.authority.n = 0
    head.match_path = head.path
    if head.path.at[0] == b'*':
        return 0 if head.method_id == METHOD_OPTIONS else BAD_REQUEST
    return resolve_path(head) if head.unnormal else 0


cdef int resolve_path(RequestHead *head) noexcept nogil:
    cdef bint encoded = False
    cdef int n
    if head.path.n > head.longest:
        return BAD_REQUEST
    n = normalise(head.path.at, head.path.n, head.room, False, &encoded)
    if n < 0:
        return n
    if <uint32_t>n != head.path.n or memcmp(head.room, head.path.at, n) != 0:
        cut(&head.match_path, head.room, head.room + n)
    if encoded:
        n = normalise(head.path.at, head.path.n, head.room + head.longest, True, &encoded)
        if n < 0:
            return n
        cut(&head.slash_path, head.room + head.longest, head.room + head.longest + n)
    return 0


# One segment behind another is written to room[seg..w]; at each separator it is kept, dropped ('.') or dropped with the
# one before ('..'). RFC 3986 5.2.4, after 6.2.2.2 and after '//' became '/' (nginx: merge_slashes).
cdef int normalise(const char *path, uint32_t n, char *room, bint slashes, bint *encoded) noexcept nogil:
    cdef uint32_t i = 1
    cdef uint32_t w = 1
    cdef uint32_t seg = 1
    cdef uint32_t value
    cdef bint separator
    if n == 0 or path[0] != b'/':
        return BAD_REQUEST
    room[0] = b'/'
    while True:
        separator = i == n
        if not separator:
            separator = path[i] == b'/'
            if path[i] == b'%':
                if n - i < 3 or not is_a(path[i + 1], CHAR_HEX) or not is_a(path[i + 2], CHAR_HEX):
                    return BAD_REQUEST
                value = hex_value(path[i + 1]) << 4 | hex_value(path[i + 2])
                if value == 0 or value == 92:
                    return BAD_REQUEST
                i += 2
                if value == 47:
                    encoded[0] = True
                    separator = slashes
                if not separator:
                    w += put_octet(room + w, value)
            elif not separator:
                room[w] = path[i]
                w += 1
        if separator:
            if w - seg == 1 and room[seg] == b'.':
                w = seg
            elif w - seg == 2 and room[seg] == b'.' and room[seg + 1] == b'.':
                if seg == 1:
                    return BAD_REQUEST
                w = seg - 1
                while room[w - 1] != b'/':
                    w -= 1
            elif w > seg and i < n:
                room[w] = b'/'
                w += 1
            seg = w
            if i >= n:
                return <int>w
        i += 1


cdef inline uint32_t put_octet(char *at, uint32_t value) noexcept nogil:
    cdef const char *digits = b"0123456789ABCDEF"
    if is_a(<char>value, CHAR_PLAIN):
        at[0] = <char>value
        return 1
    at[0] = b'%'
    at[1] = digits[value >> 4]
    at[2] = digits[value & 15]
    return 3


cdef int parse_authority(const Slice *authority, char *room, uint32_t *host_n, uint32_t *port) noexcept nogil:
    cdef const char *at = authority.at
    cdef uint32_t n = authority.n
    cdef uint32_t most = min(n, <uint32_t>MAX_HOST - 1)
    cdef uint32_t i = 0
    cdef uint32_t first
    cdef uint32_t number = 0
    cdef uint32_t run
    cdef uint32_t dots
    cdef uint32_t ended
    cdef char c
    port[0] = 0
    host_n[0] = 0
    if n and at[0] == b'[':
        while i < n and i < MAX_HOST and at[i] != b']':
            room[i] = lower(at[i])
            i += 1
        if i == n or i >= MAX_HOST - 1 or not is_ipv6(at + 1, i - 1):
            return BAD_REQUEST
        room[i] = b']'
        i += 1
        host_n[0] = i
    else:
        ended = 1                            # whether a label may not end here: it is empty
        while i < most and at[i] != b':':
            # 16 bytes are written at once, where there is room for them
            run = gw_host_run(at + i, most - i if i <= MAX_HOST - 16 else min(most - i, <uint32_t>7), room + i, &dots)
            if dots & (dots << 1 | ended):
                return BAD_REQUEST
            if run == 0:
                c = <char>gw_host[<uint8_t>at[i]]
                if c == 0:
                    break
                room[i] = c
                run = 1
            ended = dots >> (run - 1)
            i += run
        if i == 0:
            return BAD_REQUEST
        host_n[0] = i - ended
    if i == n:
        return 0
    if at[i] != b':' or n - i > 6:
        return BAD_REQUEST
    first = i + 1
    for i in range(first, n):
        if not 48 <= at[i] <= 57:
            return BAD_REQUEST
        number = number * 10 + <uint32_t>(at[i] - 48)
    port[0] = number
    return BAD_REQUEST if number > 65535 or (n > first and number == 0) else 0


cdef int resolve_host(const Slice *value, RequestHead *head) noexcept nogil:
    cdef char room[MAX_HOST]
    cdef uint32_t n = 0
    cdef uint32_t port = 0
    cdef uint32_t other = 0
    cdef uint32_t usual
    if not head.absolute:
        head.authority = value[0]
        return parse_authority(value, head.host_room, &head.host.n, &port)
    # RFC 9112 3.2.2 lets the target win; one that differs from Host is read differently by somebody on the way.
    if parse_authority(value, room, &n, &port):
        return BAD_REQUEST
    if n != head.host.n or memcmp(room, head.host_room, n) != 0:
        return BAD_REQUEST
    parse_authority(&head.authority, room, &n, &other)
    usual = 443 if lower(head.target.at[4]) == b's' else 80
    return 0 if (port if port else usual) == (other if other else usual) else BAD_REQUEST


# RFC 3986 3.2.2: eight groups, at most one '::', the last two perhaps as IPv4.
cdef bint is_ipv6(const char *at, uint32_t n) noexcept nogil:
    cdef uint32_t i = 0
    cdef uint32_t start
    cdef uint32_t groups = 0
    cdef bint gap = False
    if n >= 2 and at[0] == b':' and at[1] == b':':
        gap = True
        i = 2
    while i < n:
        start = i
        while i < n and i - start < 4 and is_a(at[i], CHAR_HEX):
            i += 1
        if i == start:
            return False
        groups += 1
        if i == n:
            break
        if at[i] == b'.':
            groups += 1
            if not is_ipv4(at + start, n - start):
                return False
            break
        if at[i] != b':' or i + 1 == n:
            return False
        i += 1
        if at[i] == b':':
            if gap:
                return False
            gap = True
            i += 1
    return groups <= 7 if gap else groups == 8


cdef bint is_ipv4(const char *at, uint32_t n) noexcept nogil:
    cdef uint32_t i = 0
    cdef uint32_t part
    cdef uint32_t value
    cdef uint32_t start
    for part in range(4):
        value = 0
        start = i
        while i < n and i - start < 3 and 48 <= at[i] <= 57:
            value = value * 10 + (at[i] - 48)
            i += 1
        if i == start or value > 255 or (i - start > 1 and at[start] == b'0'):
            return False
        if part < 3:
            if i == n or at[i] != b'.':
                return False
            i += 1
    return i == n


def normalised(path: bytes) -> bytes | None:
    """Return a path as requests are matched by it, or None for one that no request may have (RFC 3986 6.2.2)."""
    cdef bint encoded = False
    cdef int n
    cdef uint8_t c
    room = bytearray(len(path) + 1)
    for c in path:
        if not is_a(<char>c, CHAR_PATH):
            return None
    n = normalise(path, <uint32_t>len(path), <char *>room, False, &encoded)
    return bytes(room[:n]) if n >= 0 else None
