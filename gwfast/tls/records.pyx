"""TLS records through pyOpenSSL's library (see records.pxd).

Rules
- pyOpenSSL is imported by load(), when TLS is first needed: a gateway without costs nothing for it.
- Contexts are pyOpenSSL's; an SSL is made here, and every callback of it is one of this file's, so that nothing of Python
  runs in a handshake. No context may have a callback of pyOpenSSL's: it would look for a Connection that there is not.
- OpenSSL's error queue belongs to the thread, and SSL_get_error looks at it: it is empty before every call that may fail.
- A record of plain text never waits in OpenSSL: open() reads until the room is full or nothing is left, seal() fills records.
- No renegotiation, no compression, no early data; a client's KeyUpdates are answered so many times.
- Bytes that end without close_notify are told apart (`ended`): what is cut must not look whole.
"""
cimport cython
from libc.stdint cimport uint8_t, uintptr_t
from libc.string cimport memcmp, memcpy

from gwfast.engine.sys cimport iovec

cdef enum:
    SSL_ERROR_WANT_READ = 2
    SSL_ERROR_ZERO_RETURN = 6
    SSL_VERIFY_PEER = 1
    SSL_CTRL_SET_HOST_NAME = 55
    SSL_SENT_AND_RECEIVED = 3      # of close_notify
    TLSEXT_ERR_OK = 0
    TLSEXT_ERR_ALERT_FATAL = 2
    MOST = 1 << 30

ctypedef int (*AlpnCallback)(void *, const uint8_t **, uint8_t *, const uint8_t *, unsigned int, void *) noexcept nogil
ctypedef int (*VerifyCallback)(int, void *) noexcept nogil

# What is called, by its name in OpenSSL. Written once, by load().
cdef struct Functions:
    void *(*SSL_new)(void *)
    void (*SSL_free)(void *)
    void (*SSL_set_bio)(void *, void *, void *)
    void *(*SSL_set_SSL_CTX)(void *, void *)
    void (*SSL_set_verify)(void *, int, VerifyCallback)
    void (*SSL_set_accept_state)(void *)
    void (*SSL_set_connect_state)(void *)
    void (*SSL_set_tlsext_host_name)(void *, char *)
    int (*SSL_set_session)(void *, void *)
    void *(*SSL_get1_session)(void *)
    void (*SSL_SESSION_free)(void *)
    int (*SSL_session_reused)(void *)
    int (*SSL_do_handshake)(void *)
    int (*SSL_read)(void *, void *, int)
    int (*SSL_write)(void *, const void *, int)
    int (*SSL_pending)(const void *)
    int (*SSL_get_error)(const void *, int)
    int (*SSL_shutdown)(void *)
    void (*SSL_set_shutdown)(void *, int)
    void (*SSL_get0_alpn_selected)(const void *, const uint8_t **, unsigned int *)
    long (*SSL_get_verify_result)(const void *)
    void (*SSL_CTX_set_alpn_select_cb)(void *, AlpnCallback, void *)
    void *(*BIO_new)(const void *)
    int (*BIO_free)(void *)
    const void *(*BIO_s_mem)()
    int (*BIO_read)(void *, void *, int)
    int (*BIO_write)(void *, const void *, int)
    long (*BIO_get_mem_data)(void *, char **)
    unsigned long (*ERR_get_error)()
    unsigned long (*ERR_peek_error)()
    void (*ERR_clear_error)()
    const char *(*SSL_get_version)(const void *)
    const void *(*SSL_get_current_cipher)(const void *)
    const char *(*SSL_CIPHER_get_name)(const void *)

# In the order of the struct, which is read as an array of pointers.
NAMES = (
    "SSL_new", "SSL_free", "SSL_set_bio", "SSL_set_SSL_CTX", "SSL_set_verify", "SSL_set_accept_state",
    "SSL_set_connect_state", "SSL_set_tlsext_host_name", "SSL_set_session", "SSL_get1_session", "SSL_SESSION_free",
    "SSL_session_reused", "SSL_do_handshake", "SSL_read", "SSL_write", "SSL_pending", "SSL_get_error", "SSL_shutdown",
    "SSL_set_shutdown", "SSL_get0_alpn_selected", "SSL_get_verify_result", "SSL_CTX_set_alpn_select_cb", "BIO_new",
    "BIO_free", "BIO_s_mem", "BIO_read", "BIO_write", "BIO_get_mem_data", "ERR_get_error", "ERR_peek_error", "ERR_clear_error",
    "SSL_get_version", "SSL_get_current_cipher", "SSL_CIPHER_get_name",
)

cdef Functions ssl


def load() -> None:
    """Import pyOpenSSL and collect its functions; where that was done, this is all that it does.

    Raises ImportError where pyOpenSSL is not there, or no longer offers what is called here.
    """
    cdef void **to = <void **>&ssl
    if ssl.ERR_clear_error != NULL:
        return
    from OpenSSL import _util
    functions = getattr(_util.lib, "_original_lib", None)
    found = []
    for name in NAMES:
        try:
            found.append(int(_util.ffi.cast("uintptr_t", _util.ffi.addressof(functions, name))))
        except (AttributeError, TypeError):
            raise ImportError(f"this pyOpenSSL offers no function {name} of its library (OpenSSL._util.lib._original_lib): "
                              "see constraints.txt for a version that does") from None
    for i, address in enumerate(found):
        to[i] = <void *><uintptr_t>address


cdef void *pointer(cdata) except? NULL:
    """The address that an object of pyOpenSSL's cffi holds."""
    from OpenSSL._util import ffi
    return <void *><uintptr_t>int(ffi.cast("uintptr_t", cdata))


cdef inline void fresh() noexcept:
    if ssl.ERR_peek_error():
        ssl.ERR_clear_error()


# Chooses a protocol of the application (RFC 7301 3.2): h2 where it is offered, else http/1.1, else none is left.
cdef int choose(void *connection, const uint8_t **out, uint8_t *out_n, const uint8_t *at, unsigned int n,
                void *arg) noexcept nogil:
    cdef unsigned int i = 0
    cdef int result = TLSEXT_ERR_ALERT_FATAL
    while i < n and i + 1 + at[i] <= n:
        if at[i] == 2 and memcmp(at + i + 1, b"h2", 2) == 0:
            out[0], out_n[0] = at + i + 1, 2
            return TLSEXT_ERR_OK
        if at[i] == 8 and memcmp(at + i + 1, b"http/1.1", 8) == 0:
            out[0], out_n[0] = at + i + 1, 8
            result = TLSEXT_ERR_OK
        i += 1 + at[i]
    return result


cdef int take_any(int good, void *store) noexcept nogil:
    return 1                       # SSL_get_verify_result() still says what was wrong


@cython.final
@cython.no_gc
cdef class Setting:
    """A context as it is used: `context` is an OpenSSL.SSL.Context of which nothing is changed any more.

    root: the Setting that its connections begin with, whose ticket keys they have. verify: SSL_VERIFY_*; lenient: a bad
    certificate is as good as none. alpn: of a server: h2 and http/1.1 are there to be chosen.
    """

    def __init__(self, context, *, Setting root=None, int verify=0, bint lenient=False, bint alpn=False):
        load()
        self.context = context
        self.ctx = pointer(context._context)
        self.root = root
        self.verify = verify
        self.lenient = lenient
        if alpn:
            ssl.SSL_CTX_set_alpn_select_cb(self.ctx, choose, NULL)


@cython.final
@cython.no_gc
cdef class Ticket:
    """A session that a client may resume."""

    def __dealloc__(self):
        if self.session != NULL:
            ssl.SSL_SESSION_free(self.session)


cdef Session begin(Setting setting, Setting first):
    cdef Session session = Session.__new__(Session)
    session.setting = setting
    session.ssl = ssl.SSL_new(first.ctx)
    if session.ssl == NULL or wake(session) < 0:
        fresh()
        return None
    return session


# BIOs for a session that has none.
cdef int wake(Session session) noexcept:
    cdef void *inward = ssl.BIO_new(ssl.BIO_s_mem())
    cdef void *outward = ssl.BIO_new(ssl.BIO_s_mem())
    if inward == NULL or outward == NULL:
        ssl.BIO_free(inward)
        ssl.BIO_free(outward)
        return -1
    ssl.SSL_set_bio(session.ssl, inward, outward)
    session.inward, session.outward = inward, outward
    return 0


cdef Session serve(Setting setting):
    cdef Session session = begin(setting, setting if setting.root is None else setting.root)
    if session is None:
        return None
    if setting.root is not None and ssl.SSL_set_SSL_CTX(session.ssl, setting.ctx) == NULL:
        fresh()
        return None
    ssl.SSL_set_verify(session.ssl, setting.verify, take_any if setting.lenient else <VerifyCallback>NULL)
    ssl.SSL_set_accept_state(session.ssl)
    return session


cdef Session dial(Setting setting, const char *name, Ticket ticket):
    cdef Session session = begin(setting, setting)
    if session is None:
        return None
    if name != NULL:
        ssl.SSL_set_tlsext_host_name(session.ssl, <char *>name)
    if ticket is not None:
        ssl.SSL_set_session(session.ssl, ticket.session)
    ssl.SSL_set_verify(session.ssl, setting.verify, <VerifyCallback>NULL)
    ssl.SSL_set_connect_state(session.ssl)
    fresh()
    return session


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Session:
    """One connection, its bytes in memory."""

    def __dealloc__(self):
        if self.ssl != NULL:
            ssl.SSL_set_shutdown(self.ssl, SSL_SENT_AND_RECEIVED)   # or its session could not be resumed
            ssl.SSL_free(self.ssl)

    cdef int stuck(self, int result) noexcept:
        """What a call that gave no bytes means: OPEN_*."""
        cdef int error = ssl.SSL_get_error(self.ssl, result)
        if error == SSL_ERROR_WANT_READ:
            return OPEN_MORE
        if error == SSL_ERROR_ZERO_RETURN:
            self.ended = True
            return OPEN_END
        self.broken = True
        self.error = ssl.ERR_get_error()
        fresh()
        return OPEN_BROKEN

    cdef int handshake(self) noexcept:
        cdef int result
        if self.broken:
            return -1
        fresh()
        result = ssl.SSL_do_handshake(self.ssl)
        if result == 1:
            self.done = True
            return 1
        if self.stuck(result) == OPEN_MORE:
            return 0
        self.broken = True
        return -1

    cdef HandshakeEnd end(self) noexcept:
        cdef unsigned long why = self.error & 0x7fffff         # ERR_GET_REASON; by the numbers of sslerr.h
        if 1000 <= why < 1256:     # SSL_AD_REASON_OFFSET
            return END_ALERT
        if why == 258 or why == 191 or why == 396 or why == 292:
            return END_VERSION
        if why == 193 or why == 101 or why == 118 or why == 376 or why == 410:     # or group, or signature
            return END_CIPHER
        if why == 235:
            return END_APPLICATION
        return END_NO_CERTIFICATE if why == 199 else END_BAD_CERTIFICATE if why == 134 else END_OTHER

    cdef bint alerts(self) noexcept:
        return self.broken and self.error != 0 and self.end() != END_ALERT

    cdef int feed(self, const char *at, size_t n) noexcept:
        if self.inward == NULL and wake(self) < 0:
            return -1
        if n > MOST or n and ssl.BIO_write(self.inward, at, <int>n) != <int>n:
            fresh()
            return -1
        return 0

    cdef bint holds(self) noexcept:
        return not self.broken and not self.ended and self.inward != NULL and (
            ssl.SSL_pending(self.ssl) > 0 or ssl.BIO_get_mem_data(self.inward, NULL) > 0)

    cdef ssize_t open(self, char *at, size_t n) noexcept:
        cdef size_t got = 0
        cdef int result = 0
        if self.ended:
            return OPEN_END
        if self.broken or not self.done:
            return OPEN_BROKEN
        if self.inward == NULL:
            return OPEN_MORE
        while got < n:
            fresh()
            result = ssl.SSL_read(self.ssl, at + got, <int>min(n - got, <size_t>MOST))
            if result <= 0:
                result = self.stuck(result)
                break
            got += result
            if not self.holds():
                break
        if ssl.BIO_get_mem_data(self.outward, NULL) > 0:
            self.answering = True
            self.answers += 1
            if self.answers > KEY_UPDATES:
                self.broken = True
                return OPEN_BROKEN
        return <ssize_t>got if got else result

    cdef int seal(self, const char *at, size_t n) noexcept:
        cdef int result
        if self.broken or not self.done or self.outward == NULL and wake(self) < 0:
            return -1
        while n:
            fresh()
            result = ssl.SSL_write(self.ssl, at, <int>min(n, <size_t>MOST))
            if result <= 0:
                self.stuck(result)
                self.broken = True
                return -1
            at += result
            n -= result
        return 0

    cdef int sealv(self, const iovec *parts, int count, char *room) noexcept:
        """Fill records: what is small goes through the room, what is large does not."""
        cdef size_t held = 0, n, step
        cdef const char *at
        cdef int i
        for i in range(count):
            at, n = <const char *>parts[i].iov_base, parts[i].iov_len
            while n:
                if held == 0 and (n >= RECORD_MOST or i == count - 1):
                    step = n if i == count - 1 else n - n % RECORD_MOST
                    if self.seal(at, step) < 0:
                        return -1
                else:
                    step = min(n, RECORD_MOST - held)
                    memcpy(room + held, at, step)
                    held += step
                    if held == RECORD_MOST:
                        if self.seal(room, held) < 0:
                            return -1
                        held = 0
                at += step
                n -= step
        return self.seal(room, held)

    cdef size_t unsent(self) noexcept:
        return ssl.BIO_get_mem_data(self.outward, NULL) if self.outward != NULL else 0

    cdef size_t sealed(self, char *at, size_t n) noexcept:
        cdef long held = <long>self.unsent()
        cdef int result
        if held <= 0 or n == 0:
            return 0
        result = ssl.BIO_read(self.outward, at, <int>min(n, <size_t>MOST))
        if result >= held:
            self.answering = False
        return result if result > 0 else 0

    cdef int goodbye(self) noexcept:
        cdef int result
        if self.broken or not self.done or self.outward == NULL and wake(self) < 0:
            return -1
        fresh()
        result = ssl.SSL_shutdown(self.ssl)
        fresh()
        return 0 if result >= 0 else -1

    cdef void rest(self) noexcept:
        if self.inward != NULL and self.done and self.unsent() == 0 and not self.holds():
            ssl.SSL_set_bio(self.ssl, NULL, NULL)
            self.inward = self.outward = NULL

    cdef Chosen chosen(self) noexcept:
        cdef const uint8_t *at = NULL
        cdef unsigned int n = 0
        ssl.SSL_get0_alpn_selected(self.ssl, &at, &n)
        return CHOSEN_H2 if n == 2 else CHOSEN_HTTP1 if n == 8 else CHOSEN_NONE

    cdef bint resumed(self) noexcept:
        return ssl.SSL_session_reused(self.ssl)

    cdef long verdict(self) noexcept:
        return ssl.SSL_get_verify_result(self.ssl)

    cdef Ticket ticket(self):
        cdef Ticket ticket = Ticket.__new__(Ticket)
        ticket.session = ssl.SSL_get1_session(self.ssl)
        return ticket if ticket.session != NULL else None

    # -- once a handshake at most, in Python -----------------------------------------------------------------------------

    def reason(self) -> str:
        """What broke the connection, in OpenSSL's words; '' where it gave none."""
        from OpenSSL._util import ffi, lib
        words = lib.ERR_reason_error_string(self.error) if self.error else ffi.NULL
        text = ffi.string(words).decode() if words != ffi.NULL else ""
        problem = ssl.SSL_get_verify_result(self.ssl)
        if text == "certificate verify failed" and problem:
            text += ": " + ffi.string(lib.X509_verify_cert_error_string(problem)).decode()
        return text

    cdef const char *version(self) noexcept:
        return ssl.SSL_get_version(self.ssl) if self.done else NULL

    cdef const char *cipher(self) noexcept:
        return ssl.SSL_CIPHER_get_name(ssl.SSL_get_current_cipher(self.ssl)) if self.done else NULL

    def facts(self) -> tuple:
        """Return (version, cipher, the name that the client asked for), each '' where there is none."""
        from OpenSSL._util import ffi, lib
        connection = ffi.cast("SSL *", <uintptr_t>self.ssl)
        cipher = lib.SSL_get_current_cipher(connection)
        said = lib.SSL_get_version(connection), ffi.NULL if cipher == ffi.NULL else lib.SSL_CIPHER_get_name(cipher), (
            lib.SSL_get_servername(connection, lib.TLSEXT_NAMETYPE_host_name))
        return tuple(["" if one == ffi.NULL else ffi.string(one).decode("latin-1") for one in said])

    def peer_certificate(self):
        """The other side's certificate in DER (b'': none), and whether it was verified."""
        from OpenSSL._util import ffi, lib
        found = lib.SSL_get_peer_certificate(ffi.cast("SSL *", <uintptr_t>self.ssl))
        if found == ffi.NULL:
            return b"", False
        found = ffi.gc(found, lib.X509_free)
        to = ffi.gc(lib.BIO_new(lib.BIO_s_mem()), lib.BIO_free)
        lib.i2d_X509_bio(to, found)
        at = ffi.new("char **")
        n = lib.BIO_get_mem_data(to, at)
        return ffi.buffer(at[0], n)[:], ssl.SSL_get_verify_result(self.ssl) == 0


@cython.final
cdef class Tap:
    """A connection for Python: of a server, or of a client that asks for `name` (b'': none) and resumes `ticket`."""
    cdef readonly Session session

    def __init__(self, Setting setting not None, *, bint client=False, bytes name=b"", Ticket ticket=None):
        self.session = dial(setting, <const char *>name if name else NULL, ticket) if client else serve(setting)
        if self.session is None:
            raise MemoryError

    def handshake(self, data: bytes):
        """Go on with what has arrived: (1, 0 or -1; what has to be sent)."""
        self.session.feed(data, len(data))
        return self.session.handshake(), self.sealed()

    def open(self, data: bytes, size_t room=65536):
        """Read what has arrived: (plain text, or the number that says why there is none; what has to be sent)."""
        at = bytearray(room)
        self.session.feed(data, len(data))
        result = self.session.open(<char *>at, room)
        return bytes(at[:result]) if result > 0 else result, self.sealed()

    def seal(self, *parts):
        """Write plain text: what has to be sent."""
        cdef iovec all_[8]
        cdef char room[RECORD_MOST]
        cdef int i
        for i in range(len(parts)):
            all_[i].iov_base, all_[i].iov_len = <char *>(<bytes>parts[i]), len(parts[i])
        if self.session.sealv(all_, len(parts), room) < 0:
            raise ConnectionError(self.session.reason())
        return self.sealed()

    def sealed(self):
        """Take what has to be sent."""
        cdef char room[4096]
        taken = b""
        while self.session.unsent():
            taken += room[:self.session.sealed(room, sizeof(room))]
        return taken

    def goodbye(self):
        """End our side: what has to be sent."""
        self.session.goodbye()
        return self.sealed()

    def rest(self):
        """Give memory back; whether there was any."""
        had = self.session.inward != NULL
        self.session.rest()
        return had and self.session.inward == NULL

    def ticket(self):
        """The session, as far as the server gave it."""
        return self.session.ticket()

    @property
    def facts(self):
        """What is known of the connection."""
        return {"chosen": ("", "http/1.1", "h2")[self.session.chosen()], "resumed": self.session.resumed(),
                "done": self.session.done, "ended": self.session.ended, "broken": self.session.broken,
                "answering": self.session.answering}
