# What a client asks for before TLS begins: its ClientHello, read without answering (RFC 8446 4.1.2, RFC 6066 3, RFC 7301).
# Pure: bytes in, a struct out, nothing allocated.
#
#   record  | 22 | 3.x | length |  a piece of ...
#   record  | 22 | 3.x | length |  ... the message      1 | length 24 | version random session ciphers compressions extensions
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    HELLO_MOST = 16384         # limits.HELLO_BYTES
    NAME_MOST = 253            # of a host name (RFC 1035 3.1, without the final dot)

cdef enum:
    HELLO_PARTIAL = 0

# Of RFC 8446 6.2, those that answer a ClientHello which OpenSSL never gets to see.
cdef enum Alert:
    ALERT_UNEXPECTED_MESSAGE = 10  # another record, another message, an empty piece of one, something behind it in its record
    ALERT_RECORD_OVERFLOW = 22
    ALERT_HANDSHAKE_FAILURE = 40   # nothing is there to serve it with
    ALERT_ILLEGAL_PARAMETER = 47   # an extension twice; it would end behind HELLO_MOST
    ALERT_DECODE_ERROR = 50
    ALERT_PROTOCOL_VERSION = 70    # that of SSL 2 and of what is no TLS
    ALERT_MISSING_EXTENSION = 109  # no name, where one is needed (RFC 8446 9.2)
    ALERT_UNRECOGNIZED_NAME = 112  # also one that no host can have (RFC 6066 3)

cdef enum:
    ALERT_BYTES = 7            # of an alert in a record of its own

# Protocols of the application that a client offers.
cdef enum Offer:
    OFFER_ANY = 1              # the extension is there
    OFFER_H2 = 2
    OFFER_HTTP1 = 4            # http/1.1
    OFFER_ACME = 8             # acme-tls/1 (RFC 8737)

cdef struct Hello:
    uint16_t legacy            # legacy_version
    uint16_t version           # the highest version offered that we know of: 0x0303, 0x0304; lower ones as they are; 0: none
    uint8_t offers             # bits of Offer
    uint8_t name_n             # 0: no name was sent
    char name[NAME_MOST]       # in lower case

# Reads a ClientHello from the first byte of a connection: how many bytes it has on the wire (> 0), HELLO_PARTIAL, or the
# Alert that refuses it with its sign turned: then no byte that may come makes it good. The verdict does not depend on how the
# bytes arrived.
cdef int hello_peek(const uint8_t *at, uint32_t n, Hello *hello) noexcept nogil

# Writes a fatal alert as it is sent before there are keys: ALERT_BYTES. `version` is the highest that the client offers, 0
# where that is not known: one who speaks no TLS 1.2 reads only records of a version that it does.
cdef void put_alert(uint8_t *to, int alert, uint16_t version) noexcept nogil
