"""A client's connection until it is known what it speaks (see handshake.pxd).

Rules
- The ClientHello is looked at before anything is answered: its name chooses the listener, which chooses the certificate
  and whether TLS ends here at all. What cannot be served gets the alert that says why (RFC 8446 6.2).
- HTTP in clear is answered in clear, as nginx does: who speaks it could not read an alert.
- Python is called once a handshake, for the Setting.
- All of it has one deadline, from the first byte or from accept.
"""
cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from gwfast.engine.counters import HANDSHAKE_ENDS as WORDS
from gwfast.tls.client_hello import ALERTS

from gwfast.engine.address cimport ADDRESS_TEXT, text_address
from gwfast.tls.cleartext cimport CLEAR_BYTES, CLEAR_HTTP1, CLEAR_HTTP2, CLEAR_NONE, Clear, clear_answer, clear_peek
from gwfast.http1.connection cimport HEAD, Http1Connection
from gwfast.http.fault cimport FAULT_HELLO, FAULT_PROXY_HEADER, FAULT_TLS
from gwfast.http2.connection cimport Http2Connection
from gwfast.tls.client_hello cimport (ALERT_BYTES, ALERT_HANDSHAKE_FAILURE, ALERT_MISSING_EXTENSION, ALERT_PROTOCOL_VERSION,
                                      ALERT_UNRECOGNIZED_NAME, HELLO_PARTIAL, hello_peek, put_alert)
from gwfast.engine.linger cimport let_arrive
from gwfast.engine.loop cimport READ, READ_AGAIN, RECORDS, append, consume, release, waiting
from gwfast._match cimport find_listener
from gwfast.engine.proxy_protocol cimport parse_proxy
from gwfast.l4.relay cimport Relay
from gwfast.engine.sys cimport *
from gwfast.table.layout cimport BIND_TCP, BIND_TLS, MODE_HTTPS, MODE_PASSTHROUGH, Bind
from gwfast.tls.records cimport (CHOSEN_H2, END_CLOSED, END_HELLO, END_NAME, END_PLAIN_HTTP, END_SETTINGS, END_TIMEOUT,
                                 END_VERSION, HANDSHAKE_ENDS, Session, Setting, serve)

cdef enum:
    HANDSHAKE_MS = 10000   # limits.HANDSHAKE_TIMEOUT


@cython.final
@cython.no_gc
cdef class Handshake(Client):
    cdef void start(self) noexcept:
        cdef const Bind *bind = self.bind()
        self.stage = STAGE_PROXY if bind != NULL and bind.proxy_protocol else STAGE_HELLO
        self.loop.arm(self, self.loop.now_ms + HANDSHAKE_MS)
        self.pump()

    cdef void on_events(self, uint32_t events) noexcept:
        if events & EPOLLERR:
            self.abandoned()
            return
        if events & (EPOLLRDHUP | EPOLLHUP):
            self.hangup = True
        if events & EPOLLOUT and self.out.base != NULL and self.flush() < 0:
            self.close()
            return
        if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP):
            self.readable = True
            self.pump()

    cdef void on_deadline(self) noexcept:
        self.refuse(FAULT_TLS if self.stage == STAGE_HANDSHAKE else FAULT_HELLO, END_TIMEOUT)

    cdef void drain(self) noexcept:
        pass                       # its deadline is near, and a request may be on its way

    cdef void close(self) noexcept:
        if not self.closed:
            self.torn = self.stage != STAGE_HANDSHAKE or not self.tls.done
            release(&self.loop.pool, &self.input)
            release(&self.loop.pool, &self.name)
            Client.close(self)

    cdef void count(self, int fault, int why, int alert) noexcept:
        self.gateway.counters.totals.faults[fault] += 1
        if fault == FAULT_TLS:
            self.gateway.counters.totals.tls_failures += 1
        if why == HANDSHAKE_ENDS:
            return
        self.gateway.counters.totals.handshakes[why] += 1
        if self.clients.may_tell():
            try:
                self.clients.tell(self.address[:self.address_n].decode("ascii"), WORDS[why],
                                  ALERTS[alert] if alert else self.tls.reason() if self.tls is not None else "",
                                  self.clients.untold)
                self.clients.untold = 0
            except Exception:
                self.gateway.counters.totals.bugs += 1

    cdef void refuse(self, int fault, int why) noexcept:
        self.count(fault, why, 0)
        self.close()

    cdef void abandoned(self) noexcept:
        """The client is gone. One that said nothing only looked whether somebody is here: a balancer does so every second."""
        if self.stage == STAGE_HANDSHAKE:
            self.refuse(FAULT_TLS, END_CLOSED)
        elif self.stage == STAGE_HELLO and self.input.base != NULL:
            self.refuse(FAULT_HELLO, END_CLOSED)
        else:
            self.close()

    cdef void fail(self, bint answered) noexcept:
        """End a handshake that failed, so that an alert of ours arrives."""
        self.count(FAULT_TLS, self.tls.end(), 0)
        if answered:
            release(&self.loop.pool, &self.name)
            let_arrive(self)
        else:
            self.close()

    cdef void decline(self, int fault, int why, int alert, uint16_t version) noexcept:
        cdef uint8_t room[ALERT_BYTES]
        self.count(fault, why, alert)
        put_alert(room, alert, version)
        self.part(room, ALERT_BYTES)

    cdef void part(self, const uint8_t *at, size_t n) noexcept:
        self.tls = None            # also where its beginning failed
        self.stage = STAGE_HELLO
        release(&self.loop.pool, &self.input)
        release(&self.loop.pool, &self.name)
        if self.send(<const char *>at, n) < 0:
            self.close()
        else:
            let_arrive(self)

    # -- before TLS ----------------------------------------------------------------------------------------------------

    cdef void pump(self) noexcept:
        cdef char *at = self.loop.input
        cdef ssize_t n
        while not self.closed and self.readable:
            if self.stage == STAGE_HANDSHAKE:
                self.shake()
                return
            n = self.receive(at, READ)
            if n == READ_AGAIN:
                return
            if n <= 0:
                self.abandoned()
                return
            if append(&self.loop.pool, &self.input, at, n) < 0:
                self.close()
                return
            if self.stage == STAGE_PROXY:
                self.take_proxy_line()
            if not self.closed and self.stage == STAGE_HELLO and self.input.base != NULL:
                self.take_hello()

    cdef void take_proxy_line(self) noexcept:
        cdef char address[ADDRESS_TEXT + 1]
        cdef uint8_t raw[16]
        cdef uint8_t address_n
        cdef int result = parse_proxy(self.input.base + self.input.start, waiting(&self.input), address, &address_n)
        if result == 0:
            return
        if result < 0:
            self.refuse(FAULT_PROXY_HEADER, HANDSHAKE_ENDS)
            return
        consume(&self.loop.pool, &self.input, result)
        if address_n:
            memcpy(self.address, address, address_n)
            self.address_n = address_n
            address[address_n] = 0
            text_address(address, raw)
            self.trusted = self.clients.trusted.has(raw)
        self.stage = STAGE_HELLO
        if self.transport == BIND_TCP:
            self.become_relay()
        elif self.transport != BIND_TLS:
            self.become_http1()

    cdef void take_hello(self) noexcept:
        cdef const Bind *bind
        cdef const Listener *listener
        cdef Hello hello
        cdef int result = hello_peek(<const uint8_t *>self.input.base + self.input.start, waiting(&self.input), &hello)
        if result == HELLO_PARTIAL:
            return
        if result < 0:
            self.take_no_hello(-result)
            return
        bind = self.bind()
        listener = find_listener(self.gateway.table.image, bind, hello.name, hello.name_n) if bind != NULL else NULL
        if listener == NULL and bind != NULL and bind.passes_through:
            self.refuse(FAULT_HELLO, END_NAME)    # an alert would come from a TLS server, which is not here
            return
        if listener == NULL:
            # A client of TLS 1.2 knows no missing_extension.
            self.decline(FAULT_HELLO, END_NAME, ALERT_UNRECOGNIZED_NAME if hello.name_n or hello.version < 0x0304
                         else ALERT_MISSING_EXTENSION, hello.version)
            return
        self.mode = listener.mode
        self.listener_id = listener.identity
        self.https = listener.mode == MODE_HTTPS
        if append(&self.loop.pool, &self.name, hello.name, hello.name_n) < 0:
            self.close()
        elif listener.mode == MODE_PASSTHROUGH:
            self.become_relay()
        elif not self.secure(listener, &hello):
            self.decline(FAULT_TLS, END_SETTINGS, ALERT_HANDSHAKE_FAILURE, hello.version)
        else:
            self.shake()

    cdef void take_no_hello(self, int alert) noexcept:
        """Answer what is no ClientHello, once it is known in which protocol."""
        cdef uint8_t room[CLEAR_BYTES]
        cdef const uint8_t *at = <const uint8_t *>self.input.base + self.input.start
        cdef Clear what = clear_peek(at, waiting(&self.input))
        if what == CLEAR_HTTP1 or what == CLEAR_HTTP2:
            self.count(FAULT_HELLO, END_PLAIN_HTTP, 0)
            self.part(room, clear_answer(what, at, self.loop.date, room) - room)
        elif what == CLEAR_NONE:
            self.decline(FAULT_HELLO, END_VERSION if alert == ALERT_PROTOCOL_VERSION
                         else END_NAME if alert == ALERT_UNRECOGNIZED_NAME else END_HELLO, alert, 0)

    # -- TLS -----------------------------------------------------------------------------------------------------------

    cdef bint secure(self, const Listener *listener, const Hello *hello) noexcept:
        """Begin TLS with what this listener has for this name, and the ClientHello that has come."""
        cdef Session session = None
        cdef Setting setting
        try:
            setting = self.clients.certs.server(listener.identity, hello.name[:hello.name_n])
            session = serve(setting)
        except Exception:          # no certificate of it can be used: the graph has said why
            return False
        if session is None or self.loop.secure(self, session) < 0:
            return False
        self.stage = STAGE_HANDSHAKE
        if session.feed(self.input.base + self.input.start, waiting(&self.input)) < 0:
            return False
        release(&self.loop.pool, &self.input)
        return True

    cdef void shake(self) noexcept:
        cdef Session tls = self.tls
        cdef ssize_t n
        cdef bint alerts
        cdef int result
        while True:
            result = tls.handshake()
            alerts = result < 0 and tls.unsent() > 0
            if self.post() < 0:
                self.refuse(FAULT_TLS, END_CLOSED)
                return
            if result != 0:
                break
            n = self.receive(self.loop.records, RECORDS) if self.readable else READ_AGAIN
            if n == READ_AGAIN:
                return
            if n <= 0 or tls.feed(self.loop.records, n) < 0:
                self.refuse(FAULT_TLS, END_CLOSED)
                return
        if result < 0:
            self.fail(alerts)
            return
        self.gateway.counters.totals.tls_handshakes += 1
        if tls.resumed():
            self.gateway.counters.totals.tls_resumed += 1
        if self.clients.certificates and tls.setting.verify:
            self.note_certificate()
        if tls.holds():
            self.readable = True   # no event will announce it
        else:
            tls.rest()             # what the handshake needed: the next one finds it free
        if self.mode != MODE_HTTPS:
            self.become_relay()
        elif tls.chosen() == CHOSEN_H2:
            self.become_http2()
        else:
            self.become_http1()

    cdef void note_certificate(self) noexcept:
        """Keep what backends are told of the client's certificate: nothing of one that is not good."""
        try:
            der, good = self.tls.peer_certificate()
            if good:
                self.certificate = self.clients.certs.told(der)
        except Exception:          # a certificate that cannot be put into words
            self.gateway.counters.totals.bugs += 1

    cdef void become_http1(self) noexcept:
        cdef Http1Connection conn = Http1Connection.__new__(Http1Connection)
        release(&self.loop.pool, &self.name)
        conn.phase = HEAD
        conn.input = self.input
        memset(&self.input, 0, sizeof(Buf))
        self.clients.replace(self, conn)
        conn.start()

    cdef void become_relay(self) noexcept:
        """Pass on what comes, and what has come: in clear, or as TLS where that does not end here."""
        cdef Relay relay = Relay.__new__(Relay)
        cdef Buf input = self.input, name = self.name
        memset(&self.input, 0, sizeof(Buf))
        memset(&self.name, 0, sizeof(Buf))
        self.clients.replace(self, relay)
        relay.begin(name.base + name.start if name.base != NULL else NULL, waiting(&name),
                    input.base + input.start if input.base != NULL else NULL, waiting(&input))
        release(&self.loop.pool, &input)
        release(&self.loop.pool, &name)

    cdef void become_http2(self) noexcept:
        cdef Http2Connection connection = Http2Connection.__new__(Http2Connection)
        release(&self.loop.pool, &self.name)
        self.clients.replace(self, connection)
        connection.start()
