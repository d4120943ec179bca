# Writes backends and where their endpoints are.
#
# Rules:
# - backends are counted by the rules that name them; their places are given back when none does
# - endpoints are only appended: those of a backend that moved are written anew
# - what a policy says of a backend is written over what it said
import socket
from operator import attrgetter

import cython
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from gwfast.table.blocks cimport BackendBlock, RuleBlock
from gwfast.table.image cimport Sections, Texts
from gwfast.table.layout cimport (BACKEND_ACTIVE, BACKEND_LIMITED, BACKEND_PASSIVE, BACKEND_SLOW, PROTO_H2C, PROTO_HTTP,
                                  PROTO_TCP, PROTO_UDP, PROTO_WS, SECTION_BACKENDS, SECTION_ENDPOINTS, Backend, Endpoint)

from gwfast.identity import identity
from gwfast.sharing import find, items_of, spans

PROTOCOLS = {"http": PROTO_HTTP, "h2c": PROTO_H2C, "ws": PROTO_WS, "tcp": PROTO_TCP, "udp": PROTO_UDP}
KEY = attrgetter("key")


@cython.final
cdef class Backends:
    def __cinit__(self, registry, Sections sections, Texts texts):
        self.registry = registry
        self.sections = sections
        self.texts = texts
        self.blocks = {}
        self.fresh = {}
        self.free = []
        self.last_endpoints = ()

    cdef Backend *at(self, BackendBlock block) noexcept:
        return <Backend *>self.sections.element(SECTION_BACKENDS, block.index)

    cdef int close(self) except -1:
        for block in self.blocks.values():
            self.drop_endpoints(block)
        self.blocks.clear()
        return 0

    cdef uint32_t index(self, object backend, RuleBlock rule) except? 0:
        cdef str key = backend.key
        cdef BackendBlock block = <BackendBlock>self.blocks.get(key)
        cdef Backend *out
        if block is None:
            block = self.fresh[key] = self.blocks[key] = BackendBlock()
            block.backend = backend
            if self.free:
                block.index = self.free.pop()
            else:
                block.index = self.sections.add(SECTION_BACKENDS, 1)
            out = self.at(block)
            name = f"{backend.namespace}/{backend.name}:{backend.port}"
            self.texts.put(name, &out.name)
            out.id = identity(name)
            out.protocol = PROTOCOLS[backend.protocol]
            out.tls = backend.tls.id if backend.tls is not None else 0
            out.counter = self.registry.take_backend(key)
            self.write_budget(backend.retry_budget, out)
        elif block.backend is not backend:     # the same place, of which a policy says something else
            block.backend = backend
            self.write_budget(backend.retry_budget, self.at(block))
        block.refs += 1
        rule.backends += (block,)
        return block.index

    cdef int write_budget(self, object budget, Backend *out) except -1:
        out.budget_ms = 0 if budget is None else round(budget.interval * 1000)
        out.budget_percent = 0 if budget is None else budget.percent
        out.budget_minimum = 0 if budget is None else budget.minimum
        out.minimum_ms = 0 if budget is None else round(budget.minimum_interval * 1000)
        return 0

    cdef int write_health(self, BackendBlock block) except -1:
        cdef Backend *out = self.at(block)
        policy = block.endpoints.policy
        passive = policy.passive if policy is not None else None
        out.flags = BACKEND_ACTIVE if policy is not None and policy.active is not None else 0
        out.failures = out.percent = out.ejection_ms = out.pending = out.pending_ms = 0
        if passive is not None:
            out.flags |= BACKEND_PASSIVE
            out.failures, out.percent, out.ejection_ms = passive.failures, passive.percent, passive.ejection_ms
        out.slow_ms = policy.slow_start_ms if policy is not None else 0
        out.flags |= BACKEND_SLOW if out.slow_ms else 0
        out.parallel = policy.parallel if policy is not None else 0
        if out.parallel:
            out.flags |= BACKEND_LIMITED
            out.pending, out.pending_ms = policy.pending, policy.pending_ms
        return 0

    cdef int write_endpoints(self, BackendBlock block) except -1:
        cdef Backend *out
        cdef Endpoint endpoint
        cdef list held = []
        addresses = self.registry.addresses(block.endpoints)
        if addresses == block.addresses:
            return 0
        out = self.at(block)
        out.endpoints.first = self.sections.count(SECTION_ENDPOINTS)
        out.endpoints.count = 0
        for ip, port in addresses:
            if not parse_address(ip, &endpoint):
                continue
            endpoint.port = port
            place = (ip, port, block.backend.dialect)
            endpoint.slot, endpoint.generation = self.registry.take_endpoint(*place)
            held.append(place)
            self.sections.put(SECTION_ENDPOINTS, &endpoint)
            out.endpoints.count += 1
        self.drop_endpoints(block)
        block.held = held
        block.addresses = addresses
        return 0

    cdef int refresh(self, object endpoints) except -1:
        cdef BackendBlock block
        for _, _, c, d in spans(self.last_endpoints, endpoints):
            for one in items_of(endpoints, c, d):
                self.locate(one)
        if self.fresh:                     # named by rules again, or now that there is a socket
            for one in [find(endpoints, key, KEY) for key in self.fresh] if len(self.fresh) < 16 else endpoints:
                if one is not None and one.key in self.fresh:
                    self.locate(one)
        self.last_endpoints = endpoints
        self.fresh.clear()
        for key in self.registry.changed:
            block = <BackendBlock>self.blocks.get(key)
            if block is not None and block.endpoints is not None:
                self.write_endpoints(block)
        self.registry.changed.clear()
        return 0

    cdef int locate(self, object endpoints) except -1:
        cdef BackendBlock block = <BackendBlock>self.blocks.get(endpoints.key)
        if block is not None:
            block.endpoints = endpoints
            self.write_health(block)
            self.write_endpoints(block)
        return 0

    cdef int drop_endpoints(self, BackendBlock block) except -1:
        for held in block.held:
            self.registry.drop_endpoint(*held)
        block.held = []
        return 0

    # A rule does not name these any more.
    cdef int leave(self, RuleBlock rule) except -1:
        cdef BackendBlock block
        for block in rule.backends:
            block.refs -= 1
            if block.refs == 0:
                self.drop(block)
        return 0

    cdef int drop(self, BackendBlock block) except -1:
        self.drop_endpoints(block)
        self.registry.drop_backend(block.backend.key)
        self.sections.clear(SECTION_BACKENDS, block.index)
        self.free.append(block.index)
        del self.blocks[block.backend.key]
        self.fresh.pop(block.backend.key, None)
        return 0


cdef bint parse_address(str ip, Endpoint *out) except -1:
    cdef bytes packed
    cdef str address, scope
    address, _, scope = ip.partition("%")
    memset(out, 0, sizeof(Endpoint))
    try:
        out.family = 6 if ":" in address else 4
        packed = socket.inet_pton(socket.AF_INET6 if out.family == 6 else socket.AF_INET, address)
        if scope:
            out.scope = int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
    except OSError:
        return False
    memcpy(out.address, <const char *>packed, len(packed))
    return True
