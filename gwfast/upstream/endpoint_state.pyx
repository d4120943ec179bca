"""The health of endpoints (see endpoint_state.pxd)."""
from libc.stdint cimport int32_t, uint32_t, uint64_t

from gwfast.engine.sys cimport CLOCK_MONOTONIC, clock_gettime, timespec
from gwfast.table.layout cimport BACKEND_PASSIVE, Backend, Endpoint, Image, endpoint_at

cdef extern from * nogil:
    """
    #define gw_add(at) __atomic_add_fetch(at, 1, __ATOMIC_RELAXED)
    #define gw_add_some(at, n) __atomic_add_fetch(at, n, __ATOMIC_RELAXED)
    static inline void gw_take(unsigned *at, unsigned n) {      /* down to 0 */
        unsigned was = __atomic_load_n(at, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(at, &was, was > n ? was - n : 0, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    }
    #define gw_put(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
    static inline int gw_swap_generation(unsigned *at, unsigned was, unsigned is) {
        return __atomic_compare_exchange_n(at, &was, is, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    static inline int gw_add_below(unsigned *at, unsigned most) {       /* one more, where it is less */
        unsigned was = __atomic_load_n(at, __ATOMIC_RELAXED);
        while (was < most)
            if (__atomic_compare_exchange_n(at, &was, was + 1, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
                return 1;
        return 0;
    }
    static inline int gw_swap(unsigned long *at, unsigned long was, unsigned long is) {
        return __atomic_compare_exchange_n(at, &was, is, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    """
    uint32_t gw_add(uint32_t *at)
    uint32_t gw_add_some(uint32_t *at, uint32_t n)
    void gw_take(uint32_t *at, uint32_t n)
    void gw_put(uint64_t *at, uint64_t value)
    void gw_put_generation "gw_put"(uint32_t *at, uint32_t value)
    bint gw_swap(uint64_t *at, uint64_t was, uint64_t value)
    bint gw_swap_generation(uint32_t *at, uint32_t was, uint32_t value)
    bint gw_add_below(uint32_t *at, uint32_t most)


cdef inline Health *cell(HealthFile *file, uint32_t slot) noexcept nogil:
    return <Health *>(file + 1) + slot


cdef uint64_t clock_ms() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000 + now.tv_nsec // 1000000


cdef Health *health_of(HealthFile *file, uint32_t slot, uint32_t generation) noexcept nogil:
    cdef Health *health
    cdef uint32_t was, busy
    if file == NULL or slot >= HEALTH_SLOTS:
        return NULL
    health = cell(file, slot)
    if health.generation == generation:
        return health
    was, busy = health.generation, health.busy
    if <int32_t>(generation - was) < 0:
        return NULL
    if not gw_swap_generation(&health.generation, was, generation):
        return health_of(file, slot, generation)
    # whoever comes meanwhile counts already: what was there before is taken away, not all
    gw_take(&health.busy, busy)
    health.ejected_until = 0
    health.failures = health.ejections = health.total = 0
    health.since = clock_ms()
    return health


cdef void health_mark(HealthFile *file, uint32_t slot, uint32_t generation, bint unhealthy) noexcept nogil:
    if slot >= HEALTH_SLOTS:
        return
    if unhealthy:
        gw_put_generation(&cell(file, slot).unhealthy, generation)
    elif cell(file, slot).unhealthy == generation:
        cell(file, slot).since = clock_ms()
        gw_put_generation(&cell(file, slot).unhealthy, 0)


cdef bint health_failed(HealthFile *file, Health *health, const Image *image, const Backend *backend,
                        uint64_t now) noexcept nogil:
    cdef uint64_t held
    cdef bint ejected = False
    if health == NULL or not backend.flags & BACKEND_PASSIVE:
        return False
    if gw_add(&health.failures) < backend.failures or is_out(health, now):
        return False
    held = file.lock
    if held and held + LOCK_MS > now:
        return False
    if not gw_swap(&file.lock, held, now):
        return False
    if not is_out(health, now) and ejected_of(file, image, backend, now) < most_of(backend):
        eject(health, backend, now)
        ejected = True
    gw_swap(&file.lock, now, 0)
    return ejected


cdef uint32_t most_of(const Backend *backend) noexcept nogil:
    cdef uint32_t most = <uint32_t>(<uint64_t>backend.endpoints.count * backend.percent // 100)
    return 1 if most == 0 and backend.percent else most


cdef uint32_t ejected_of(HealthFile *file, const Image *image, const Backend *backend, uint64_t now) noexcept nogil:
    cdef const Endpoint *endpoint
    cdef uint32_t i, count = 0
    for i in range(backend.endpoints.count):
        endpoint = endpoint_at(image, backend.endpoints.first + i)
        if endpoint.slot < HEALTH_SLOTS and cell(file, endpoint.slot).generation == endpoint.generation:
            count += cell(file, endpoint.slot).ejected_until > now
    return count


cdef void eject(Health *health, const Backend *backend, uint64_t now) noexcept nogil:
    cdef uint64_t most = backend.ejection_ms if backend.ejection_ms > EJECTION_MOST_MS else EJECTION_MOST_MS
    cdef uint64_t forgiven = (now - health.ejected_until) // backend.ejection_ms if backend.ejection_ms else 0
    cdef uint64_t lasts
    health.ejections = 1 if forgiven >= health.ejections else health.ejections - <uint32_t>forgiven + 1
    lasts = <uint64_t>backend.ejection_ms * health.ejections
    health.total += 1
    health.failures = 0
    gw_put(&health.ejected_until, now + (most if lasts > most else lasts))


cdef inline void write_down(const Health *health, Places *places, uint32_t n) noexcept nogil:
    if places.generation != health.generation:
        places.generation, places.count = health.generation, 0
    places.count += n


cdef bint place_taken(Health *health, Places *places, uint32_t most) noexcept nogil:
    if health.busy >= most:
        return False
    write_down(health, places, 1)
    if gw_add_below(&health.busy, most):
        return True
    places.count -= 1
    return False


cdef void places_added(Health *health, Places *places, uint32_t n) noexcept nogil:
    write_down(health, places, n)
    gw_add_some(&health.busy, n)


cdef void places_left(Health *health, Places *places, uint32_t n) noexcept nogil:
    gw_take(&health.busy, n)
    if places.generation == health.generation:
        places.count -= min(n, places.count)


cdef void places_forgotten(HealthFile *file, uint32_t worker, const Places *had) noexcept nogil:
    cdef Places *places = places_of(file, worker)
    cdef uint32_t i
    for i in range(HEALTH_SLOTS):
        if had[i].count or had[i].wanted:
            if had[i].generation == cell(file, i).generation:
                gw_take(&cell(file, i).busy, had[i].count)
            places[i].count = 0
            places[i].wanted = 0


cdef uint32_t warmth(const Health *health, uint64_t window, uint64_t now) noexcept nogil:
    cdef uint64_t since
    if health == NULL:
        return WARM
    since = max(health.since, health.ejected_until)
    if now >= since + window:
        return WARM
    return SLOWEST if now <= since else max(<uint32_t>SLOWEST, <uint32_t>((now - since) * WARM // window))


cdef bint others_want(HealthFile *file, uint32_t worker, uint32_t workers, uint32_t slot, uint64_t now) noexcept nogil:
    cdef const Places *places
    cdef uint32_t i
    for i in range(workers):
        places = places_of(file, i) + slot
        if i != worker and places.wanted + WANTS_MS > now:
            return True
    return False
