"""Counters that the hot path adds to, in memory shared with the supervisor (see counters.pxd)."""
import mmap
import os
import time

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset, strncmp

from gwfast.http.fault cimport FAULTS, fault_row
from gwfast.upstream.endpoint_state cimport (HEALTH_SLOTS, Health, HealthFile, Places, health_mark, health_size,
                                             places_forgotten, places_of)
from gwfast.engine.sys cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap as sys_mmap, munmap

cdef enum:
    MAGIC = 0x67776631  # 'gwf1'
    UNLOADED = 0        # in FILTER_COUNTED
    FASTER = 10000      # bounds from which on a duration is looked for, and which ones they are: seven steps at most
    FASTER_AT = 6
    SLOWER = 750000
    SLOWER_AT = 13
    BLOCKED = 2
    LOADING = 0x10000   # in Totals.running

# Upper bounds in microseconds, 100 us to 30 s: three a decade, and four where timeouts and people's patience lie.
cdef extern from * nogil:
    """
    static const unsigned long long gwfast_bounds[] = {
        100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 75000, 100000, 250000, 500000, 750000,
        1000000, 2500000, 5000000, 7500000, 10000000, 30000000};
    """
    const uint64_t gwfast_bounds[]

cdef extern from * nogil:
    """
    #define gw_put(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
    #define gw_get(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
    """
    void gw_put(uint64_t *at, uint64_t value)
    uint64_t gw_get(uint64_t *at)

BUCKETS_US = tuple(gwfast_bounds[i] for i in range(BUCKETS - 1))
MIRROR_ENDS = ("answered", "failed", "slow", "late", "busy")      # by extend/subrequest.SubrequestEnd
HANDSHAKE_ENDS = ("hello", "plain_http", "name", "settings", "timeout", "closed", "alert", "version", "cipher", "application",
                  "no_certificate", "bad_certificate", "other")      # by tls/records.HandshakeEnd
# A gauge (whether the last load failed), a counter, and failures by their reason.
FILTER_COUNTED = ("unloaded", "requests", "blocked", "exception", "invalid", "load", "not_loaded", "stop", "timeout")
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx", "none")


def create(int workers, int slots) -> int:
    """Create the counters of so many workers and route slots; return the memfd."""
    cdef size_t page = mmap.PAGESIZE
    cdef size_t part = sizeof(Totals) + (<size_t>slots + BACKENDS) * sizeof(RouteCounters) + FILTERS * sizeof(FilterCounters)
    cdef size_t stride = (part + page - 1) // page * page
    cdef CounterFile header = CounterFile(MAGIC, workers, slots, stride, page)
    fd = os.memfd_create("gwfast-counters", os.MFD_CLOEXEC)
    os.truncate(fd, page + stride * workers + health_size(workers))
    os.pwrite(fd, (<char *>&header)[:sizeof(header)], 0)
    return fd


@cython.final
cdef class Mapped:
    """A file of counters in memory, as long as somebody refers to this."""

    def __init__(self, int fd, bint write=False):
        self.size = os.fstat(fd).st_size
        self.base = <char *>sys_mmap(NULL, self.size, PROT_READ | (PROT_WRITE if write else 0), MAP_SHARED, fd, 0)
        if <void *>self.base == MAP_FAILED:
            self.base = NULL
            raise OSError("cannot map the counters")
        self.header = <CounterFile *>self.base
        if self.header.magic != MAGIC:
            raise ValueError("not a file of counters")
        self.health = <HealthFile *>self.part(self.header.workers)

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)

    cdef char *part(self, uint32_t worker) noexcept:
        return self.base + self.header.first + worker * self.header.stride

    cdef RouteCounters *routes(self, uint32_t worker) noexcept:
        return <RouteCounters *>(self.part(worker) + sizeof(Totals))

    cdef RouteCounters *backends(self, uint32_t worker) noexcept:
        return self.routes(worker) + self.header.slots

    cdef FilterCounters *filters(self, uint32_t worker) noexcept:
        return <FilterCounters *>(self.backends(worker) + BACKENDS)


@cython.final
cdef class Counters:
    """One worker's part, mapped for writing."""

    def __init__(self, int fd, int worker):
        self.mapped = Mapped(fd, write=True)
        if worker < 0 or <uint32_t>worker >= self.mapped.header.workers:
            raise ValueError("the counters have no such worker")
        self.health = self.mapped.health
        self.places = places_of(self.health, worker)
        self.totals = <Totals *>self.mapped.part(worker)
        self.routes = self.mapped.routes(worker)
        self.backends = self.mapped.backends(worker)
        self.filters = self.mapped.filters(worker)
        self.slots = self.mapped.header.slots
        # gauges of a worker that died say nothing about its successor
        self.totals.connections_open = self.totals.requests_open = 0
        self.totals.upstream_open = self.totals.upstream_idle = self.totals.udp_sessions_open = 0
        self.totals.requests_waiting = self.totals.running = 0
        for row in range(FILTERS):
            if not self.filters[row].used:
                break
            self.filters[row].counts[UNLOADED] = 0

    def filter_row(self, name: str) -> int:
        """Return the row of a filter in Python; a new name takes the next one that is free, at last one for all others."""
        cdef bytes written = name.encode()
        cdef FilterCounters *one
        cdef int row
        if len(written) >= FILTER_NAME:
            raise ValueError("no resource has a name as long as this")
        for row in range(FILTERS):
            one = self.filters + row
            if not one.used:
                break
            if strncmp(one.name, written, FILTER_NAME) == 0:
                return row
        if row < FILTERS - 1:
            memcpy(one.name, <const char *>written, len(written) + 1)
        gw_put(&one.used, 1)
        return row

    def count_filter(self, int row, what: str) -> None:
        """Count a request of a filter, or a failure by its reason (FILTER_COUNTED)."""
        self.filters[row].counts[FILTER_COUNTED.index(what)] += 1

    def unloaded(self, int row, bint is_so) -> None:
        """Say whether the last load of a filter failed here."""
        if row < FILTERS - 1:
            self.filters[row].counts[UNLOADED] = is_so

    def runs(self, uint64_t what) -> int:
        """Say what runs from here on (`place` of a filter, 0: none), return what did before."""
        cdef uint64_t before = self.totals.running
        self.totals.running = what
        return before

    def count_messages_dropped(self, uint64_t more) -> None:
        """Count what the process said and nobody read."""
        self.totals.messages_dropped += more

    cdef void count(self, uint32_t slot, uint32_t backend, unsigned int status, uint64_t bytes_in, uint64_t bytes_out,
                    uint64_t micros, uint64_t until) noexcept:
        cdef RouteCounters *row = self.routes + (slot if slot < self.slots else 0)
        cdef unsigned int kind = status // 100 - 1
        cdef int bucket = bucket_of(micros)
        kind = kind if kind < 5 else 5
        row.classes[kind] += 1
        row.bytes_in += bytes_in
        row.bytes_out += bytes_out
        row.duration_us += micros
        row.buckets[bucket] += 1
        self.totals.bytes_in += bytes_in
        self.totals.bytes_out += bytes_out
        if backend < BACKENDS:
            row = self.backends + backend
            row.classes[kind] += 1
            if until:
                row.duration_us += until
                while bucket and until <= gwfast_bounds[bucket - 1]:   # from where all of it is: it is near
                    bucket -= 1
                row.buckets[bucket] += 1


def place(int row, bint loading=False) -> int:
    """Return what `Counters.runs` is told of the filter with this row; loading: it is being made."""
    return row + 1 | (LOADING if loading else 0)


@cython.final
cdef class Pulse:
    """What the supervisor sees of the event loops of workers."""

    def __init__(self, int fd):
        self.mapped = Mapped(fd, write=True)

    def beats(self) -> list[int]:
        """Return how often each worker's loop has turned to its timer: where that stays the same, it does not turn."""
        cdef uint32_t w
        return [(<Totals *>self.mapped.part(w)).beats for w in range(self.mapped.header.workers)]

    def running(self, uint32_t worker) -> tuple[str, bool] | None:
        """Return the name of the filter in Python that a worker is in ('': beyond the rows), and whether it is being loaded."""
        cdef uint64_t what = (<Totals *>self.mapped.part(worker)).running
        if not what:
            return None
        return self.mapped.filters(worker)[(what & (LOADING - 1)) - 1].name.decode(), what & LOADING != 0

    def blocked(self, uint32_t worker) -> None:
        """Count for the filter that a worker is in that it blocks: the worker itself never writes that cell."""
        cdef uint64_t what = (<Totals *>self.mapped.part(worker)).running
        if what:
            self.mapped.filters(worker)[(what & (LOADING - 1)) - 1].counts[BLOCKED] += 1


cdef inline int bucket_of(uint64_t micros) noexcept nogil:
    cdef int bucket = 0
    if micros > FASTER:
        bucket = FASTER_AT if micros <= SLOWER else SLOWER_AT
    while bucket < BUCKETS - 1 and micros > gwfast_bounds[bucket]:
        bucket += 1
    return bucket


def bucket(uint64_t micros) -> int:
    """Return the bucket that a duration is counted in."""
    return bucket_of(micros)


cdef dict _totals(Totals *t):
    return {
        "connections": t.connections, "connections_open": t.connections_open,
        "connections_refused": t.connections_refused, "requests": t.requests,
        "requests_open": t.requests_open, "requests_waiting": t.requests_waiting, "requests_waited": t.requests_waited,
        "bytes_in": t.bytes_in, "bytes_out": t.bytes_out,
        "upstream_connects": t.upstream_connects, "upstream_connect_errors": t.upstream_connect_errors,
        "upstream_reused": t.upstream_reused, "upstream_retries": t.upstream_retries,
        "upstream_open": t.upstream_open, "upstream_idle": t.upstream_idle,
        "endpoint_ejections": t.endpoint_ejections, "tunnels": t.tunnels,
        "tls_handshakes": t.tls_handshakes, "tls_resumed": t.tls_resumed, "tls_failures": t.tls_failures,
        "upstream_tls_handshakes": t.upstream_tls_handshakes, "upstream_tls_resumed": t.upstream_tls_resumed,
        "http2_connections": t.http2_connections, "http2_resets": t.http2_resets, "http2_floods": t.http2_floods,
        "udp_sessions": t.udp_sessions, "udp_sessions_open": t.udp_sessions_open, "udp_evicted": t.udp_evicted,
        "udp_moved": t.udp_moved, "log_dropped": t.log_dropped, "messages_dropped": t.messages_dropped,
        "table_generation": t.table_generation,
        "tables_swapped": t.tables_swapped, "bugs": t.bugs, "drains": t.drains, "events": t.events,
    }


def ejected(int fd, places) -> list:
    """Return, of these (slot, generation)s, (slot, seconds that are left, how often in all) of the endpoints that are out now."""
    cdef Mapped mapped = Mapped(fd)
    cdef uint64_t now = time.monotonic_ns() // 1000000
    cdef Health *cells = <Health *>(mapped.health + 1)
    cdef uint32_t slot, generation
    found = []
    for slot, generation in places:
        if slot < HEALTH_SLOTS and cells[slot].generation == generation and cells[slot].ejected_until > now:
            found.append((slot, (cells[slot].ejected_until - now) / 1000, cells[slot].total))
    return found


def mark(int fd, uint32_t slot, uint32_t generation, bint unhealthy) -> None:
    """Say for every worker whether the endpoint with this slot and generation is unhealthy."""
    health_mark(Mapped(fd, write=True).health, slot, generation, unhealthy)


def forget(int fd, uint32_t worker) -> None:
    """Take away what a worker that died had of the requests that are counted for all (BackendPolicy, circuitBreaker)."""
    cdef Mapped mapped = Mapped(fd, write=True)
    cdef size_t at = <char *>places_of(mapped.health, worker) - mapped.base
    cdef bytes had = os.pread(fd, HEALTH_SLOTS * sizeof(Places), at)
    places_forgotten(mapped.health, worker, <const Places *><const char *>had)


def read(int fd, int backends=BACKENDS) -> dict:
    """Read the counters, summed over workers (table_generation: the oldest in use); of the rows of backends the first ones.

    Return {'global': {name: n}, 'faults': {word: n}, 'mirrors': {word: n}, 'handshakes': {word: n}, 'buckets_us': bounds,
    'filters': {name: {one of FILTER_COUNTED: n}} ('': those beyond the rows),
    'routes': {slot: {'1xx'..'5xx', 'none', 'bytes_in', 'bytes_out', 'duration_us', 'buckets'}}, 'backends': the same}: only
    slots that counted something; 'buckets' are counts per bucket, not cumulative, the last beyond every bound.
    """
    cdef Mapped mapped = Mapped(fd)
    cdef Totals total
    cdef Totals *one
    cdef uint32_t w, i
    memset(&total, 0, sizeof(total))
    generations = []
    for w in range(mapped.header.workers):
        one = <Totals *>mapped.part(w)
        for i in range(sizeof(Totals) // sizeof(uint64_t)):
            (<uint64_t *>&total)[i] += (<uint64_t *>one)[i]
        generations.append(one.table_generation)
    totals = _totals(&total)
    totals["table_generation"] = min(generations, default=0)
    faults = {fault_row(i).word.decode(): total.faults[i] for i in range(1, FAULTS)}
    mirrors = {word: total.mirrors[i] for i, word in enumerate(MIRROR_ENDS)}
    handshakes = {word: total.handshakes[i] for i, word in enumerate(HANDSHAKE_ENDS)}
    return {"global": totals, "faults": faults, "mirrors": mirrors, "handshakes": handshakes, "filters": _filters(mapped),
            "routes": _rows(mapped, False, mapped.header.slots),
            "backends": _rows(mapped, True, min(backends, BACKENDS)), "buckets_us": BUCKETS_US}


cdef dict _rows(Mapped mapped, bint backends, uint32_t count):
    cdef RouteCounters row
    cdef RouteCounters *one
    cdef uint32_t w, s, i
    rows = {}
    for s in range(count):
        memset(&row, 0, sizeof(row))
        for w in range(mapped.header.workers):
            one = (mapped.backends(w) if backends else mapped.routes(w)) + s
            for i in range(sizeof(RouteCounters) // sizeof(uint64_t)):
                (<uint64_t *>&row)[i] += (<uint64_t *>one)[i]
        counted = {name: row.classes[i] for i, name in enumerate(CLASSES)}
        if any(counted.values()):
            rows[s] = counted | {"bytes_in": row.bytes_in, "bytes_out": row.bytes_out, "duration_us": row.duration_us,
                                 "buckets": [row.buckets[i] for i in range(BUCKETS)]}
    return rows


cdef dict _filters(Mapped mapped):
    cdef FilterCounters *one
    cdef uint32_t w, f, i
    filters = {}
    for w in range(mapped.header.workers):
        for f in range(FILTERS):
            one = mapped.filters(w) + f
            if not gw_get(&one.used):
                break
            row = filters.setdefault(one.name.decode(), dict.fromkeys(FILTER_COUNTED, 0))
            for i, what in enumerate(FILTER_COUNTED):
                row[what] += one.counts[i]
    return filters
