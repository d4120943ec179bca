"""What an authorizer answers over gRPC (see check_response.pxd).

Rules
- An answer is read as strictly as a head: varints and lengths that do not fit, groups, names that are no tokens and values with
  control characters are refused. Fields that are not known are skipped, and of those that come twice the last one counts.
- Fields are set, then appended, then removed (as Envoy does); never those that frame a message or belong to a connection.
- A field that a message has once is set where it is to be appended.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset, strchr

from gwfast.http.bytes cimport CHAR_TOKEN, alike, gw_value_end, is_a, same
from gwfast.extend.check_request cimport GRPC_PREFIX
from gwfast.http.fields cimport field_id
from gwfast.http.header_writer cimport put, say
from gwfast.http.head cimport (FIELD_CONNECTION, FIELD_CONTENT_LENGTH, FIELD_EXPECT, FIELD_HOP, FIELD_HOST,
                               FIELD_HTTP2_SETTINGS, FIELD_KEEP_ALIVE, FIELD_PROXY_CONNECTION, FIELD_TE, FIELD_TRAILER,
                               FIELD_TRANSFER_ENCODING, FIELD_UPGRADE)

cdef enum:
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5
    MORE = 0x80                # of a byte of a varint: another follows
    UNTOUCHED = ((1 << FIELD_HOST) | (1 << FIELD_CONTENT_LENGTH) | (1 << FIELD_TRANSFER_ENCODING) | (1 << FIELD_EXPECT)
                 | (1 << FIELD_CONNECTION) | (1 << FIELD_KEEP_ALIVE) | (1 << FIELD_PROXY_CONNECTION) | (1 << FIELD_TE)
                 | (1 << FIELD_TRAILER) | (1 << FIELD_UPGRADE) | (1 << FIELD_HTTP2_SETTINGS))

# grammar.SINGLE, each with a space behind it.
cdef const char *SINGLE = (
    b"age authorization content-location content-range content-type date etag expires from if-modified-since if-range "
    b"if-unmodified-since last-modified location max-forwards origin proxy-authorization referer retry-after server user-agent ")


# ---- reading ----------------------------------------------------------------------------------------------------------

cdef struct Item:              # one field of a message
    uint64_t number            # of a varint
    Slice bytes                # of a string or message
    uint32_t field
    uint32_t type


cdef bint take_varint(Slice *rest, uint64_t *value) noexcept nogil:
    cdef uint32_t i
    cdef uint8_t byte
    value[0] = 0
    for i in range(10):
        if i >= rest.n:
            return False
        byte = <uint8_t>rest.at[i]
        if i == 9 and byte > 1:
            return False
        value[0] |= <uint64_t>(byte & 0x7f) << (7 * i)
        if not byte & MORE:
            rest.at += i + 1
            rest.n -= i + 1
            return True
    return False


# 1: there is one; 0: that was all; -1: it is malformed.
cdef int next_item(Slice *rest, Item *item) noexcept nogil:
    cdef uint64_t tag, n = 0
    if rest.n == 0:
        return 0
    if not take_varint(rest, &tag) or tag >> 32 or tag < 8:
        return -1
    item.field, item.type = <uint32_t>(tag >> 3), <uint32_t>(tag & 7)
    item.number = 0
    item.bytes.at, item.bytes.n = rest.at, 0
    if item.type == VARINT:
        return 1 if take_varint(rest, &item.number) else -1
    if item.type == BYTES:
        if not take_varint(rest, &n):
            return -1
    elif item.type == FIXED64 or item.type == FIXED32:
        n = 8 if item.type == FIXED64 else 4
    else:
        return -1
    if n > rest.n:
        return -1
    item.bytes.at, item.bytes.n = rest.at, <uint32_t>n
    rest.at += n
    rest.n -= <uint32_t>n
    return 1


# The last varint of this field in a message; -1: the message is malformed.
cdef int find_number(Slice message, uint32_t field, uint64_t *value) noexcept nogil:
    cdef Item item
    cdef int result
    while True:
        result = next_item(&message, &item)
        if result <= 0:
            return result
        if item.field == field:
            if item.type != VARINT:
                return -1
            value[0] = item.number


cdef bint is_name(const Slice *name) noexcept nogil:
    cdef uint32_t i
    for i in range(name.n):
        if not is_a(name.at[i], CHAR_TOKEN):
            return False
    return name.n > 0


cdef bint is_pseudo(const Slice *name) noexcept nogil:
    return name.n > 1 and name.at[0] == c':'


cdef bint is_value(Slice *value) noexcept nogil:
    while value.n and (value.at[0] == c' ' or value.at[0] == c'\t'):
        value.at += 1
        value.n -= 1
    while value.n and (value.at[value.n - 1] == c' ' or value.at[value.n - 1] == c'\t'):
        value.n -= 1
    return gw_value_end(value.at, value.at + value.n) == value.at + value.n


cdef int read_header(Slice message, Change *change) noexcept nogil:
    cdef Item item
    cdef Slice raw
    cdef int result
    raw.at, raw.n = message.at, 0
    while True:
        result = next_item(&message, &item)
        if result < 0:
            return -1
        if result == 0:
            break
        if 1 <= item.field <= 3:
            if item.type != BYTES:
                return -1
            if item.field == 1:
                change.name = item.bytes
            elif item.field == 2:
                change.value = item.bytes
            else:
                raw = item.bytes
    if change.value.n == 0:
        change.value = raw
    return 0


# A HeaderValueOption: `append` decides where it is given, and is False where neither is (as Envoy reads it here).
cdef int read_option(Slice message, Change *change) noexcept nogil:
    cdef Item item
    cdef int result
    cdef uint64_t append = 0
    cdef bint told = False
    while True:
        result = next_item(&message, &item)
        if result < 0:
            return -1
        if result == 0:
            break
        if item.field == 1:
            if item.type != BYTES or read_header(item.bytes, change) < 0:
                return -1
        elif item.field == 2:
            if item.type != BYTES or find_number(item.bytes, 1, &append) < 0:
                return -1
            told = True
        elif item.field == 3:
            if item.type != VARINT or item.number > 3:
                return -1
            change.action = (ACTION_IF_ABSENT if item.number == 1 else ACTION_IF_PRESENT if item.number == 3 else ACTION_SET)
    if told and (append or change.action == ACTION_SET):
        change.action = ACTION_APPEND if append else ACTION_SET
    return 0


# A field that a message has once.
cdef bint is_single(const Slice *name) noexcept nogil:
    cdef const char *at = SINGLE
    cdef const char *end
    while at[0]:
        end = strchr(at, c" ")
        if <size_t>(end - at) == name.n and same(name.at, at, name.n):
            return True
        at = end + 1
    return False


cdef int read_change(CheckResponse *verdict, Slice message, int place) noexcept nogil:
    cdef Change *change
    if verdict.count == CHANGES:
        return -1
    change = &verdict.changes[verdict.count]
    memset(change, 0, sizeof(Change))
    change.place = place
    change.value.at = message.at
    if place == PLACE_REMOVE:
        change.name = message
    elif read_option(message, change) < 0:
        return -1
    if is_pseudo(&change.name):
        return 0                           # a method or target is not the authorizer's to change
    if not is_name(&change.name) or not is_value(&change.value):
        return -1
    if change.action == ACTION_APPEND and is_single(&change.name):
        change.action = ACTION_SET         # as what a header modifier adds
    verdict.count += 1
    return 0


cdef int read_response(CheckResponse *verdict, Slice message, bint denial) noexcept nogil:
    """A denied_response or an ok_response."""
    cdef Item item
    cdef int result
    while True:
        result = next_item(&message, &item)
        if result <= 0:
            return result
        if item.field == 2 or (denial and (item.field == 1 or item.field == 3)) or (
                not denial and (item.field == 5 or item.field == 6)):
            if item.type != BYTES:
                return -1
            if item.field == 1:
                result = find_number(item.bytes, 1, &verdict.status)
            elif item.field == 2:
                result = read_change(verdict, item.bytes, PLACE_DENIAL if denial else PLACE_REQUEST)
            elif item.field == 3:
                verdict.body = item.bytes
            else:
                result = read_change(verdict, item.bytes, PLACE_REMOVE if item.field == 5 else PLACE_RESPONSE)
            if result < 0:
                return -1


cdef int read_check_response(CheckResponse *verdict, const char *at, uint32_t n) noexcept nogil:
    cdef Slice message
    cdef Item item
    cdef uint32_t i, length = 0
    cdef int result
    verdict.body.at, verdict.body.n = at, 0
    verdict.code = verdict.status = verdict.count = 0
    verdict.denies = False
    if n < GRPC_PREFIX or at[0]:
        return -1                          # compressed: nobody said that it may be
    for i in range(4):
        length = length << 8 | <uint8_t>at[1 + i]
    if length != n - GRPC_PREFIX:
        return -1
    message.at, message.n = at + GRPC_PREFIX, length
    while True:
        result = next_item(&message, &item)
        if result <= 0:
            return result
        if 1 <= item.field <= 3:
            if item.type != BYTES:
                return -1
            if item.field == 1:
                result = find_number(item.bytes, 1, &verdict.code)
            else:
                verdict.denies = verdict.denies or item.field == 2
                result = read_response(verdict, item.bytes, item.field == 2)
            if result < 0:
                return -1


# ---- what an answer over gRPC changes ---------------------------------------------------------------------------------

cdef inline bint names(const Change *change, const char *name, uint32_t n) noexcept nogil:
    return change.name.n == n and alike(change.name.at, name, n)


cdef bint touches(const Change *change) noexcept nogil:
    return not (UNTOUCHED >> field_id(change.name.at, change.name.n) & 1)


# Whether a field that was there is not any more.
cdef bint goes(const CheckResponse *verdict, int place, const Field *field) noexcept nogil:
    cdef const Change *change
    cdef uint32_t k
    for k in range(verdict.count):
        change = &verdict.changes[k]
        if (names(change, field.name, field.name_len) and touches(change)
                and ((change.place == place and change.action != ACTION_APPEND and change.action != ACTION_IF_ABSENT)
                     or (change.place == PLACE_REMOVE and place == PLACE_REQUEST))):
            return True
    return False


# Whether the change at `i` takes place: sets before what is appended, the last set of a name, nothing that is removed.
cdef bint takes_place(const CheckResponse *verdict, uint32_t i, const Field *fields, uint32_t count) noexcept nogil:
    cdef const Change *change = &verdict.changes[i]
    cdef const Change *other
    cdef bint there = False
    cdef uint32_t k
    if not touches(change):
        return False
    for k in range(verdict.count):
        other = &verdict.changes[k]
        if k == i or not names(other, change.name.at, change.name.n):
            continue
        if other.place == PLACE_REMOVE and change.place == PLACE_REQUEST:
            return False
        if k > i and other.place == change.place and other.action != ACTION_APPEND and change.action != ACTION_APPEND:
            return False
    if change.action == ACTION_IF_ABSENT or change.action == ACTION_IF_PRESENT:
        for k in range(count):
            there = there or names(change, fields[k].name, fields[k].name_len)
        return there == (change.action == ACTION_IF_PRESENT)
    return True


cdef void put_changes(Out *out, const CheckResponse *verdict, int place, const Field *fields, uint32_t count) noexcept nogil:
    cdef const Change *change
    cdef uint32_t k
    for k in range(count):
        if not fields[k].flags & FIELD_HOP and not goes(verdict, place, &fields[k]):
            put(out, fields[k].name, fields[k].line_len)
    for k in range(verdict.count):
        change = &verdict.changes[k]
        if change.place == place and takes_place(verdict, k, fields, count):
            put(out, change.name.at, change.name.n)
            say(out, b": ")
            put(out, change.value.at, change.value.n)
            say(out, b"\r\n")


cdef uint32_t changes_room(const CheckResponse *verdict) noexcept nogil:
    cdef uint32_t k, room = 0
    for k in range(verdict.count):
        room += verdict.changes[k].name.n + verdict.changes[k].value.n + 4
    return room


cdef bint changes_response(const CheckResponse *verdict) noexcept nogil:
    cdef uint32_t k
    for k in range(verdict.count):
        if verdict.changes[k].place == PLACE_RESPONSE:
            return True
    return False


# Whether the head of an answer is gRPC's.
cdef bint is_grpc(const ResponseHead *reply) noexcept nogil:
    cdef const Field *field
    cdef uint32_t i
    if reply.status != 200:
        return False
    for i in range(reply.count):
        field = &reply.fields[i]
        if field.name_len == 12 and same(field.name, b"content-type", 12):
            return (field.value_len >= 16 and same(field.value, b"application/grpc", 16)
                    and (field.value_len == 16 or field.value[16] == c'+' or field.value[16] == c';'))
    return False


# ---- Python's side ----------------------------------------------------------------------------------------------------

def verdict(bytes at not None):
    """Read an answer in its frame: (code, denies, status, body, [(place, action, name, value)]); None where it is none."""
    cdef CheckResponse made
    cdef const Change *change
    cdef uint32_t i
    if read_check_response(&made, at, <uint32_t>len(at)) < 0:
        return None
    changes = []
    for i in range(made.count):
        change = &made.changes[i]
        changes.append((change.place, change.action, change.name.at[:change.name.n], change.value.at[:change.value.n]))
    return made.code, bool(made.denies), made.status, made.body.at[:made.body.n], changes
