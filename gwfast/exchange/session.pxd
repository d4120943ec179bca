# Sessions of requests (GEP-1619): the token that a request came with, and the one that its response says.
#
#   Cookie: NAME=token.token, or a field of that name           one token for each rule that has sessions of this name
#     -> whose is opened by its rule's identity and names a backend of the rule: the choice, whatever its weight
#     -> and the endpoint, where it is still there and not out
#   whoever answers is another one: the response says a new token, with those of other rules behind it
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from gwfast.http.head cimport RequestHead
from gwfast.engine.loop cimport Buf, Pool
from gwfast.table.layout cimport Backend, Endpoint, Image, Persistence, Rule
from gwfast.exchange.session_token cimport Token

cdef enum:
    SESSION_TOKENS = 8         # limits.SESSION_TOKENS
    NO_CHOICE = 0xFFFFFFFF

cdef struct Remembered:    # of one request
    const Persistence *by  # whose tokens were looked for; NULL: none
    bint known             # `token` is of its session
    Token token
    Buf others             # tokens of other rules under the same name, each with a '.' in front
    uint32_t looked        # tokens that were looked at

# Look for a token of a session with one of the rule's backends: the choice, among the rule's, or NO_CHOICE.
cdef uint32_t remember(Remembered *out, const Image *image, const Rule *rule, const RequestHead *head, const uint8_t *key,
                       Pool *pool) noexcept
# Look for those of `by` alone.
cdef void look_for(Remembered *out, const Image *image, const Persistence *by, const RequestHead *head, const uint8_t *key,
                   Pool *pool) noexcept
cdef uint32_t endpoint_of(const Remembered *session, const Image *image, const Backend *backend) noexcept     # or NO_CHOICE
# The line that tells the client to come back to this endpoint, behind what is in `out`. -1: no memory.
cdef int say_session(const Remembered *session, const Image *image, const Backend *backend, const Endpoint *endpoint, bint secure,
                     const uint8_t *key, Pool *pool, Buf *out) noexcept
