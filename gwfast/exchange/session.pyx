"""Sessions of requests (see session.pxd).

Rules:
- of whatever comes, SESSION_TOKENS tokens at most are looked at, whatever is asked of them
- a token that is too old, or of this rule and not the one that is followed, is forgotten; what is no token is never said again
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from gwfast.http.bytes cimport alike
from gwfast.http.head cimport FIELD_COOKIE, FIELD_UNDERSCORE, Field, RequestHead
from gwfast.engine.loop cimport Buf, Pool, append, reserve, waiting
from gwfast.engine.sys cimport CLOCK_REALTIME, clock_gettime, htons, timespec
from gwfast.table.layout cimport (PERSISTENCE_HEADER, Backend, Choice, Endpoint, Image, NO_BACKEND, Persistence, Rule,
                                  backend_at, choice_at, endpoint_at, persistence_at, text)
from gwfast.exchange.session_token cimport TOKEN_PLACE, TOKEN_TEXT, Token, token_like, token_read, token_write


cdef uint64_t now_ms() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return <uint64_t>now.tv_sec * 1000 + now.tv_nsec // 1000000


cdef uint32_t remember(Remembered *out, const Image *image, const Rule *rule, const RequestHead *head, const uint8_t *key,
                       Pool *pool) noexcept:
    cdef const Choice *choice
    cdef const Persistence *by
    cdef uint32_t i
    out.looked = 0
    for i in range(rule.choices.count + rule.idle):
        choice = choice_at(image, rule.choices.first + i)
        if choice.persistence == 0 or choice.backend == NO_BACKEND:
            continue
        by = persistence_at(image, choice.persistence - 1)
        if by != out.by:
            look_for(out, image, by, head, key, pool)
        if out.known and out.token.backend == backend_at(image, choice.backend).id:
            return i
    return NO_CHOICE


cdef void look_for(Remembered *out, const Image *image, const Persistence *by, const RequestHead *head, const uint8_t *key,
                   Pool *pool) noexcept:
    cdef const Field *field
    cdef uint32_t i
    out.by, out.known = by, False
    out.others.start = out.others.end = 0
    for i in range(head.count):
        field = &head.fields[i]
        if not by.flags & PERSISTENCE_HEADER:
            if field.id == FIELD_COOKIE:
                look_at_cookies(out, image, field.value, field.value + field.value_len, key, pool)
        elif (field.hash == by.hash and field.name_len == by.name.n and not field.flags & FIELD_UNDERSCORE
              and alike(text(image, by.name), field.name, by.name.n)):
            look_at(out, field.value, field.value_len, key, pool)


cdef void look_at_cookies(Remembered *out, const Image *image, const char *at, const char *stop, const uint8_t *key,
                          Pool *pool) noexcept:
    """Pairs of a Cookie field (RFC 6265 4.2.1): names are compared as they are."""
    cdef const char *name = text(image, out.by.name)
    cdef uint32_t n = out.by.name.n
    cdef const char *end
    while at < stop:
        if at[0] == c' ' or at[0] == c';' or at[0] == c'\t':
            at += 1
            continue
        end = at
        while end < stop and end[0] != c';':
            end += 1
        if <size_t>(end - at) > n and at[n] == c'=' and memcmp(at, name, n) == 0:
            look_at(out, at + n + 1, end - at - n - 1, key, pool)
        at = end


cdef void look_at(Remembered *out, const char *at, size_t n, const uint8_t *key, Pool *pool) noexcept:
    """Tokens with '.' between them."""
    cdef Token token
    cdef size_t used
    while n >= TOKEN_TEXT and (n == TOKEN_TEXT or at[TOKEN_TEXT] == c'.') and out.looked < SESSION_TOKENS:
        out.looked += 1
        if token_read(key, out.by.rule, at, TOKEN_TEXT, &token):
            if not out.known and (out.by.lasts_ms == 0 or now_ms() < token.issued_ms + out.by.lasts_ms):
                out.token, out.known = token, True
        elif token_like(at) and reserve(pool, &out.others, TOKEN_TEXT + 1) == 0:
            append(pool, &out.others, b".", 1)     # there is room for both
            append(pool, &out.others, at, TOKEN_TEXT)
        used = min(n, <size_t>TOKEN_TEXT + 1)
        at += used
        n -= used


cdef void place_of(const Endpoint *endpoint, uint8_t *place) noexcept nogil:
    cdef uint16_t port = htons(endpoint.port)
    memset(place, 0, TOKEN_PLACE)
    if endpoint.family == 4:
        place[10] = place[11] = 255
        memcpy(place + 12, endpoint.address, 4)
    else:
        memcpy(place, endpoint.address, 16)
    memcpy(place + 16, &port, 2)


cdef uint32_t endpoint_of(const Remembered *session, const Image *image, const Backend *backend) noexcept:
    cdef uint8_t place[TOKEN_PLACE]
    cdef uint32_t i
    for i in range(backend.endpoints.count):
        place_of(endpoint_at(image, backend.endpoints.first + i), place)
        if memcmp(place, session.token.place, TOKEN_PLACE) == 0:
            return i
    return NO_CHOICE


cdef int say_session(const Remembered *session, const Image *image, const Backend *backend, const Endpoint *endpoint, bint secure,
                     const uint8_t *key, Pool *pool, Buf *out) noexcept:
    cdef const Persistence *by = session.by
    cdef uint32_t others = waiting(&session.others)
    cdef char *at
    cdef Token token
    if others > (SESSION_TOKENS - 1) * (TOKEN_TEXT + 1):
        others = (SESSION_TOKENS - 1) * (TOKEN_TEXT + 1)
    if reserve(pool, out, by.before.n + TOKEN_TEXT + others + by.behind.n + 10) < 0:
        return -1
    at = out.base + out.end
    memcpy(at, text(image, by.before), by.before.n)
    at += by.before.n
    token.backend, token.issued_ms = backend.id, now_ms()
    place_of(endpoint, token.place)
    token_write(key, by.rule, &token, at)
    at += TOKEN_TEXT
    if others:
        memcpy(at, session.others.base + session.others.start, others)
        at += others
    memcpy(at, text(image, by.behind), by.behind.n)
    at += by.behind.n
    if secure and not by.flags & PERSISTENCE_HEADER:
        memcpy(at, b"; Secure", 8)
        at += 8
    memcpy(at, b"\r\n", 2)
    out.end = <uint32_t>(at + 2 - out.base)
    return 0
