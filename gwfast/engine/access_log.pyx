"""The access log (see access_log.pxd).

Rules
- A line is whole or absent. Lines are written when 32 KiB are there and at every tick; to a pipe in pieces of at most
  PIPE_BUF that end with a line, so that the lines of several workers never mix (a longer line may).
- A log that nobody reads must not stop traffic: what a descriptor does not take at once is dropped and counted. A pipe is
  opened anew for that, without blocking: room for one page is room to poll(), and others share the pipe. A socket, as that of
  journald, is told with each write.
- Bytes from outside are escaped: nothing in a request can end a line or a string.
"""
import os
import stat

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memmove, memset

from gwfast.http.fault cimport FAULT_BAD_REQUEST, fault_row, why_word
from gwfast.http.header_writer cimport Out, answer_size, put, put_number, say
from gwfast.http.head cimport Slice
from gwfast.engine.sys cimport EINTR, MSG_DONTWAIT, MSG_NOSIGNAL, POLLOUT, close, errno, poll, pollfd, send, write

cdef extern from *:
    """
    #if defined(__SSE2__) && !defined(GWFAST_PORTABLE)
    #include <emmintrin.h>
    #endif
    #include <stdint.h>

    /* Of 8 bytes: whether each is printable ASCII, and no quotation mark or backslash. */
    static inline int gw_eight_plain(uint64_t x)
    {
        const uint64_t ones = 0x0101010101010101ull, tops = ones << 7;
        const uint64_t del = x ^ ones * 127, mark = x ^ ones * '"', back = x ^ ones * '\\\\';
        const uint64_t zero = ((del - ones) & ~del) | ((mark - ones) & ~mark) | ((back - ones) & ~back);
        return !((x | (x - ones * 32) | zero) & tops);
    }

    /* Whether all of n bytes are such. A word that is not full is read from where it ends, over what was looked at before. */
    static inline int gw_all_plain(const char *at, uint32_t n)
    {
        uint64_t x = 0;
        uint32_t a, b, i = 0;
        if (n >= 16) {
    #if defined(__SSE2__) && !defined(GWFAST_PORTABLE)
            const __m128i low = _mm_set1_epi8(31), del = _mm_set1_epi8(127);
            const __m128i mark = _mm_set1_epi8('"'), back = _mm_set1_epi8('\\\\');
            for (;;) {
                const __m128i v = _mm_loadu_si128((const __m128i *)(at + i));
                const __m128i marks = _mm_or_si128(_mm_cmpeq_epi8(v, mark), _mm_cmpeq_epi8(v, back));
                const __m128i bad = _mm_or_si128(_mm_cmpeq_epi8(v, del), marks);
                if (_mm_movemask_epi8(_mm_andnot_si128(bad, _mm_cmpgt_epi8(v, low))) != 0xffff) return 0;
                if (i + 16 >= n) return 1;
                i = i + 32 <= n ? i + 16 : n - 16;
            }
    #endif
        }
        for (; i + 8 <= n; i += 8) {
            __builtin_memcpy(&x, at + i, 8);
            if (!gw_eight_plain(x)) return 0;
        }
        if (i == n) return 1;
        if (n >= 8) __builtin_memcpy(&x, at + n - 8, 8);
        else if (n >= 4) {
            __builtin_memcpy(&a, at, 4);
            __builtin_memcpy(&b, at + n - 4, 4);
            x = a | (uint64_t)b << 32;
        } else {
            x = 0x2020202020202020ull;
            while (n--) x = x << 8 | (uint8_t)at[n];
        }
        return gw_eight_plain(x);
    }
    """
    bint all_plain "gw_all_plain"(const char *at, uint32_t n) noexcept nogil

cdef enum:
    BUFFER = 131072
    BATCH = 32768
    PIPE = 4096            # PIPE_BUF: what a pipe takes whole


cdef const char *HEX = b"0123456789abcdef"


cdef void put_escaped(Out *out, Slice value, bint json) noexcept nogil:
    cdef uint32_t i, run = 0
    cdef uint8_t c
    cdef char code[6]
    if all_plain(value.at, value.n):
        put(out, value.at, value.n)
        return
    for i in range(value.n):
        c = <uint8_t>value.at[i]
        if c >= 32 and c < 127 and c != 34 and c != 92:
            continue
        put(out, value.at + run, i - run)
        run = i + 1
        if json and (c == 34 or c == 92):
            code[0] = 92
            code[1] = c
            put(out, code, 2)
        elif json:
            code[0] = 92
            code[1] = c"u"
            code[2] = code[3] = c"0"
            code[4] = HEX[c >> 4]
            code[5] = HEX[c & 15]
            put(out, code, 6)
        else:
            code[0] = 92
            code[1] = c"x"
            code[2] = HEX[c >> 4]
            code[3] = HEX[c & 15]
            put(out, code, 4)
    put(out, value.at + run, value.n - run)


cdef inline void member(Out *out, const char *name, Slice value) noexcept nogil:
    if value.n:
        say(out, b',"')
        say(out, name)
        say(out, b'":"')
        put_escaped(out, value, True)
        say(out, b'"')


cdef inline void number(Out *out, const char *name, uint64_t value) noexcept nogil:
    say(out, b',"')
    say(out, name)
    say(out, b'":')
    put_number(out, value)


cdef inline void word(Out *out, const char *name, const char *value) noexcept nogil:
    """A member whose value is a word of ours, or of the TLS library: it needs no escapes."""
    if value != NULL:
        say(out, b',"')
        say(out, name)
        say(out, b'":"')
        say(out, value)
        say(out, b'"')


cdef inline void thousandths(Out *out, uint64_t value) noexcept nogil:
    cdef char rest[4]
    rest[0] = c"."
    rest[1] = <char>(48 + value // 100)
    rest[2] = <char>(48 + value % 100 // 10)
    rest[3] = <char>(48 + value % 10)
    put(out, rest, 4)


cdef inline void millis(Out *out, const char *name, uint64_t micros) noexcept nogil:
    number(out, name, micros // 1000)
    thousandths(out, micros % 1000)


cdef void say_tls(Record *record, Session tls) noexcept:
    if tls is not None:
        record.tls_version, record.tls_cipher = tls.version(), tls.cipher()


@cython.final
@cython.no_gc
cdef class AccessLog:
    def __cinit__(self):
        self.own = -1

    def __init__(self, Loop loop not None, int fd, str format):
        self.loop = loop
        self.fd = fd
        self.format = {"off": LOG_OFF, "json": LOG_JSON, "common": LOG_COMMON}[format]
        if self.format:
            mode = os.fstat(fd).st_mode
            self.socket = stat.S_ISSOCK(mode)
            self.pipe = not self.socket and not stat.S_ISREG(mode)
            if self.pipe:
                try:
                    self.fd = self.own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
                except OSError:
                    pass               # no /proc: poll() has to do
            self.buffer = <char *>malloc(BUFFER)
            if self.buffer == NULL:
                raise MemoryError

    def __dealloc__(self):
        free(self.buffer)
        if self.own >= 0:
            close(self.own)

    cdef void line(self, const Record *record) noexcept:
        cdef Out out
        if self.format == LOG_OFF:
            return
        out.at = self.buffer + self.n
        out.end = self.buffer + BUFFER
        out.full = False
        if self.format == LOG_JSON:
            self.json(&out, record)
        else:
            self.common(&out, record)
        say(&out, b"\n")
        if out.full:           # a line of more than 96 KiB, or a log that nobody takes
            self.loop.counters.totals.log_dropped += 1
        else:
            self.n = <uint32_t>(out.at - self.buffer)
        if self.n >= BATCH:
            self.flush()

    cdef void refusal(self, const char *client, uint8_t n, Session tls, int minor, int fault, int why, int status) noexcept:
        cdef Record record
        if self.format == LOG_OFF:
            return
        memset(&record, 0, sizeof(record))
        record.client.at, record.client.n = client, n
        record.flags = fault_row(fault).word
        record.reason = why_word(why) if fault == FAULT_BAD_REQUEST else NULL
        record.status, record.minor = <uint16_t>status, <uint8_t>minor
        record.bytes_out = answer_size(status) if status else 0
        say_tls(&record, tls)
        self.line(&record)

    cdef void json(self, Out *out, const Record *record) noexcept:
        say(out, b'{"time":"')
        put(out, self.loop.stamp, 19)
        thousandths(out, (self.loop.now_us + self.loop.wall_us) // 1000 % 1000)
        say(out, b'Z"')
        member(out, "client", record.client)                   # the client's address; of a trusted proxy, the one that it names
        member(out, "method", record.method)                   # the method
        member(out, "host", record.host)                       # the Host, or the name in the ClientHello
        member(out, "target", record.target)                   # the path and query, as the client sent them
        if record.method.n:
            say(out, b',"protocol":"HTTP/2.0"' if record.minor == 2 else b',"protocol":"HTTP/1.1"' if record.minor
                else b',"protocol":"HTTP/1.0"')
        number(out, "status", record.status)                   # the status that the client got; 0: none
        say(out, b',"flags":"')
        say(out, record.flags)
        say(out, b'"')
        word(out, "reason", record.reason)                     # why it is a bad_request
        millis(out, "duration_ms", record.duration_us)         # from the first byte of the request to the end of its response
        if record.upstream_us:
            millis(out, "upstream_ms", record.upstream_us)     # the same until the head of the backend's response
        number(out, "bytes_in", record.bytes_in)               # bytes of the request's body
        number(out, "bytes_out", record.bytes_out)             # bytes of the response's body
        member(out, "listener", record.listener)               # the listener: namespace/Gateway/name
        if record.route.n:
            member(out, "route", record.route)                 # the route: kind/namespace/name
            number(out, "rule", record.rule)                   # the number of the rule in its route, from 0
        member(out, "backend", record.backend)                 # the backend that was chosen
        member(out, "endpoint", record.endpoint)               # the address and port that the request went to
        if record.attempts > 1:
            number(out, "attempts", record.attempts)           # how many endpoints were tried, where it was more than one
        member(out, "request_id", record.request_id)           # X-Request-ID of the request
        member(out, "referer", record.referer)                 # Referer of the request
        member(out, "user_agent", record.agent)                # User-Agent of the request
        word(out, "tls_version", record.tls_version)           # the version of the client's TLS
        word(out, "tls_cipher", record.tls_cipher)             # the cipher of the client's TLS
        say(out, b"}")

    cdef void common(self, Out *out, const Record *record) noexcept:
        # host ident user [time] "request" status bytes "referer" "agent": the combined form of the common log format
        put(out, record.client.at, record.client.n)
        say(out, b" - - [")
        put(out, self.loop.clf, 26)
        say(out, b'] "')
        if record.method.n:
            put_escaped(out, record.method, False)
            say(out, b" ")
            put_escaped(out, record.target, False)
            say(out, b" HTTP/2.0" if record.minor == 2 else b" HTTP/1.1" if record.minor else b" HTTP/1.0")
        say(out, b'" ')
        put_number(out, record.status)
        say(out, b" ")
        put_number(out, record.bytes_out)
        self.quoted(out, record.referer)
        self.quoted(out, record.agent)

    cdef void quoted(self, Out *out, Slice value) noexcept:
        say(out, b' "')
        if value.n:
            put_escaped(out, value, False)
        else:
            say(out, b"-")
        say(out, b'"')

    cdef void flush(self) noexcept:
        cdef uint32_t at = 0, piece
        cdef pollfd ready
        cdef ssize_t done
        while at < self.n:
            piece = self.n - at
            if self.pipe:
                ready.fd = self.fd
                ready.events = POLLOUT
                ready.revents = 0
                if poll(&ready, 1, 0) != 1 or not ready.revents & POLLOUT:
                    break
            if (self.pipe or self.socket) and piece > PIPE:
                piece = last_line(self.buffer + at, PIPE)
                if piece == 0:         # one line longer than PIPE_BUF
                    piece = first_line(self.buffer + at, self.n - at)
            if self.socket:
                done = send(self.fd, self.buffer + at, piece, MSG_DONTWAIT | MSG_NOSIGNAL)
            else:
                done = write(self.fd, self.buffer + at, piece)
            if done < 0 and errno == EINTR:
                continue
            if done <= 0:
                break
            at += <uint32_t>done
        piece = 0
        if at:
            self.begun = self.buffer[at - 1] != 10
        if self.begun:             # a line that has begun ends with the next batch
            piece = first_line(self.buffer + at, self.n - at)
            memmove(self.buffer, self.buffer + at, piece)
            at += piece
        while at < self.n:         # what nobody took
            at += first_line(self.buffer + at, self.n - at)
            self.loop.counters.totals.log_dropped += 1
        self.n = piece


cdef uint32_t first_line(const char *at, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if at[i] == 10:
            return i + 1
    return n


cdef uint32_t last_line(const char *at, uint32_t n) noexcept nogil:
    while n and at[n - 1] != 10:
        n -= 1
    return n
