# Looks into an image: what do its binds and rules do. For tests and debugging, since it costs the image's size.
import socket

from libc.stdint cimport uint32_t, uint64_t

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from gwfast.engine.counters cimport Counters
from gwfast.upstream.endpoint_state cimport Health, health_failed, health_of, place_taken, places_left
from gwfast.table.layout cimport (CODES, NO_BACKEND, OP_ANSWER, OP_AUTHORIZE, OP_CORS, OP_EXTENSION, OP_MIRROR, OP_REDIRECT,
                                  OP_REQUEST_ADD, OP_REQUEST_COOKIE, OP_REQUEST_REMOVE, OP_REQUEST_SET, OP_RESPONSE_ADD,
                                  OP_RESPONSE_REMOVE, OP_RESPONSE_SET, OP_REWRITE_HOST, OP_REWRITE_PATH_FULL,
                                  OP_REWRITE_PATH_PREFIX, OP_SESSION, RULE_POLICY, SECTION_BINDS, SECTION_RULES, Authorizer,
                                  Backend, Bind, Choice, Cors, Endpoint, Image, Listener, Mirror, Op, Persistence, Policy,
                                  Redirect, Rule, Text, authorizer_at, backend_at, bind_at, choice_at, cors_at, count_of,
                                  endpoint_at, extension_at, listener_at, mirror_at, op_at, persistence_at, policy_at,
                                  redirect_at, rule_at, text)


def rules(buffer):
    """Return {rule id: what it does} of an image: dicts, lists and tuples that can be compared and printed.

    A rule that is there twice, because listeners lead to its backends in different ways, is id, id#2, ... in no order.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    cdef const Image *image = <const Image *>view.buf
    cdef dict found = {}
    cdef dict times = {}
    cdef uint32_t i
    try:
        for i in range(count_of(image, SECTION_RULES)):
            if rule_at(image, i).kind.n:           # not a free place
                name = rule_id(image, rule_at(image, i))
                times[name] = times.get(name, 0) + 1
                found[name if times[name] == 1 else f"{name}#{times[name]}"] = rule_told(image, rule_at(image, i))
        return found
    finally:
        PyBuffer_Release(&view)


def binds(buffer):
    """Return what each bind of an image is: {id: (port, Transport, [(listener id, identity, ListenerMode, ClientAuth)])}."""
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    cdef const Image *image = <const Image *>view.buf
    cdef const Bind *bind
    cdef dict found = {}
    cdef uint32_t i
    try:
        for i in range(count_of(image, SECTION_BINDS)):
            bind = bind_at(image, i)
            found[bind.id] = bind.port, bind.transport, [
                listener_told(image, listener_at(image, bind.listeners.first + k)) for k in range(bind.listeners.count)]
        return found
    finally:
        PyBuffer_Release(&view)


cdef tuple listener_told(const Image *image, const Listener *listener):
    return string(image, listener.id), listener.identity, listener.mode, listener.client_auth


cdef str string(const Image *image, Text t):
    return text(image, t)[:t.n].decode()


cdef str rule_id(const Image *image, const Rule *rule):
    return f"{string(image, rule.kind)}/{string(image, rule.route)}/{rule.rule_index}"


cdef dict rule_told(const Image *image, const Rule *rule):
    told = {
        "name": string(image, rule.name), "flags": rule.flags, "counter": rule.counter, "total": rule.total,
        "pick": (rule.pick_at, rule.pick_generation), "empty": rule.empty_status,
        "ops": [op_told(image, op_at(image, i)) for i in range(rule.ops.first, rule.ops.first + rule.ops.count)],
        "choices": [choice_told(image, i)
                    for i in range(rule.choices.first, rule.choices.first + rule.choices.count + rule.idle)],
    }
    if rule.flags & RULE_POLICY:
        told["policy"] = policy_told(policy_at(image, rule.policy))
    return told


cdef dict policy_told(const Policy *policy):
    return {
        "request_ms": policy.request_ms, "backend_ms": policy.backend_ms, "backoff_ms": policy.backoff_ms,
        "attempts": policy.attempts, "timed": policy.timed,
        "codes": [400 + i for i in range(CODES) if policy.codes[i // 64] >> (i % 64) & 1],
    }


cdef dict persistence_told(const Image *image, const Persistence *one):
    return {
        "rule": one.rule, "lasts_ms": one.lasts_ms, "flags": one.flags, "name": string(image, one.name),
        "before": string(image, one.before), "behind": string(image, one.behind),
    }


cdef tuple op_told(const Image *image, const Op *op):
    cdef const Cors *cors
    cdef const Mirror *mirror
    cdef const Authorizer *authorizer
    cdef const Redirect *redirect
    if op.kind == OP_REDIRECT:
        redirect = redirect_at(image, op.hash)
        return ("OP_REDIRECT", redirect.status, string(image, redirect.scheme), string(image, redirect.host),
                redirect.port, redirect.path_kind, string(image, redirect.path))
    if op.kind == OP_ANSWER:
        return ("OP_ANSWER", op.hash)
    if op.kind == OP_EXTENSION:
        return ("OP_EXTENSION", extension_at(image, op.hash).id, string(image, extension_at(image, op.hash).definition))
    if op.kind == OP_AUTHORIZE:
        authorizer = authorizer_at(image, op.hash)
        return ("OP_AUTHORIZE", string(image, backend_at(image, authorizer.backend).name), authorizer.max_body,
                string(image, authorizer.path), string(image, authorizer.headers), string(image, authorizer.answers),
                bool(authorizer.grpc))
    if op.kind == OP_MIRROR:
        mirror = mirror_at(image, op.hash)
        return ("OP_MIRROR", string(image, backend_at(image, mirror.backend).name), mirror.numerator, mirror.denominator)
    if op.kind == OP_CORS:
        cors = cors_at(image, op.hash)
        return ("OP_CORS", cors.flags, cors.count, string(image, cors.methods), string(image, cors.headers),
                string(image, cors.preflight), string(image, cors.actual))
    return (OPS[op.kind], string(image, op.name), string(image, op.value), string(image, op.line))


cdef dict choice_told(const Image *image, uint32_t i):
    cdef const Choice *choice = choice_at(image, i)
    cdef const Backend *backend
    cdef dict told = {
        "weight": choice.weight, "status": choice.status, "backend": None, "endpoints": [],
        "ops": [op_told(image, op_at(image, k)) for k in range(choice.ops.first, choice.ops.first + choice.ops.count)],
    }
    if choice.persistence:
        told["session"] = persistence_told(image, persistence_at(image, choice.persistence - 1))
    if choice.backend != NO_BACKEND:
        backend = backend_at(image, choice.backend)
        told["backend"] = string(image, backend.name), backend.protocol, backend.tls
        told["health"] = (backend.flags, backend.failures, backend.ejection_ms, backend.percent, backend.slow_ms,
                          backend.parallel, backend.pending, backend.pending_ms)
        told["budget"] = backend.budget_percent, backend.budget_ms, backend.budget_minimum, backend.minimum_ms
        told["endpoints"] = [endpoint_told(endpoint_at(image, k)) for k in
                             range(backend.endpoints.first, backend.endpoints.first + backend.endpoints.count)]
    return told


cdef tuple endpoint_told(const Endpoint *endpoint):
    cdef bytes address = (<const char *>endpoint.address)[:16 if endpoint.family == 6 else 4]
    family = socket.AF_INET6 if endpoint.family == 6 else socket.AF_INET
    return socket.inet_ntop(family, address), endpoint.port, endpoint.slot, endpoint.generation


OPS = {OP_REQUEST_SET: "OP_REQUEST_SET", OP_REQUEST_ADD: "OP_REQUEST_ADD", OP_REQUEST_REMOVE: "OP_REQUEST_REMOVE",
       OP_REQUEST_COOKIE: "OP_REQUEST_COOKIE",
       OP_RESPONSE_SET: "OP_RESPONSE_SET", OP_RESPONSE_ADD: "OP_RESPONSE_ADD",
       OP_RESPONSE_REMOVE: "OP_RESPONSE_REMOVE", OP_REWRITE_HOST: "OP_REWRITE_HOST",
       OP_REWRITE_PATH_FULL: "OP_REWRITE_PATH_FULL", OP_REWRITE_PATH_PREFIX: "OP_REWRITE_PATH_PREFIX",
       OP_SESSION: "OP_SESSION"}


def endpoint_failed(Counters counters not None, const unsigned char[::1] buffer, uint32_t backend, uint32_t i, uint64_t now_ms):
    """Count a failure of an endpoint as a worker does; whether that ejected it."""
    cdef const Image *image = <const Image *>&buffer[0]
    cdef const Backend *one = backend_at(image, backend)
    cdef const Endpoint *where = endpoint_at(image, one.endpoints.first + i)
    return health_failed(counters.health, health_of(counters.health, where.slot, where.generation), image, one, now_ms)


def place_at(Counters counters not None, uint32_t slot, uint32_t generation, uint32_t most):
    """Take one of `most` places at an endpoint as this worker does; whether there was one."""
    cdef Health *health = health_of(counters.health, slot, generation)
    return health != NULL and place_taken(health, counters.places + slot, most)


def leave_place(Counters counters not None, uint32_t slot, uint32_t generation):
    """Give a place back as this worker does."""
    cdef Health *health = health_of(counters.health, slot, generation)
    if health != NULL:
        places_left(health, counters.places + slot, 1)


def busy_at(Counters counters not None, uint32_t slot, uint32_t generation):
    """Return how many places are taken at an endpoint, by all workers."""
    cdef Health *health = health_of(counters.health, slot, generation)
    return health.busy if health != NULL else 0
