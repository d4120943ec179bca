"""What everybody sees of an exchange (see exchange.pxd). What acts is in forwarding; here it is only named."""
cimport cython
from cpython.ref cimport Py_DECREF

from gwfast.engine.loop cimport READ
from gwfast.http.head cimport forget_request, forget_response, room_for_request, room_for_response
from gwfast.table.layout cimport NO_BACKEND


@cython.no_gc
cdef class Gateway:
    def __cinit__(self, uint32_t head, uint32_t line, uint32_t count):
        self.limits = HeadLimits(head, line, count)
        if room_for_request(&self.head, &self.limits) < 0 or room_for_response(&self.reply, &self.limits) < 0:
            raise MemoryError

    def __dealloc__(self):
        self.forget_spares()
        forget_request(&self.head)
        forget_response(&self.reply)

    cdef Exchange exchange(self):
        return None

    cdef void forget_spares(self) noexcept:
        cdef Exchange exchange
        cdef Extras extras
        while self.spare != NULL:
            exchange = <Exchange>self.spare
            self.spare = exchange.next_spare
            Py_DECREF(exchange)        # the list's
        while self.spare_extras != NULL:
            extras = <Extras>self.spare_extras
            self.spare_extras = extras.next_spare
            Py_DECREF(extras)


@cython.no_gc
cdef class Downstream(Peer):
    cdef int respond(self, const ResponseHead *head, const Ops *ops, const char *at, size_t n, bint end) noexcept:
        return -1

    cdef int inform(self, const ResponseHead *head) noexcept:
        return -1

    cdef int data(self, const char *at, size_t n, bint end) noexcept:
        return -1

    cdef int trailers(self, const char *at, size_t n) noexcept:
        return -1

    cdef int answer(self, int status, const Ops *ops, const char *location, size_t n) noexcept:
        return -1

    cdef int descriptor(self) noexcept:
        return self.fd

    cdef Session session(self):
        return self.tls

    cdef void resume(self) noexcept:
        pass

    cdef void done(self, bint keep) noexcept:
        pass

    cdef void abort(self) noexcept:
        pass


@cython.no_gc
cdef class RequestFilter:
    cdef void start(self) noexcept:
        pass

    cdef void more(self) noexcept:
        pass

    cdef void drop(self) noexcept:
        self.exchange = None

    cdef void on_response(self, const ResponseHead *head) noexcept:
        pass

    cdef int body_part(self, const char **at, size_t *n, bint end) noexcept:
        return 0


@cython.no_gc
cdef class RequestFilters:
    cdef RequestFilter filter(self, Exchange exchange, const Op *op):
        return None


@cython.final
@cython.no_gc
cdef class Alarm(Peer):
    def __dealloc__(self):
        if self.loop is not None:
            self.loop.unfile(self)

    cdef void on_deadline(self) noexcept:
        if self.exchange is not None:
            self.exchange.late()


@cython.final
@cython.no_gc
cdef class Extras:
    def __cinit__(self):
        self.filter_at = self.prefer = NONE
        self.keep = READ


cdef int make_extras(Exchange exchange) noexcept:
    try:
        exchange.extras = Extras.__new__(Extras)
        return 0
    except MemoryError:
        return -1


@cython.no_gc
cdef class Exchange(Waiter):
    def __cinit__(self):
        self.chosen = self.avoid = NO_BACKEND

    cdef Slice client_address(self) noexcept:
        cdef Slice address
        address.at, address.n = self.client.address, self.client.address_n
        if self.client.trusted and self.source.address_n:
            address.at, address.n = self.source.address, self.source.address_n
        return address

    cdef bint secure(self) noexcept:
        return self.source.https if self.client.trusted else self.client.https

    # -- what acts (forwarding) ----------------------------------------------------------------------------------------

    cdef int begin(self, Downstream client, const Bind *bind, RequestHead *head) noexcept:
        return -1

    cdef int enter(self, RequestHead *head, const Found *found, const Bind *bind, int result) noexcept:
        return -1

    cdef int choose_backend(self, RequestHead *head, const Found *found, const Bind *bind, uint32_t since,
                            uint32_t prefer) noexcept:
        return -1

    cdef bint wants(self) noexcept:
        return False

    cdef void request_data(self, const char *at, size_t n, bint end) noexcept:
        pass

    cdef bint carries(self, Peer source) noexcept:
        return False

    cdef ssize_t request_carried(self, Peer source) noexcept:
        return 0

    cdef void request_trailers(self, const char *at, size_t n) noexcept:
        pass

    cdef void launch(self) noexcept:
        pass

    cdef void attempt(self) noexcept:
        pass

    cdef void late(self) noexcept:
        pass

    cdef void drop_upstream(self) noexcept:
        pass

    cdef int pass_reply(self, const ResponseHead *head, const char *at, size_t n, bint end) noexcept:
        return -1

    cdef size_t take_body(self, const ResponseHead *head, char *at, size_t n) noexcept:
        return 0

    cdef void reply_goes_on(self, bint end) noexcept:
        pass

    cdef bint opens_nothing(self, const ResponseHead *head) noexcept:
        return False

    cdef void client_drained(self) noexcept:
        pass

    cdef void client_gone(self) noexcept:
        pass

    cdef void client_wrong(self, int fault) noexcept:
        pass

    cdef void tunnel_data(self, const char *at, size_t n) noexcept:
        pass

    cdef void tunnel_end(self) noexcept:
        pass

    cdef void fail(self, int fault) noexcept:
        pass

    cdef void answer(self, int status, int fault, const char *location, size_t n) noexcept:
        pass

    cdef void finish(self, bint keep) noexcept:
        pass
