# TLS records in compiled code, through the functions of the library that pyOpenSSL brings.
#
#   socket -> feed -> [inward BIO] -> SSL -> open -> plain text
#   plain text -> seal -> SSL -> [outward BIO] -> sealed -> socket
#
#   Setting   an SSL_CTX that Python made, and how its connections begin
#   Session   one connection: no descriptor, no Python per record; whoever has the descriptor moves the bytes
#   Ticket    a session that a backend may resume
#
# Ownership: a Session owns its SSL, which owns both BIOs and refers to its SSL_CTX; Setting keeps what Python hung on that.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from gwfast.engine.sys cimport iovec

cdef enum:
    RECORD_MOST = 16384        # of plain text, limits.RECORD_BYTES
    SEAL_ROOM = 256            # that a record, its head and tag add to its plain text, at most
    KEY_UPDATES = 256          # answered on one connection, limits.KEY_UPDATES

# What open() says instead of a number of bytes.
cdef enum:
    OPEN_END = 0               # close_notify: the other side sends nothing more
    OPEN_MORE = -1             # nothing to read until more is fed
    OPEN_BROKEN = -2

cdef enum Chosen:              # by ALPN
    CHOSEN_NONE
    CHOSEN_HTTP1
    CHOSEN_H2

cdef enum HandshakeEnd:        # why a handshake with a client came to nothing
    END_HELLO                  # what came is no ClientHello
    END_PLAIN_HTTP             # but a request in clear
    END_NAME                   # no listener has the name that it asks for
    END_SETTINGS               # its listener has no certificate that can be used
    END_TIMEOUT
    END_CLOSED                 # by the client, before the end
    END_ALERT                  # the same, and it said why
    END_VERSION                # none in common; so the next two
    END_CIPHER
    END_APPLICATION
    END_NO_CERTIFICATE         # where one has to be shown
    END_BAD_CERTIFICATE
    END_OTHER
    HANDSHAKE_ENDS

cdef class Setting:
    cdef void *ctx
    cdef object context        # the OpenSSL.SSL.Context
    cdef Setting root          # whose ticket keys are used; itself where it has its own
    cdef int verify            # SSL_VERIFY_*
    cdef bint lenient          # asks for a certificate and takes a bad one

cdef class Ticket:
    cdef void *session

cdef class Session:
    cdef void *ssl
    cdef void *inward          # memory BIOs; NULL while it rests
    cdef void *outward
    cdef Setting setting
    cdef unsigned long error   # OpenSSL's code of what broke it; 0: none was given
    cdef uint16_t answers      # KeyUpdates answered
    cdef bint done             # with the handshake
    cdef bint ended            # close_notify came
    cdef bint broken
    cdef bint answering        # open() has made something that has to be sent

    cdef int handshake(self) noexcept                              # 1: done; 0: more is needed; -1: failed. sealed() in each case
    cdef HandshakeEnd end(self) noexcept                           # why handshake() failed
    cdef bint alerts(self) noexcept                                # we broke it, and an alert that has to arrive says why
    cdef int feed(self, const char *at, size_t n) noexcept         # 0, or -1: no memory
    cdef ssize_t open(self, char *at, size_t n) noexcept           # fills the room as far as it can; > 0, or OPEN_*
    cdef bint holds(self) noexcept                                 # open() may have more without being fed
    cdef int seal(self, const char *at, size_t n) noexcept         # 0 or -1
    cdef int sealv(self, const iovec *parts, int count, char *room) noexcept   # the same of parts; `room` has RECORD_MOST bytes
    cdef size_t sealed(self, char *at, size_t n) noexcept          # takes what has to be sent; 0: nothing has
    cdef size_t unsent(self) noexcept
    cdef int goodbye(self) noexcept                                # seals close_notify
    cdef void rest(self) noexcept                                  # gives memory back; whenever nothing is under way
    cdef Chosen chosen(self) noexcept
    cdef bint resumed(self) noexcept
    cdef const char *version(self) noexcept                        # 'TLSv1.3'; NULL before the end of the handshake
    cdef const char *cipher(self) noexcept                         # in OpenSSL's words
    cdef long verdict(self) noexcept                               # on the other side's certificate: X509_V_*
    cdef Ticket ticket(self)                                       # of a client: None where there is none (yet)
    cdef int stuck(self, int result) noexcept

cdef Session serve(Setting setting)                                # None: no memory
cdef Session dial(Setting setting, const char *name, Ticket ticket)   # `name` for SNI ends with NUL, or NULL
