"""Writes the heads that leave (see header_writer.pxd).

Rules
- Filters are applied as if one after the other: an op on a field overrides the fields that came before it, whoever put
  them there; so a field survives if no op with its name sets or removes it, and a line that an op writes survives if no
  later op does.
- Fields that were received are copied as the lines they were: the parser let only canonical ones through. Lines that
  lie side by side leave in one copy.
- Hop-by-hop fields, and those Connection names, were flagged by the parser and never leave (RFC 9110 7.6.1).
- What says where a request came from, every X-Forwarded-* among it, is overwritten or left out unless the peer is trusted; what
  says which certificate a client showed is said by nobody but the gateway, which has seen it. Where rules match on such fields
  that is done before a rule is looked for (`state`), so that they see what backends see.
"""
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, strlen

from gwfast.http.bytes cimport alike, same
from gwfast.http.fault cimport reason_phrase
from gwfast.http.fields cimport field_line
from gwfast.http.head cimport *
from gwfast.table.layout cimport *

cdef extern from "endian.h" nogil:
    uint64_t htobe64(uint64_t value)


cdef enum:
    MAX_LINES = 0xffffffff         # its own lines are as long as they are
    # the fields of a request that the gateway writes itself, as bits of FieldId
    FRAMING = (1 << FIELD_HOST) | (1 << FIELD_CONTENT_LENGTH) | (1 << FIELD_TRANSFER_ENCODING) | (1 << FIELD_EXPECT)
    OURS = FRAMING | (1 << FIELD_X_FORWARDED_FOR) | (1 << FIELD_X_FORWARDED_CLIENT_CERT)
    ORIGIN = ((1 << FIELD_FORWARDED) | (1 << FIELD_X_FORWARDED_PROTO) | (1 << FIELD_X_FORWARDED_HOST)
              | (1 << FIELD_X_FORWARDED_PORT) | (1 << FIELD_X_REAL_IP) | (1 << FIELD_X_REQUEST_ID)
              | <uint32_t>1 << FIELD_X_FORWARDED)


cdef void put_number(Out *out, uint64_t value) noexcept nogil:
    cdef char digits[20]
    cdef int at = 20
    while True:
        at -= 1
        digits[at] = <char>(48 + value % 10)
        value //= 10
        if value == 0:
            break
    put(out, digits + at, 20 - at)


cdef void set_ops(Ops *ops, const Image *image, uint32_t rule_first, uint32_t rule_count) noexcept nogil:
    ops.image = image
    ops.first[0] = op_at(image, rule_first)
    ops.count[0] = rule_count
    ops.first[1] = NULL
    ops.count[1] = 0


cdef uint32_t ops_room(const Ops *ops) noexcept nogil:
    cdef uint32_t i, room = 0
    for i in range(total(ops)):
        room += nth(ops, i).line.n + nth(ops, i).value.n
    return room


cdef const Op *answering(const Ops *ops) noexcept nogil:
    cdef uint32_t i
    for i in range(total(ops)):
        if nth(ops, i).kind == OP_REDIRECT or nth(ops, i).kind == OP_ANSWER:
            return nth(ops, i)
    return NULL


# Whether fields of the op's name that came are left out.
cdef inline bint replaces(const Op *op, const Ops *ops, bint response) noexcept nogil:
    if not response:
        return op.kind == OP_REQUEST_SET or op.kind == OP_REQUEST_REMOVE or op.kind == OP_REQUEST_COOKIE
    return op.kind == OP_RESPONSE_SET or op.kind == OP_RESPONSE_REMOVE or (op.kind == OP_SESSION and ops.added_n != 0)


# Which names an op sets or removes: a bit for each hash, so that most fields need no second look.
cdef uint64_t overriding(const Ops *ops, bint response) noexcept nogil:
    cdef uint64_t bits = 0
    cdef uint32_t i
    cdef const Op *op
    for i in range(total(ops)):
        op = nth(ops, i)
        if replaces(op, ops, response):
            bits |= <uint64_t>1 << (op.hash & 63)
        elif response and op.kind == OP_CORS:
            bits |= cors_at(ops.image, op.hash).named
    return bits


cdef bint of_cors(const char *name, uint32_t n) noexcept nogil:
    """Whether it is one of Access-Control-Max-Age, -Allow-Origin, -Allow-Methods, -Allow-Headers, -Expose-Headers,
    -Allow-Credentials: what those have of these lengths."""
    return (n == 22 or 27 <= n <= 29 or n == 32) and same(name, b"access-control-", 15)


cdef bint overridden(const Ops *ops, uint32_t since, bint response, uint32_t hash, const char *name,
                     uint32_t n) noexcept nogil:
    """Whether an op from `since` on sets or removes this field."""
    cdef uint32_t i
    cdef const Op *op
    for i in range(since, total(ops)):
        op = nth(ops, i)
        if op.hash == hash and op.name.n == n and replaces(op, ops, response):
            if alike(text(ops.image, op.name), name, n):
                return True
        elif response and op.kind == OP_CORS and of_cors(name, n):
            return True
    return False


cdef inline void put_crumb(Out *out, bint *more, const char *at, uint32_t n) noexcept nogil:
    if n:
        if more[0]:
            say(out, b"; ")
        put(out, at, n)
        more[0] = True


cdef void put_crumbs(Out *out, bint *more, const RequestHead *head) noexcept nogil:
    cdef uint32_t i
    for i in range(head.count):
        if head.fields[i].id == FIELD_COOKIE and not head.fields[i].flags & FIELD_HOP:
            put_crumb(out, more, head.fields[i].value, head.fields[i].value_len)


# The one Cookie field that a request has (RFC 6265 5.4): what came, or what the last op before has put in its place, and what ops
# up to `last` add.
cdef void put_cookies(Out *out, const Ops *ops, const RequestHead *head, uint32_t last) noexcept nogil:
    cdef const Op *own = nth(ops, last)
    cdef const Op *op
    cdef uint32_t i, since = 0
    cdef bint came = True
    cdef bint more = False
    for i in range(last):
        op = nth(ops, i)
        if op.hash == own.hash and op.name.n == own.name.n and (op.kind == OP_REQUEST_SET or op.kind == OP_REQUEST_REMOVE):
            since, came = i, False
    say(out, b"Cookie: ")
    if came:
        put_crumbs(out, &more, head)
    for i in range(since, last + 1):
        op = nth(ops, i)
        if op.hash == own.hash and op.name.n == own.name.n and (op.kind == OP_REQUEST_SET or op.kind == OP_REQUEST_COOKIE):
            put_crumb(out, &more, text(ops.image, op.value), op.value.n)
    say(out, b"\r\n")


# head: of a request; NULL for a response.
cdef void put_ops(Out *out, const Ops *ops, bint response, uint64_t named, const RequestHead *head) noexcept nogil:
    cdef uint32_t i
    cdef bint added = False     # of a rule's and a backendRef's, the latter's lines are all there are
    cdef const Op *op
    for i in range(total(ops)):
        op = nth(ops, i)
        if (op.kind == OP_RESPONSE_SET or op.kind == OP_RESPONSE_ADD if response
                else op.kind == OP_REQUEST_SET or op.kind == OP_REQUEST_ADD):
            if not (named >> (op.hash & 63) & 1
                    and overridden(ops, i + 1, response, op.hash, text(ops.image, op.name), op.name.n)):
                put_text(out, ops.image, op.line)
        elif op.kind == OP_REQUEST_COOKIE and not response:
            if not overridden(ops, i + 1, False, op.hash, text(ops.image, op.name), op.name.n):
                put_cookies(out, ops, head, i)
        elif response and (op.kind == OP_CORS or op.kind == OP_SESSION) and not added:
            put(out, ops.added, ops.added_n)
            added = True


cdef void copy_fields(Out *out, const Ops *ops, bint response, uint64_t named, const Field *fields, uint32_t count,
                      uint32_t drop, uint16_t flags) noexcept nogil:
    cdef const char *run = NULL
    cdef size_t n = 0
    cdef uint32_t i
    cdef const Field *field
    for i in range(count):
        field = fields + i
        if field.flags & flags or (drop >> field.id) & 1:
            continue
        if named >> (field.hash & 63) & 1 and overridden(ops, 0, response, field.hash, field.name, field.name_len):
            continue
        if run + n == field.name:
            n += field.line_len
        else:
            put(out, run, n)
            run = field.name
            n = field.line_len
    put(out, run, n)


cdef inline bint ours(const Ops *ops, uint64_t named, const char *name, uint32_t n) noexcept nogil:
    """Whether a field that the gateway would write is left to it by the filters."""
    return not named or not overridden(ops, 0, False, name_hash(name, n), name, n)


cdef bint is_left(const Ops *ops, uint64_t named, const char *name, uint32_t n) noexcept nogil:
    return not named or not overridden(ops, 0, True, name_hash(name, n), name, n)


cdef inline bint has(const RequestHead *head, uint16_t id) noexcept nogil:
    return head.ids >> id & 1


cdef void put_upgrade(Out *out, const Field *fields, uint32_t count) noexcept nogil:
    """The one Upgrade field of a message that upgrades."""
    cdef uint32_t i
    for i in range(count):
        if fields[i].id == FIELD_UPGRADE:
            say(out, b"Connection: Upgrade\r\nUpgrade: ")
            put(out, fields[i].value, fields[i].value_len)
            say(out, b"\r\n")
            return


# What a segment of a path is (RFC 3986 3.3, 5.2.4), where dots may be escaped.
cdef enum:
    SEGMENT_NAME = 0
    SEGMENT_NOTHING        # '' or '.'
    SEGMENT_UP             # '..'


cdef int segment_kind(const char *at, const char *end) noexcept nogil:
    cdef uint32_t dots = 0
    while at < end:
        if at[0] == c".":
            at += 1
        elif end - at >= 3 and at[0] == c"%" and at[1] == c"2" and at[2] | 32 == c"e":
            at += 3
        else:
            return SEGMENT_NAME
        dots += 1
        if dots > 2:
            return SEGMENT_NAME
    return SEGMENT_UP if dots == 2 else SEGMENT_NOTHING


# Where the prefix of `depth` elements ends in a path as it was sent: behind the last of its elements, from where on no '..' leads
# out of it.
cdef uint32_t prefix_end(const Slice *path, uint32_t depth) noexcept nogil:
    cdef const char *stop = path.at + path.n
    cdef const char *at = path.at
    cdef const char *end
    cdef const char *behind = path.at
    cdef uint32_t here = 0
    cdef bint inside = depth == 0
    cdef int kind
    while at < stop:
        at += 1                    # the '/'
        end = <const char *>memchr(at, c"/", stop - at)
        if end == NULL:
            end = stop
        kind = segment_kind(at, end)
        if kind == SEGMENT_UP:
            here -= here > 0       # what leads above the root was refused
            inside = inside and here >= depth
        elif kind == SEGMENT_NAME:
            here += 1
            if here == depth and not inside:
                inside, behind = True, end
        at = end
    return <uint32_t>(behind - path.at)


# Whether what matched is still the beginning of the path, element by element: a filter that held the request may have made it
# another.
cdef bint is_below(const Slice *path, const Found *found) noexcept nogil:
    cdef uint32_t n = found.prefix_len
    if path.n == 0 or path.at[0] != c"/" or n > path.n:
        return False
    return n == 0 or (memcmp(path.at, found.prefix_at, n) == 0 and (n == path.n or path.at[n] == c"/"))


# What a matched prefix leaves of the path as it was sent: nothing but the prefix changes.
cdef Slice behind_prefix(const RequestHead *head, const Found *found) noexcept nogil:
    cdef uint32_t matched = found.prefix_len
    cdef uint32_t i, depth = 0
    cdef Slice rest
    rest = head.match_path
    if head.match_path.at != head.path.at:
        for i in range(matched):
            depth += head.match_path.at[i] == c"/"
        rest = head.path
        matched = prefix_end(&head.path, depth)
    rest.at += matched
    rest.n -= matched
    return rest


cdef void put_rest(Out *out, const RequestHead *head, const Found *found, const char *path, uint32_t n) noexcept nogil:
    """ReplacePrefixMatch: the new prefix, then what the matched one did not cover; never empty. A path that a filter led out of
    what matched has no such prefix: it stays."""
    cdef Slice rest
    if not is_below(&head.match_path, found):
        put(out, head.path.at, head.path.n)
        return
    rest = behind_prefix(head, found)
    put(out, path, n)
    put(out, rest.at, rest.n)
    if n + rest.n == 0:
        say(out, b"/")


cdef void put_target(Out *out, const Ops *ops, const RequestHead *head, const Found *found) noexcept nogil:
    cdef const Op *path = NULL
    cdef uint32_t i
    for i in range(total(ops)):
        if nth(ops, i).kind == OP_REWRITE_PATH_FULL or nth(ops, i).kind == OP_REWRITE_PATH_PREFIX:
            path = nth(ops, i)
    if path == NULL:
        put(out, head.path.at, head.path.n)
    elif path.kind == OP_REWRITE_PATH_FULL:
        put_text(out, ops.image, path.value)
    else:
        put_rest(out, head, found, text(ops.image, path.value), path.value.n)
    if head.query.at != NULL:
        say(out, b"?")
        put(out, head.query.at, head.query.n)


cdef void put_host(Out *out, const Ops *ops, const RequestHead *head, const Forward *forward) noexcept nogil:
    cdef const Op *host = NULL
    cdef uint32_t i
    for i in range(total(ops)):
        if nth(ops, i).kind == OP_REWRITE_HOST:
            host = nth(ops, i)
    say(out, b"\r\nHost: ")
    if host != NULL:
        put_text(out, ops.image, host.value)
    elif head.authority.n:
        put(out, head.authority.at, head.authority.n)
    else:
        put(out, forward.fallback_host.at, forward.fallback_host.n)
    say(out, b"\r\n")


# 8 digits at once: a nibble in each byte, then what makes it a digit or a letter added to it.
cdef inline void hex_digits(char *at, uint64_t bits) noexcept nogil:
    bits = (bits | bits << 16) & 0x0000FFFF0000FFFFu
    bits = (bits | bits << 8) & 0x00FF00FF00FF00FFu
    bits = (bits | bits << 4) & 0x0F0F0F0F0F0F0F0Fu
    bits = htobe64(bits + 0x3030303030303030u + ((bits + 0x0606060606060606u) >> 4 & 0x0101010101010101u) * 39)
    memcpy(at, &bits, 8)


cdef void put_id(Out *out, const uint64_t *bits) noexcept nogil:
    # RFC 9562 5.4
    cdef char hex[36]
    cdef char digits[16]
    cdef uint64_t high = (bits[0] & <uint64_t>0xFFFFFFFFFFFF0FFF) | 0x4000
    cdef uint64_t low = (bits[1] >> 2) | (<uint64_t>1 << 63)
    hex_digits(hex, high >> 32)
    hex_digits(digits, high & 0xFFFFFFFFu)
    hex_digits(digits + 8, low >> 32)
    hex_digits(hex + 28, low & 0xFFFFFFFFu)
    memcpy(hex + 9, digits, 4)
    memcpy(hex + 14, digits + 4, 4)
    memcpy(hex + 19, digits + 8, 4)
    memcpy(hex + 24, digits + 12, 4)
    hex[8] = hex[13] = hex[18] = hex[23] = c"-"
    put(out, hex, 36)


cdef void put_forwarded(Out *out, const Ops *ops, uint64_t named, const RequestHead *head,
                        const Forward *forward) noexcept nogil:
    cdef uint32_t i
    if ours(ops, named, b"x-forwarded-for", 15):
        say(out, b"X-Forwarded-For: ")
        if forward.trusted:
            for i in range(head.count):
                if head.fields[i].id == FIELD_X_FORWARDED_FOR and head.fields[i].value_len:
                    put(out, head.fields[i].value, head.fields[i].value_len)
                    say(out, b", ")
        put(out, forward.client.at, forward.client.n)
        say(out, b"\r\n")
    if not (forward.trusted and has(head, FIELD_X_FORWARDED_PROTO)) and ours(ops, named, b"x-forwarded-proto", 17):
        if forward.https:
            say(out, b"X-Forwarded-Proto: https\r\n")
        else:
            say(out, b"X-Forwarded-Proto: http\r\n")
    if (head.authority.n and not (forward.trusted and has(head, FIELD_X_FORWARDED_HOST))
            and ours(ops, named, b"x-forwarded-host", 16)):
        say(out, b"X-Forwarded-Host: ")
        put(out, head.authority.at, head.authority.n)
        say(out, b"\r\n")
    if forward.certificate.n and ours(ops, named, b"x-forwarded-client-cert", 23):
        say(out, b"X-Forwarded-Client-Cert: ")
        put(out, forward.certificate.at, forward.certificate.n)
        say(out, b"\r\n")
    if (forward.request_id and not (forward.trusted and has(head, FIELD_X_REQUEST_ID))
            and ours(ops, named, b"x-request-id", 12)):
        say(out, b"X-Request-Id: ")
        put_id(out, forward.id)
        say(out, b"\r\n")
    if forward.via.n and ours(ops, named, b"via", 3):
        say(out, b"Via: 2 " if head.minor == 2 else b"Via: 1.1 " if head.minor else b"Via: 1.0 ")
        put(out, forward.via.at, forward.via.n)
        say(out, b"\r\n")


# The fields that are not passed on as they came, as bits of FieldId.
cdef inline uint32_t replaced(const Forward *forward) noexcept nogil:
    cdef uint32_t drop = OURS if forward.trusted else OURS | ORIGIN
    return drop if forward.request_id else drop & ~<uint32_t>(1 << FIELD_X_REQUEST_ID)


cdef int state(RequestHead *head, const Forward *forward, char *at, char *end) noexcept nogil:
    cdef uint32_t drop = replaced(forward) & ~<uint32_t>FRAMING
    cdef uint32_t i, count = 0
    cdef const char *line = at
    cdef Out out
    cdef int n
    out.at, out.end, out.full = at, end, False
    put_forwarded(&out, NULL, 0, head, forward)    # of a trusted peer it goes on with what that says
    for i in range(head.count):
        if head.fields[i].flags & FIELD_UNDERSCORE or (drop >> head.fields[i].id) & 1:
            continue
        head.fields[count] = head.fields[i]
        count += 1
    head.ids &= ~drop
    while line < out.at:
        n = field_line(line, out.at, MAX_LINES, &head.fields[count]) if count < head.most else -1
        if n <= 0:
            return -1
        head.ids |= <uint32_t>1 << head.fields[count].id
        count += 1
        line += n
    head.count = <uint16_t>count
    head.stated = 1
    return -1 if out.full else 0


cdef void write_request(Out *out, const Ops *ops, const RequestHead *head, const Found *found,
                        const Forward *forward) noexcept nogil:
    cdef uint32_t drop = replaced(forward)
    cdef uint64_t named = overriding(ops, False)
    cdef uint16_t flags = FIELD_HOP | FIELD_UNDERSCORE
    cdef bint more = False
    put(out, head.method.at, head.method.n)
    say(out, b" ")
    put_target(out, ops, head, found)
    say(out, b" HTTP/1.1")
    put_host(out, ops, head, forward)
    if forward.again:
        drop = FRAMING
        flags = FIELD_HOP
    if head.cookies > 1:
        drop |= 1 << FIELD_COOKIE
    copy_fields(out, ops, False, named, head.fields, head.count, drop, flags)
    if head.cookies > 1 and ours(ops, named, b"cookie", 6):
        say(out, b"Cookie: ")
        put_crumbs(out, &more, head)
        say(out, b"\r\n")
    if not forward.again:
        put_forwarded(out, ops, named, head, forward)
    put_ops(out, ops, False, named, head)
    if head.framing == FRAMING_CHUNKED:
        say(out, b"Transfer-Encoding: chunked\r\n")
    elif head.framing == FRAMING_LENGTH:   # anew: '005' is read as octal by some
        say(out, b"Content-Length: ")
        put_number(out, head.content_length)
        say(out, b"\r\n")
    if head.upgrade:
        put_upgrade(out, head.fields, head.count)
    elif head.trailers:
        say(out, b"TE: trailers\r\nConnection: TE\r\n")
    say(out, b"\r\n")


cdef inline void put_connection(Out *out, int connection) noexcept nogil:
    if connection == 1:
        say(out, b"Connection: close\r\n")
    elif connection == 2:
        say(out, b"Connection: keep-alive\r\n")


cdef inline void put_status(Out *out, uint32_t status) noexcept nogil:
    cdef char line[13]
    memcpy(line, b"HTTP/1.1 000 ", 13)
    line[9] = <char>(48 + status // 100)
    line[10] = <char>(48 + status // 10 % 10)
    line[11] = <char>(48 + status % 10)
    put(out, line, 13)


cdef inline void put_date(Out *out, const char *date) noexcept nogil:
    say(out, b"Date: ")
    put(out, date, 29)
    say(out, b"\r\n")


cdef size_t answer_size(int status) noexcept nogil:
    return strlen(reason_phrase(status)) + 5     # "404 Not Found" and a line feed


cdef void write_answer(Out *out, const Ops *ops, int status, const char *date, int connection, const char *location,
                       size_t n, bint head_only) noexcept nogil:
    cdef const char *phrase = reason_phrase(status)
    cdef size_t phrase_n = strlen(phrase)
    cdef uint64_t named = overriding(ops, True) if ops != NULL else 0
    put_status(out, status)
    put(out, phrase, phrase_n)
    say(out, b"\r\n")
    if is_left(ops, named, b"date", 4):
        put_date(out, date)
    if ops != NULL:
        put_ops(out, ops, True, named, NULL)
    if status == 405:
        say(out, b"Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n")
    put_connection(out, connection)
    if location != NULL:
        if n and is_left(ops, named, b"location", 8):
            say(out, b"Location: ")
            put(out, location, n)
            say(out, b"\r\n")
        say(out, b"Content-Length: 0\r\n\r\n")
        return
    if is_left(ops, named, b"content-type", 12):
        say(out, b"Content-Type: text/plain\r\n")
    say(out, b"Content-Length: ")
    put_number(out, answer_size(status))
    say(out, b"\r\n\r\n")
    if not head_only:
        put_number(out, status)
        say(out, b" ")
        put(out, phrase, phrase_n)
        say(out, b"\n")


cdef void write_response(Out *out, const Ops *ops, const ResponseHead *head, const char *date,
                         int connection, bint chunked, bint drop_length) noexcept nogil:
    cdef uint32_t drop = 1 << FIELD_TRANSFER_ENCODING
    cdef uint64_t named = overriding(ops, True)
    put_status(out, head.status)
    put(out, head.reason.at, head.reason.n)
    say(out, b"\r\n")
    if drop_length:
        drop |= 1 << FIELD_CONTENT_LENGTH
    copy_fields(out, ops, True, named, head.fields, head.count, drop, FIELD_HOP)
    put_ops(out, ops, True, named, NULL)
    if not head.ids >> FIELD_DATE & 1 and head.status >= 200 and is_left(ops, named, b"date", 4):
        put_date(out, date)
    if chunked:
        say(out, b"Transfer-Encoding: chunked\r\n")
    if head.ids >> FIELD_UPGRADE & 1 and (head.status == 101 or head.status == 426):   # 426 says to what (RFC 9110 15.5.22)
        put_upgrade(out, head.fields, head.count)
    if head.status != 101:
        put_connection(out, connection)
    say(out, b"\r\n")


cdef void put_new_path(Out *out, const Image *image, const Redirect *redirect, Slice path, const RequestHead *head,
                       const Found *found) noexcept nogil:
    if redirect.path_kind == 1:
        put_text(out, image, redirect.path)
    elif redirect.path_kind == 2:
        put_rest(out, head, found, text(image, redirect.path), redirect.path.n)
    else:
        put(out, path.at, path.n)
    if head.query.at != NULL:
        say(out, b"?")
        put(out, head.query.at, head.query.n)


cdef void write_location(Out *out, const Image *image, const Redirect *redirect, const RequestHead *head,
                         const Found *found, const Front *front) noexcept nogil:
    """The value of Location (spec 5.5): always absolute, so that nothing in a path can become an authority."""
    cdef uint32_t port = redirect.port
    cdef bint https = front.https
    if redirect.host.n + front.host.n == 0:
        put_new_path(out, image, redirect, head.match_path, head, found)   # HTTP/1.0 without Host: all we can say
        return
    if redirect.scheme.n:
        https = redirect.scheme.n == 5
        put_text(out, image, redirect.scheme)
    elif https:
        say(out, b"https")
    else:
        say(out, b"http")
    say(out, b"://")
    if redirect.host.n:
        put_text(out, image, redirect.host)
    else:
        put(out, front.host.at, front.host.n)
    if port == 0:
        port = (443 if https else 80) if redirect.scheme.n else front.port
    if port != (443 if https else 80):
        say(out, b":")
        put_number(out, port)
    put_new_path(out, image, redirect, head.path, head, found)
