# Writes the heads that leave: the request's for the upstream, the response's for the client, with the filters of the rule
# and of the chosen backendRef applied in order. Pure: reads slices and the image, writes into a bounded buffer.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, strlen
from gwfast.http.head cimport Field, RequestHead, ResponseHead, Slice
from gwfast._match cimport Found
from gwfast.table.layout cimport Image, Op, Redirect, Text, text

cdef struct Out:           # a bounded writer; `full` where something did not fit
    char *at
    char *end
    bint full

cdef inline void put(Out *out, const char *at, size_t n) noexcept nogil:
    if <size_t>(out.end - out.at) < n:
        out.full = True
        return
    if n:
        memcpy(out.at, at, n)
        out.at += n

cdef inline void say(Out *out, const char *literal) noexcept nogil:
    put(out, literal, strlen(literal))     # the compiler knows the length of a literal

cdef inline void put_text(Out *out, const Image *image, Text t) noexcept nogil:
    put(out, text(image, t), t.n)

cdef void put_number(Out *out, uint64_t value) noexcept nogil
cdef void put_id(Out *out, const uint64_t *bits) noexcept nogil   # a version 4 UUID, 36 bytes

cdef struct Ops:           # the rule's filters, then the backendRef's
    const Image *image
    const Op *first[2]
    uint32_t count[2]
    const char *added      # lines that an OP_CORS or OP_SESSION among them adds to the response; only there where there is one
    uint32_t added_n

cdef inline uint32_t total(const Ops *ops) noexcept nogil:
    return ops.count[0] + ops.count[1]

cdef inline const Op *nth(const Ops *ops, uint32_t i) noexcept nogil:
    return ops.first[0] + i if i < ops.count[0] else ops.first[1] + (i - ops.count[0])

# Which names these filters set or remove: a bit for each hash, so that most fields need no second look.
cdef uint64_t overriding(const Ops *ops, bint response) noexcept nogil
# Whether one of them from `since` on sets or removes this field.
cdef bint overridden(const Ops *ops, uint32_t since, bint response, uint32_t hash, const char *name,
                     uint32_t n) noexcept nogil

cdef struct Forward:       # what the gateway says of the client
    Slice client           # its address as text
    Slice certificate      # what is said of its certificate; n == 0: nothing
    Slice via              # n == 0: no Via
    Slice fallback_host    # where an HTTP/1.0 request names none
    bint again             # what the head says of the client stands: it was written, or stated, before
    bint trusted           # X-Forwarded-* of this peer are believed
    bint https
    bint request_id        # make one where there is none to believe
    uint64_t id[2]         # random bits for it

cdef struct Front:         # what a client has before it: of a redirect, where its filter says nothing of it
    bint https
    uint32_t port
    Slice host             # n == 0: not known

# Makes the fields of a head those that a backend would see: what an untrusted peer says of the client goes, and what the gateway
# says of it comes, as lines from `at` to `end`. -1: there is no room for them.
cdef int state(RequestHead *head, const Forward *forward, char *at, char *end) noexcept nogil
# Whether a field of a response that the gateway would write is left to it by these filters.
cdef bint is_left(const Ops *ops, uint64_t named, const char *name, uint32_t n) noexcept nogil
cdef void set_ops(Ops *ops, const Image *image, uint32_t rule_first, uint32_t rule_count) noexcept nogil
cdef uint32_t ops_room(const Ops *ops) noexcept nogil             # bytes that these filters can add to a head
cdef const Op *answering(const Ops *ops) noexcept nogil           # the OP_REDIRECT or OP_ANSWER that ends it, or NULL
cdef void write_request(Out *out, const Ops *ops, const RequestHead *head, const Found *found,
                        const Forward *forward) noexcept nogil    # up to and with the empty line
# `connection`: 0 says nothing of it, 1 close, 2 keep-alive (to HTTP/1.0)
cdef void write_response(Out *out, const Ops *ops, const ResponseHead *head, const char *date,
                         int connection, bint chunked, bint drop_length) noexcept nogil
cdef void write_location(Out *out, const Image *image, const Redirect *redirect, const RequestHead *head,
                         const Found *found, const Front *front) noexcept nogil
cdef size_t answer_size(int status) noexcept nogil      # bytes of the body of our own answer
# Our own answer: a line of text, or (location not NULL) nothing but where to go, if n is not 0.
cdef void write_answer(Out *out, const Ops *ops, int status, const char *date, int connection, const char *location,
                       size_t n, bint head_only) noexcept nogil
