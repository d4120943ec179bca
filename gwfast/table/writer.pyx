# Writes table images: see layout.pxd for the layout, plan/image.py for who calls this.
#
# Rules:
# - the sections are the image in the making: what a Rule, a Backend, a Host or a Listener became stays at its place while
#   that object lives in the plan; an image after a change costs the change and one copy
# - what differs from the last plan is found by what the two share (gwfast.sharing)
# - memory is most of what an image costs, so it may be there before the image is (`Image.make_room`)
# - rules and backends are counted by who refers to them; places are given back when nobody does
# - runs of operations, choices, endpoints, predicates and text, and what is written of hosts and names, are only
#   appended; when they have doubled since the writer began (`wasteful`), a new writer starts over
import fcntl
import os
import socket
from collections import ChainMap
from operator import attrgetter

import cython
import msgspec
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.mman cimport MAP_FAILED, MAP_PRIVATE, PROT_READ, mmap, munmap
from posix.unistd cimport pwrite

from gwfast.table.arena cimport Arena
from gwfast.http.head cimport name_hash
from gwfast.table.index cimport (HostBlock, Name, Term, Terms, Texts, make_name, patch_host, remove_name, room_for_names,
                                 set_name, write_host, write_names)
from gwfast.table.layout cimport (AUTH_ANY, AUTH_NONE, AUTH_VALID, BACKEND_ACTIVE, BACKEND_LIMITED, BACKEND_PASSIVE,
                                  BACKEND_SLOW, BIND_HTTP, BIND_TCP, BIND_TLS, BIND_UDP, CORS_ANY_HEADER, CORS_ANY_METHOD,
                                  CORS_ANY_ORIGIN, CORS_CREDENTIALS, IMAGE_VERSION, MODE_HTTP, MODE_HTTPS, MODE_PASSTHROUGH,
                                  MODE_TCP, MODE_TERMINATE, MODE_UDP, NO_BACKEND, OP_ANSWER, OP_AUTHORIZE, OP_CORS,
                                  OP_EXTENSION, OP_MIRROR, OP_REDIRECT, OP_REQUEST_ADD, OP_REQUEST_REMOVE, OP_REQUEST_SET,
                                  OP_RESPONSE_ADD, OP_RESPONSE_REMOVE, OP_RESPONSE_SET, OP_REWRITE_HOST, OP_REWRITE_PATH_FULL,
                                  OP_REQUEST_COOKIE, OP_REWRITE_PATH_PREFIX, OP_SESSION, PERSISTENCE_HEADER, PROTO_H2C,
                                  PROTO_HTTP, PROTO_TCP, PROTO_UDP, PROTO_WS, RULE_ANSWERS, RULE_CORS, RULE_GRPC, RULE_MIRRORS,
                                  RULE_NAMES, RULE_NEEDS_REQUEST, RULE_NEEDS_RESPONSE, RULE_POLICY, RULE_REQUEST_FILTERS,
                                  RULE_SESSIONS, Authorizer, Backend, Bind, Choice, Cors, Endpoint, Extension, Listener,
                                  Mirror, Op, Origin, Persistence, Policy, Predicate, Redirect, Rule, Span, Text, image_magic)
from gwfast.table.layout cimport Image as Header

from gwfast import limits
from gwfast.plan import ir
from gwfast.plan.sessions import sessions_of
from gwfast.sharing import find, interned, items_of, spans

PROTOCOLS = {"http": PROTO_HTTP, "h2c": PROTO_H2C, "ws": PROTO_WS, "tcp": PROTO_TCP, "udp": PROTO_UDP}
TRANSPORTS = {"http": BIND_HTTP, "tls": BIND_TLS, "tcp": BIND_TCP, "udp": BIND_UDP}
MODES = {"http": MODE_HTTP, "https": MODE_HTTPS, "terminate": MODE_TERMINATE, "passthrough": MODE_PASSTHROUGH,
         "tcp": MODE_TCP, "udp": MODE_UDP}
CLIENT_AUTHS = {"AllowValidOnly": AUTH_VALID, "AllowInsecureFallback": AUTH_ANY}
ON = {"request": (OP_REQUEST_SET, OP_REQUEST_ADD, OP_REQUEST_REMOVE),
      "response": (OP_RESPONSE_SET, OP_RESPONSE_ADD, OP_RESPONSE_REMOVE)}
CORS_FIELDS = frozenset(f"access-control-{name}" for name in (
    "allow-origin", "allow-credentials", "allow-methods", "allow-headers", "expose-headers", "max-age"))
PATH_KINDS = {"ReplaceFullPath": 1, "ReplacePrefixMatch": 2}
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

KEY = attrgetter("key")

cdef char NOTHING[65536]               # zeros


@cython.final
cdef class Image:
    """A finished image in a sealed memfd; bytes-like (read-only). `fd` closes with it."""

    cdef readonly int fd
    cdef readonly Py_ssize_t size
    cdef readonly uint64_t generation
    cdef void *at

    def __cinit__(self):
        self.fd = os.memfd_create("gwfast-table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)

    def __dealloc__(self):
        if self.at != NULL:
            munmap(self.at, self.size)
        if self.fd >= 0:
            os.close(self.fd)

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.at == NULL:
            self.at = mmap(NULL, self.size, PROT_READ, MAP_PRIVATE, self.fd, 0)
            if self.at == MAP_FAILED:
                self.at = NULL
                raise OSError("an image cannot be mapped")
        PyBuffer_FillInfo(buffer, self, self.at, self.size, 1, flags)

    def make_room(self, uint64_t size):
        """Have the kernel find memory for `size` bytes, which takes it far longer than to write them; others run meanwhile."""
        cdef uint64_t at = 0
        cdef ssize_t written = 1
        with nogil:
            while at < size and written > 0:
                written = pwrite(self.fd, NOTHING, min(sizeof(NOTHING), size - at), at)
                at += written
        if written <= 0:
            raise OSError("there is no memory for an image")

    cdef int put(self, const char *at, size_t n, uint64_t where) except -1:
        cdef ssize_t written
        while n:
            written = pwrite(self.fd, at, n, where)
            if written <= 0:
                raise OSError("an image cannot be written")
            at += written
            where += written
            n -= written
        return 0


cdef uint32_t milliseconds(seconds) except? 0:
    return min(round((seconds or 0) * 1000), 0xFFFFFFFF)


@cython.final
cdef class BackendBlock:
    cdef object backend
    cdef object endpoints      # the plan's Endpoints of the same key
    cdef object addresses      # what was written
    cdef list held             # endpoints, as the registry knows them
    cdef uint32_t index
    cdef uint32_t refs
    cdef uint32_t choice       # where it is chosen alone, with this weight
    cdef uint32_t weight


@cython.final
cdef class RuleBlock:
    cdef object rule
    cdef tuple backends        # BackendBlocks
    cdef tuple weights         # of the selector state that it holds; None: none
    cdef list shares           # (id, weights) of that of its mirrors; None: none
    cdef list extensions       # where they lie; None: none
    cdef uint32_t counter
    cdef uint32_t slot


@cython.final
cdef class ListenerBlock:
    cdef object hosts          # of the plan's Listener
    cdef list blocks           # their HostBlocks
    cdef uint32_t asking       # of these together
    cdef list places           # its indexes among the listeners: a listener on several addresses has as many
    cdef ssize_t names         # where its Names lie in the index
    cdef object front          # of the plan's Listener; None
    cdef uint32_t front_slot   # of its RuleBlock

    def __cinit__(self):
        self.hosts = ()
        self.blocks = []
        self.places = []


@cython.final
cdef class Writer:
    """Keeps what became of each object of the last plan, and writes images from it."""

    cdef object registry
    cdef Texts texts
    cdef Terms terms
    cdef Arena binds, listeners, rules, ops, redirects, cors, origins, mirrors, authorizers, policies, extensions, choices
    cdef Arena backends, persistences
    cdef Arena endpoints, index
    cdef Arena rule_refs       # uint32_t by slot: how many terms name the rule
    cdef dict policy_places    # (Timeouts, Retry) -> index
    cdef dict persistence_places   # plan.sessions.Sessions -> index
    cdef dict rule_blocks      # Rule -> RuleBlock
    cdef dict backend_blocks   # Backend.key -> BackendBlock
    cdef dict listener_blocks  # Listener.id -> ListenerBlock
    cdef list rule_slots       # RuleBlock by slot
    cdef list free_rules
    cdef list free_backends
    cdef dict fresh            # Backend.key -> BackendBlock without endpoints yet
    cdef list last_binds       # (Bind, id) of the last plan
    cdef object last_endpoints # of the last plan
    cdef Arena left            # uint32_t: the rule of each term that went while this image is written
    cdef str route             # that was written last, and where
    cdef Text route_text
    cdef size_t baseline       # what is only appended, after the first image

    def __cinit__(self, registry, dict unions=None):
        self.registry = registry
        self.texts = Texts()
        self.terms = Terms(self.texts, unions or {})
        self.binds = Arena()
        self.listeners = Arena()
        self.rules = Arena()
        self.ops = Arena()
        self.redirects = Arena()
        self.cors = Arena()
        self.policies = Arena()
        self.policy_places = {}
        self.persistences = Arena()
        self.persistence_places = {}
        self.origins = Arena()
        self.mirrors = Arena()
        self.authorizers = Arena()
        self.extensions = Arena()
        self.choices = Arena()
        self.backends = Arena()
        self.endpoints = Arena()
        self.index = Arena()
        self.index.take(8)                 # offset 0 stands for none
        self.left = Arena()
        self.last_binds = []
        self.rule_refs = Arena()
        self.rule_blocks = {}
        self.backend_blocks = {}
        self.listener_blocks = {}
        self.last_endpoints = ()
        self.fresh = {}
        self.rule_slots = []
        self.free_rules = []
        self.free_backends = []

    def write(self, plan, bind_ids, uint64_t generation, Image image=None):
        """Return the Image of `plan`; binds that `bind_ids` {Bind.key: id} does not name are left out.

        image: an empty one that has room.
        """
        cdef list binds = [(bind, bind_ids[bind.key]) for bind in plan.binds if bind.key in bind_ids]
        cdef list changed = []
        if self.same_binds(binds, changed):
            for listener in changed:
                self.renew(listener)
        else:
            self.write_binds(binds)
        self.last_binds = binds
        self.drop_left()
        self.refresh(plan.endpoints)
        if not self.baseline:
            self.baseline = self.appended()
            self.terms.unions = self.unions
        return self.assemble(generation, Image() if image is None else image)

    @property
    def unions(self):
        """The automata of several patterns that were used, for the writer that comes after this one."""
        return self.terms.unions.maps[0] if isinstance(self.terms.unions, ChainMap) else self.terms.unions

    @property
    def wasteful(self):
        return self.baseline and self.appended() > 2 * self.baseline + (1 << 20)

    cdef size_t appended(self) noexcept:
        return (self.texts.arena.used + self.terms.predicates.used + self.terms.automata.used + self.ops.used
                + self.redirects.used + self.cors.used + self.origins.used + self.mirrors.used + self.choices.used
                + self.policies.used + self.persistences.used + self.authorizers.used + self.extensions.used
                + self.endpoints.used + self.index.used)

    def close(self):
        """Let go of everything that the registry holds for this writer."""
        for block in self.rule_blocks.values():
            self.let_go(block)
        for block in self.backend_blocks.values():
            self.drop_endpoints(block)
        self.rule_blocks.clear()
        self.backend_blocks.clear()

    # ---- Binds and listeners ----

    # Whether binds and the names of their listeners are those of the last plan; gathers the listeners that are others.
    cdef bint same_binds(self, list binds, list changed) except *:
        if len(binds) != len(self.last_binds):
            return False
        for (old, old_id), (bind, id) in zip(self.last_binds, binds):
            if old is bind and old_id == id:
                continue
            if (old_id, old.address, old.port, old.transport, old.proxy_protocol, len(old.listeners)) != (
                    id, bind.address, bind.port, bind.transport, bind.proxy_protocol, len(bind.listeners)):
                return False
            for before, listener in zip(<tuple>old.listeners, <tuple>bind.listeners):
                if before is not listener:
                    if (before.id, before.hostname, before.mode) != (listener.id, listener.hostname, listener.mode):
                        return False
                    changed.append(listener)
        return True

    cdef int write_binds(self, list binds) except -1:
        cdef dict known = self.listener_blocks
        cdef ListenerBlock block
        self.binds.used = self.listeners.used = 0
        self.listener_blocks = {}
        for bind, id in binds:
            for listener in bind.listeners:
                if listener.id not in self.listener_blocks:
                    block = <ListenerBlock>known.pop(listener.id, None) or ListenerBlock()
                    block.places = []
                    self.listener_blocks[listener.id] = block
            self.bind(bind, id)
        for block in known.values():
            for host in block.blocks:
                self.drop_host(host)
            self.set_front(block, None)
        return 0

    cdef int bind(self, object bind, uint32_t id) except -1:
        cdef tuple listeners = bind.listeners
        cdef ssize_t names = write_names(self.index, <uint32_t>len(listeners))
        cdef ssize_t at = self.binds.push(sizeof(Bind))
        cdef Bind *out = <Bind *>(self.binds.at + at)
        cdef Endpoint where
        cdef Name name
        out.id = id
        out.port = bind.port
        out.transport = TRANSPORTS[bind.transport]
        out.proxy_protocol = bind.proxy_protocol
        out.passes_through = all([listener.mode == "passthrough" for listener in listeners])
        memset(out.address, 0, 16)
        if bind.address and parse_address(bind.address, &where):
            if where.family == 4:
                out.address[10] = out.address[11] = 255
            memcpy(out.address + (12 if where.family == 4 else 0), where.address, 4 if where.family == 4 else 16)
        out.hosts = <uint32_t>(names // 8)
        out.listeners.first = <uint32_t>(self.listeners.used // sizeof(Listener))
        out.listeners.count = <uint32_t>len(listeners)
        for listener in listeners:
            at = 1 + self.listener(listener)
            make_name(&name, listener.hostname, self.texts, True)
            set_name(self.index, names, &name, <uint32_t>at, False)
        return 0

    # Its index. A listener on several addresses is written once for each of them but its hosts only once.
    cdef uint32_t listener(self, object listener) except? 0:
        cdef ssize_t at = self.listeners.push(sizeof(Listener))
        cdef Listener *out = <Listener *>(self.listeners.at + at)
        out.identity = ir.identity(listener.id)
        self.texts.put(listener.id, &out.id)
        self.texts.put(listener.hostname, &out.hostname)
        (<ListenerBlock>self.listener_blocks[listener.id]).places.append(at)
        self.renew(listener)
        return <uint32_t>(at // sizeof(Listener))

    # Brings what is written of a listener to what it is now.
    cdef int renew(self, object listener) except -1:
        cdef ListenerBlock block = self.listener_blocks[listener.id]
        cdef uint8_t client_auth = AUTH_NONE
        cdef Listener *out
        if listener.hosts is not block.hosts or not block.names:
            self.write_hosts(block, listener.hosts)
            block.hosts = listener.hosts
        if listener.front is not block.front:
            self.set_front(block, listener.front)
        if listener.tls is not None and listener.tls.client_ca:
            client_auth = CLIENT_AUTHS[listener.tls.client_mode]
        for at in block.places:
            out = <Listener *>(self.listeners.at + <ssize_t>at)
            out.hosts = <uint32_t>(block.names // 8)
            out.mode = MODES[listener.mode]
            out.client_auth = client_auth
            out.asks = block.asking != 0
            out.front = block.front_slot + 1 if block.front is not None else 0
        return 0

    # What is asked before a rule is chosen: held as the entries of a host hold their rules.
    cdef int set_front(self, ListenerBlock block, object front) except -1:
        cdef uint32_t slot = 0
        cdef ssize_t at
        if front is not None:
            slot = self.rule(front)
            (<uint32_t *>self.rule_refs.at)[slot] += 1
        if block.front is not None:
            at = self.left.push(sizeof(uint32_t))
            (<uint32_t *>(self.left.at + at))[0] = block.front_slot
        block.front, block.front_slot = front, slot
        return 0

    # ---- Hosts ----

    cdef int write_hosts(self, ListenerBlock listener, object hosts) except -1:
        cdef dict old = {}
        cdef list made = []
        cdef HostBlock block
        cdef bint room = listener.names and <uint32_t>len(hosts) <= room_for_names(self.index, listener.names)
        found = spans(listener.hosts, hosts)
        for a, b, _, _ in found:
            for block in listener.blocks[a:b]:
                old[block.host.hostname] = block
                listener.asking -= block.asking
        for a, b, c, d in reversed(found):
            some = [self.host(host, <HostBlock>old.pop(host.hostname, None)) for host in items_of(hosts, c, d)]
            listener.blocks[a:b] = some
            made += some
            for block in some:
                listener.asking += block.asking
        for block in old.values():
            self.drop_host(block)
            if room:
                remove_name(self.index, listener.names, &block.name, self.texts)
        if not room:
            listener.names = write_names(self.index, <uint32_t>len(hosts))
            made = listener.blocks
        for block in made:
            set_name(self.index, listener.names, &block.name, <uint32_t>(block.at // 8), True)
        return 0

    # The block of a host; `block` is what became of its last version.
    cdef HostBlock host(self, object host, HostBlock block):
        cdef Arena touched = Arena()       # Terms that came or went
        cdef Term *before
        cdef bint same_order
        if block is None:
            block = HostBlock.__new__(HostBlock)
            make_name(&block.name, host.hostname, self.texts, False)
        elif block.host is host:
            return block
        before = block.terms
        try:
            same_order = self.renew_terms(host, block, touched)
            if not (before != NULL and same_order and self.patch(block, touched)):
                self.write_whole(block)
        finally:
            free(before)
        block.host = host
        return block

    # Gives a block the terms of a host. False where what stays is not in the order in which it was.
    cdef bint renew_terms(self, object host, HostBlock block, Arena touched) except *:
        cdef object entries = host.entries
        cdef object known = block.host.entries if block.host is not None else ()
        cdef Term *old = block.terms
        cdef Term *new = <Term *>malloc((len(entries) + 1) * sizeof(Term))
        cdef ssize_t a, b, c, d
        cdef ssize_t i = 0
        cdef ssize_t j = 0
        cdef bint same_order = True
        if new == NULL:
            raise MemoryError
        block.terms = new                  # `old` is the caller's
        for a, b, c, d in spans(known, entries):
            if a > i:                      # else there may be no old ones at all
                memcpy(new + j, old + i, (a - i) * sizeof(Term))
            places = {id(entry): at for at, entry in enumerate(items_of(known, a, b), a)}
            i = a
            for j, entry in enumerate(items_of(entries, c, d), c):
                at = places.pop(id(entry), None)
                if at is None:
                    self.come(entry, new + j, touched)
                    block.asking += new[j].asks
                else:
                    new[j] = old[<ssize_t>at]
                    same_order = same_order and <ssize_t>at >= i
                    i = at
            for at in places.values():
                self.go(old + <ssize_t>at, touched)
                block.asking -= old[<ssize_t>at].asks
            i = b
            j = d
        if <ssize_t>len(entries) > j:
            memcpy(new + j, old + i, (<ssize_t>len(entries) - j) * sizeof(Term))
        block.count = <uint32_t>len(entries)
        return same_order

    cdef int come(self, object entry, Term *term, Arena touched) except -1:
        self.terms.put(entry.match, self.rule(entry.rule), entry.rule.kind == "GRPCRoute", term)
        (<uint32_t *>self.rule_refs.at)[term.rule] += 1
        note_term(touched, term)
        return 0

    cdef int go(self, const Term *term, Arena touched) except -1:
        cdef ssize_t at = self.left.push(sizeof(uint32_t))
        (<uint32_t *>(self.left.at + at))[0] = term.rule
        if touched is not None:
            note_term(touched, term)
        return 0

    cdef bint patch(self, HostBlock block, Arena touched) except *:
        self.index.rebase(block.at)
        try:
            return patch_host(self.index, block, <Term *>touched.at, <uint32_t>(touched.used // sizeof(Term)),
                              self.terms)
        finally:
            self.index.rebase(0)

    # At its place if it fits there, else at the end of the index.
    cdef int write_whole(self, HostBlock block) except -1:
        cdef Arena blob
        if block.room:
            blob = Arena()
            block.paths = write_host(blob, block.terms, block.count, self.terms)
            if blob.used > block.room:
                block.room = blob.used
                block.at = self.index.take(blob.used)
            memcpy(self.index.at + block.at, blob.at, blob.used)
            return 0
        block.at = self.index.used
        self.index.rebase(block.at)
        try:
            block.paths = write_host(self.index, block.terms, block.count, self.terms)
        finally:
            block.room = self.index.used
            self.index.rebase(0)
        return 0

    cdef int drop_host(self, HostBlock block) except -1:
        cdef uint32_t i
        for i in range(block.count):
            self.go(&block.terms[i], None)
        return 0

    # Rules go last, so that those that only move keep what the registry holds for them.
    cdef int drop_left(self) except -1:
        cdef uint32_t *refs
        cdef size_t i
        cdef uint32_t rule
        for i in range(self.left.used // sizeof(uint32_t)):
            rule = (<uint32_t *>self.left.at)[i]
            refs = <uint32_t *>self.rule_refs.at + rule
            refs[0] -= 1
            if refs[0] == 0:
                self.drop_rule(rule)
        self.left.used = 0
        return 0

    # ---- Rules ----

    cdef uint32_t rule(self, object rule) except? 0:
        cdef RuleBlock block = <RuleBlock>self.rule_blocks.get(rule)
        if block is not None:
            return block.slot
        block = RuleBlock()
        block.rule = rule
        block.backends = ()
        if self.free_rules:
            block.slot = self.free_rules.pop()
            self.rule_slots[block.slot] = block
        else:
            block.slot = <uint32_t>len(self.rule_slots)
            self.rule_slots.append(block)
            self.rules.push(sizeof(Rule))
            self.rule_refs.push(sizeof(uint32_t))
        self.rule_blocks[rule] = block
        self.write_rule(rule, block)
        return block.slot

    cdef int write_rule(self, object rule, RuleBlock block) except -1:
        cdef Rule out
        memset(&out, 0, sizeof(Rule))
        route = f"{rule.namespace}/{rule.route}"
        out.empty_status = 500             # no backendRefs, or all of weight 0 (spec 5.4)
        out.rule_index = rule.index
        if route != self.route:            # its rules come one after the other
            self.texts.append(route, &self.route_text)
            self.route = route
        out.route = self.route_text
        self.texts.put(rule.name, &out.name)
        self.texts.put(rule.kind, &out.kind)
        if rule.kind == "GRPCRoute":
            out.flags = RULE_GRPC
        block.counter = out.counter = self.registry.take_counter(rule.kind, route)
        if rule.filters or rule.session is not None:
            self.write_ops(rule.filters, block, &out.ops, &out.flags, False, sessions_of(rule, None))
        if rule.timeouts is not None or rule.retry is not None:
            out.flags |= RULE_POLICY
            out.policy = self.policy(rule.timeouts, rule.retry)
        self.write_choices(rule, block, &out)
        (<Rule *>self.rules.at)[block.slot] = out
        return 0

    cdef int write_choices(self, object rule, RuleBlock block, Rule *out) except -1:
        cdef list weighted = [backend for backend in rule.backends if backend.weight > 0]
        # whoever chooses by name may choose what no weight would, and so do sessions (GEP-1619, Traffic Splitting)
        cdef bint sticks = any([sessions_of(rule, one.backend) for one in rule.backends])
        cdef list idle = [one for one in rule.backends if not one.weight] if sticks or out.flags & RULE_NAMES else []
        cdef ssize_t at
        cdef Choice choice
        cdef uint32_t i
        cdef uint32_t flags
        cdef uint32_t rule_cors = out.flags & RULE_CORS
        if len(weighted) == 1 and not (idle or sticks) and weighted[0].backend is not None and not weighted[0].filters:
            return self.share_choice(weighted[0], block, out)
        at = self.choices.push((len(weighted) + len(idle)) * sizeof(Choice))
        out.choices.first = <uint32_t>(at // sizeof(Choice))
        out.choices.count = <uint32_t>len(weighted)
        out.idle = <uint32_t>len(idle)
        for i, item in enumerate(weighted + idle):
            memset(&choice, 0, sizeof(Choice))
            choice.weight = item.weight
            choice.status = item.status
            choice.backend = self.backend(item.backend, block) if item.backend is not None else NO_BACKEND
            sessions = sessions_of(rule, item.backend)
            if sessions is not None:
                choice.persistence = 1 + self.persistence(sessions)
                out.flags |= RULE_SESSIONS
            sessions = sessions if rule.session is None else None      # of the rule: among its ops already
            if item.filters or sessions is not None:
                flags = 0
                self.write_ops(item.filters, block, &choice.ops, &flags, rule_cors != 0, sessions)
                out.flags |= flags & ~<uint32_t>RULE_ANSWERS
            out.total += choice.weight
            (<Choice *>(self.choices.at + at))[i] = choice
        if out.total >> 32:
            raise ValueError(f"{rule.id}: the sum of the weights is {out.total}")
        if len(weighted) > 1:
            block.weights = interned(*[item.weight for item in weighted])
            out.pick_at, out.pick_generation = self.registry.take_pick(rule.id, block.weights)
        return 0

    # Rules that send everything to one backend share its Choice.
    cdef int share_choice(self, object item, RuleBlock rule, Rule *out) except -1:
        cdef uint32_t index = self.backend(item.backend, rule)
        cdef BackendBlock backend = rule.backends[len(rule.backends) - 1]     # behind those of its mirrors
        cdef ssize_t at
        if backend.weight != <uint32_t>item.weight:
            at = self.choices.push(sizeof(Choice))
            (<Choice *>(self.choices.at + at)).weight = backend.weight = item.weight
            (<Choice *>(self.choices.at + at)).status = item.status
            (<Choice *>(self.choices.at + at)).backend = index
            backend.choice = <uint32_t>(at // sizeof(Choice))
        out.choices.first = backend.choice
        out.choices.count = 1
        out.total = backend.weight
        return 0

    cdef int drop_rule(self, uint32_t slot) except -1:
        cdef RuleBlock block = self.rule_slots[slot]
        cdef BackendBlock backend
        del self.rule_blocks[block.rule]
        self.rule_slots[slot] = None
        self.free_rules.append(slot)
        memset(self.rules.at + slot * sizeof(Rule), 0, sizeof(Rule))
        for at in block.extensions or ():
            memset(self.extensions.at + <ssize_t>at, 0, sizeof(Extension))
        self.let_go(block)
        for backend in block.backends:
            backend.refs -= 1
            if backend.refs == 0:
                self.drop_backend(backend)
        return 0

    cdef int let_go(self, RuleBlock block) except -1:
        rule = block.rule
        self.registry.drop_counter(rule.kind, f"{rule.namespace}/{rule.route}")
        if block.weights is not None:
            self.registry.drop_pick(rule.id, block.weights)
        for identity, weights in block.shares or ():
            self.registry.drop_pick(identity, weights)
        return 0

    # Rules that say the same share it.
    cdef uint32_t policy(self, object timeouts, object retry) except? 0:
        cdef Policy out
        cdef ssize_t at
        place = self.policy_places.get((timeouts, retry))
        if place is not None:
            return place
        memset(&out, 0, sizeof(Policy))
        if timeouts is not None:
            out.timed = 1
            out.request_ms = milliseconds(timeouts.request)
            out.backend_ms = milliseconds(timeouts.backend_request)
        if retry is not None:
            out.attempts = min(limits.RETRY_ATTEMPTS if retry.attempts is None else retry.attempts, 0xFFFF)
            out.once = retry.attempts == 0
            out.backoff_ms = milliseconds(limits.RETRY_BACKOFF if retry.backoff is None else retry.backoff)
            for code in retry.codes:
                out.codes[(code - 400) // 64] |= <uint64_t>1 << ((code - 400) % 64)
        at = self.policies.push(sizeof(Policy))
        (<Policy *>(self.policies.at + at))[0] = out
        place = self.policy_places[timeouts, retry] = at // sizeof(Policy)
        return place

    cdef uint32_t persistence(self, object sessions) except? 0:
        cdef Persistence out
        cdef bytes name = sessions.name.encode()
        cdef ssize_t at
        place = self.persistence_places.get(sessions)
        if place is not None:
            return place
        memset(&out, 0, sizeof(Persistence))
        out.rule = sessions.rule
        out.lasts_ms = round((sessions.session.absolute_timeout or 0) * 1000)
        out.flags = PERSISTENCE_HEADER if sessions.session.type == "Header" else 0
        out.hash = name_hash(<const char *>name, <uint32_t>len(name))
        self.texts.put(sessions.name, &out.name)
        self.texts.put(sessions.before, &out.before)
        self.texts.put(sessions.behind, &out.behind)
        at = self.persistences.push(sizeof(Persistence))
        (<Persistence *>(self.persistences.at + at))[0] = out
        place = self.persistence_places[sessions] = at // sizeof(Persistence)
        return place

    # ---- Filters ----

    # `crossed`: a CORS filter of the rule is there already. sessions: whose tokens responses say there, or None.
    cdef int write_ops(self, tuple filters, RuleBlock block, Span *span, uint32_t *flags, bint crossed,
                       object sessions) except -1:
        cdef object cors = None
        span.first = <uint32_t>(self.ops.used // sizeof(Op))
        if sessions is not None:
            self.put_op(OP_SESSION, 0, sessions.name if sessions.session.type == "Header" else "", "")
        for item in filters:
            cors = item if isinstance(item, ir.CorsFilter) else cors
        crossed = crossed or cors is not None
        for item in filters:
            if item is cors:
                continue
            if isinstance(item, ir.HeaderFilter):
                self.write_headers(item, CORS_FIELDS if crossed and item.on == "response" else ())
                flags[0] |= RULE_NEEDS_REQUEST if item.on == "request" else RULE_NEEDS_RESPONSE
            elif isinstance(item, ir.RewriteFilter):
                self.write_rewrite(item)
                flags[0] |= RULE_NEEDS_REQUEST
            elif isinstance(item, ir.AuthorizeFilter):
                self.put_op(OP_AUTHORIZE, self.write_authorizer(item, block), "", "")
                flags[0] |= RULE_REQUEST_FILTERS
            elif isinstance(item, ir.ExtensionFilter):
                self.put_op(OP_EXTENSION, self.write_extension(item, block), "", "")
                flags[0] |= RULE_REQUEST_FILTERS | RULE_NAMES
            elif isinstance(item, ir.MirrorFilter):
                if item.numerator:
                    self.put_op(OP_MIRROR, self.write_mirror(item, block), "", "")
                    flags[0] |= RULE_MIRRORS
            elif isinstance(item, ir.RedirectFilter):
                self.put_op(OP_REDIRECT, self.write_redirect(item), "", "")
                flags[0] |= RULE_ANSWERS
            else:
                self.put_op(OP_ANSWER, item.status, "", "")
                flags[0] |= RULE_ANSWERS
        if cors is not None:               # the last: what it says is said whatever the others do (spec 5.5)
            self.put_op(OP_CORS, self.write_cors(cors), "", "")
            flags[0] |= RULE_CORS
        span.count = <uint32_t>(self.ops.used // sizeof(Op)) - span.first
        return 0

    cdef uint32_t write_mirror(self, object item, RuleBlock block) except? 0:
        cdef Mirror out
        cdef ssize_t at
        memset(&out, 0, sizeof(Mirror))
        out.backend = self.backend(item.backend, block)
        out.numerator, out.denominator = item.numerator, item.denominator
        if item.numerator < item.denominator:
            block.shares = block.shares or []
            identity = f"{block.rule.id}/mirrors/{len(block.shares)}"
            block.shares.append((identity, (item.numerator, item.denominator)))
            out.pick_at, out.pick_generation = self.registry.take_pick(identity, (item.numerator, item.denominator))
        at = self.mirrors.push(sizeof(Mirror))
        (<Mirror *>(self.mirrors.at + at))[0] = out
        return <uint32_t>(at // sizeof(Mirror))

    cdef uint32_t write_authorizer(self, object item, RuleBlock block) except? 0:
        cdef Authorizer out
        cdef ssize_t at
        memset(&out, 0, sizeof(Authorizer))
        out.backend = self.backend(item.backend, block)
        out.grpc, out.max_body = item.grpc, item.max_body
        self.texts.put(item.path, &out.path)
        self.texts.put(",".join(item.headers), &out.headers)
        self.texts.put(",".join(item.answers), &out.answers)
        at = self.authorizers.push(sizeof(Authorizer))
        (<Authorizer *>(self.authorizers.at + at))[0] = out
        return <uint32_t>(at // sizeof(Authorizer))

    cdef uint32_t write_extension(self, object item, RuleBlock block) except? 0:
        cdef ssize_t at = self.extensions.push(sizeof(Extension))
        block.extensions = block.extensions or []
        block.extensions.append(at)
        (<Extension *>(self.extensions.at + at)).id = item.id
        self.texts.put(msgspec.json.encode(item).decode(), &(<Extension *>(self.extensions.at + at)).definition)
        return <uint32_t>(at // sizeof(Extension))

    cdef int write_headers(self, object item, object without) except -1:
        set_, add, remove = ON[item.on]
        for name, value in item.set:
            if name not in without:
                self.put_op(set_, 0, name, value)
        for name, value in item.add:
            if name not in without:
                self.put_op(OP_REQUEST_COOKIE if add == OP_REQUEST_ADD and name == "cookie" else add, 0, name, value)
        for name in item.remove:
            if name not in without:
                self.put_op(remove, 0, name, "")
        return 0

    cdef uint32_t write_cors(self, object item) except? 0:
        cdef Cors out
        cdef ssize_t at
        cdef bytes name
        memset(&out, 0, sizeof(Cors))
        out.first = <uint32_t>(self.origins.used // sizeof(Origin))
        for origin in item.origins:
            if origin == "*":
                out.flags |= CORS_ANY_ORIGIN
            else:
                self.write_origin(origin)
        out.count = <uint32_t>(self.origins.used // sizeof(Origin)) - out.first
        out.flags |= CORS_CREDENTIALS if item.credentials else 0
        out.flags |= CORS_ANY_METHOD if "*" in item.methods else 0
        out.flags |= CORS_ANY_HEADER if "*" in item.headers else 0
        for field in CORS_FIELDS:
            name = field.encode()
            out.named |= <uint64_t>1 << (name_hash(<const char *>name, <uint32_t>len(name)) & 63)
        actual = "Access-Control-Allow-Credentials: true\r\n" if item.credentials else ""
        exposed = [one for one in item.expose if not (item.credentials and one == "*")]
        if exposed:
            actual += f"Access-Control-Expose-Headers: {', '.join(exposed)}\r\n"
        self.texts.put(actual, &out.actual)
        self.texts.put(f"{actual}Access-Control-Max-Age: {item.max_age}\r\n", &out.preflight)
        self.texts.put(", ".join(item.methods), &out.methods)
        self.texts.put(", ".join(item.headers), &out.headers)
        at = self.cors.push(sizeof(Cors))
        (<Cors *>(self.cors.at + at))[0] = out
        return <uint32_t>(at // sizeof(Cors))

    cdef int write_origin(self, str origin) except -1:
        cdef Origin *out = <Origin *>(self.origins.at + self.origins.push(sizeof(Origin)))
        scheme, _, authority = origin.partition("://")
        host, _, port = authority.partition(":")
        out.https = scheme == "https"
        out.port = min(int(port), 65535) if port else 443 if out.https else 80
        out.wild = host.startswith("*")
        self.texts.put(host.removeprefix("*"), &out.host)
        return 0

    cdef int write_rewrite(self, object item) except -1:
        if item.hostname:
            self.put_op(OP_REWRITE_HOST, 0, "", item.hostname)
        if item.path is not None:
            if item.path.type == "ReplaceFullPath":
                self.put_op(OP_REWRITE_PATH_FULL, 0, "", item.path.value)
            else:
                self.put_op(OP_REWRITE_PATH_PREFIX, 0, "", item.path.value.rstrip("/"))
        return 0

    cdef uint32_t write_redirect(self, object item) except? 0:
        cdef ssize_t at = self.redirects.push(sizeof(Redirect))
        cdef Redirect *out = <Redirect *>(self.redirects.at + at)
        out.status = item.status
        out.port = item.port
        self.texts.put(item.scheme, &out.scheme)
        self.texts.put(item.hostname, &out.host)
        if item.path is not None:
            out.path_kind = PATH_KINDS[item.path.type]
            self.texts.put(item.path.value.rstrip("/") if out.path_kind == 2 else item.path.value, &out.path)
        return <uint32_t>(at // sizeof(Redirect))

    cdef int put_op(self, uint8_t kind, uint32_t number, str name, str value) except -1:
        cdef ssize_t at = self.ops.push(sizeof(Op))
        cdef Op *op = <Op *>(self.ops.at + at)
        op.kind = kind
        op.hash = number
        self.texts.put(name, &op.name)
        self.texts.put(value, &op.value)
        if name:
            op.hash = name_hash(self.texts.arena.at + op.name.at, op.name.n)
            self.texts.put(f"{name}: {value}\r\n", &op.line)
        return 0

    # ---- Backends ----

    cdef uint32_t backend(self, object backend, RuleBlock rule) except? 0:
        cdef str key = backend.key
        cdef BackendBlock block = <BackendBlock>self.backend_blocks.get(key)
        cdef Backend *out
        if block is None:
            block = self.fresh[key] = self.backend_blocks[key] = BackendBlock()
            block.backend = backend
            block.addresses = ()
            block.held = []
            if self.free_backends:
                block.index = self.free_backends.pop()
            else:
                block.index = <uint32_t>(self.backends.push(sizeof(Backend)) // sizeof(Backend))
            out = <Backend *>self.backends.at + block.index
            self.texts.put(f"{backend.namespace}/{backend.name}:{backend.port}", &out.name)
            out.id = ir.identity(f"{backend.namespace}/{backend.name}:{backend.port}")
            out.protocol = PROTOCOLS[backend.protocol]
            out.tls = backend.tls.id if backend.tls is not None else 0
            out.counter = self.registry.take_backend(key)
            self.write_budget(backend.retry_budget, out)
        elif block.backend is not backend:     # the same place, of which a policy says something else
            block.backend = backend
            self.write_budget(backend.retry_budget, <Backend *>self.backends.at + block.index)
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
        cdef Backend *out = <Backend *>self.backends.at + block.index
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
        out = <Backend *>self.backends.at + block.index
        out.endpoints.first = <uint32_t>(self.endpoints.used // sizeof(Endpoint))
        out.endpoints.count = 0
        for ip, port in addresses:
            if not parse_address(ip, &endpoint):
                continue
            endpoint.port = port
            identity = (ip, port, block.backend.dialect)
            endpoint.slot, endpoint.generation = self.registry.take_endpoint(*identity)
            held.append(identity)
            at = self.endpoints.push(sizeof(Endpoint))
            memcpy(self.endpoints.at + <ssize_t>at, &endpoint, sizeof(Endpoint))
            out.endpoints.count += 1
        self.drop_endpoints(block)
        block.held = held
        block.addresses = addresses
        return 0

    # What the plan or the registry says anew about where endpoints are.
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
            block = <BackendBlock>self.backend_blocks.get(key)
            if block is not None and block.endpoints is not None:
                self.write_endpoints(block)
        self.registry.changed.clear()
        return 0

    cdef int locate(self, object endpoints) except -1:
        cdef BackendBlock block = <BackendBlock>self.backend_blocks.get(endpoints.key)
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

    cdef int drop_backend(self, BackendBlock block) except -1:
        self.drop_endpoints(block)
        self.registry.drop_backend(block.backend.key)
        memset(self.backends.at + block.index * sizeof(Backend), 0, sizeof(Backend))
        self.free_backends.append(block.index)
        del self.backend_blocks[block.backend.key]
        self.fresh.pop(block.backend.key, None)
        return 0

    # ---- The image ----

    cdef Image assemble(self, uint64_t generation, Image image):
        cdef Header header
        memset(&header, 0, sizeof(Header))
        header.magic = image_magic()
        header.version = IMAGE_VERSION
        header.header_size = sizeof(Header)
        header.generation = image.generation = generation
        header.binds = <uint32_t>(self.binds.used // sizeof(Bind))
        header.listeners = <uint32_t>(self.listeners.used // sizeof(Listener))
        header.rules = <uint32_t>(self.rules.used // sizeof(Rule))
        header.ops = <uint32_t>(self.ops.used // sizeof(Op))
        header.redirects = <uint32_t>(self.redirects.used // sizeof(Redirect))
        header.cors = <uint32_t>(self.cors.used // sizeof(Cors))
        header.policies = <uint32_t>(self.policies.used // sizeof(Policy))
        header.persistences = <uint32_t>(self.persistences.used // sizeof(Persistence))
        header.origins = <uint32_t>(self.origins.used // sizeof(Origin))
        header.mirrors = <uint32_t>(self.mirrors.used // sizeof(Mirror))
        header.authorizers = <uint32_t>(self.authorizers.used // sizeof(Authorizer))
        header.extensions = <uint32_t>(self.extensions.used // sizeof(Extension))
        header.choices = <uint32_t>(self.choices.used // sizeof(Choice))
        header.backends = <uint32_t>(self.backends.used // sizeof(Backend))
        header.endpoints = <uint32_t>(self.endpoints.used // sizeof(Endpoint))
        header.predicates = <uint32_t>(self.terms.predicates.used // sizeof(Predicate))
        header.automata_size = self.terms.automata.used
        header.index_size = self.index.used
        header.pick_slots = self.registry.pick_slots
        header.endpoint_slots = self.registry.endpoint_slots
        header.counter_slots = self.registry.counter_slots
        self.write_sections(image, &header)
        return image

    cdef int write_sections(self, Image image, Header *header) except -1:
        cdef uint64_t end = sizeof(Header)
        header.binds_at = self.section(image, self.binds, &end)
        header.listeners_at = self.section(image, self.listeners, &end)
        header.rules_at = self.section(image, self.rules, &end)
        header.ops_at = self.section(image, self.ops, &end)
        header.redirects_at = self.section(image, self.redirects, &end)
        header.cors_at = self.section(image, self.cors, &end)
        header.policies_at = self.section(image, self.policies, &end)
        header.persistences_at = self.section(image, self.persistences, &end)
        header.origins_at = self.section(image, self.origins, &end)
        header.mirrors_at = self.section(image, self.mirrors, &end)
        header.authorizers_at = self.section(image, self.authorizers, &end)
        header.extensions_at = self.section(image, self.extensions, &end)
        header.choices_at = self.section(image, self.choices, &end)
        header.backends_at = self.section(image, self.backends, &end)
        header.endpoints_at = self.section(image, self.endpoints, &end)
        header.predicates_at = self.section(image, self.terms.predicates, &end)
        header.automata_at = self.section(image, self.terms.automata, &end)
        header.index_at = self.section(image, self.index, &end)
        header.text_at = self.section(image, self.texts.arena, &end)
        header.size = end
        image.size = end
        image.put(<const char *>header, sizeof(Header), 0)
        os.ftruncate(image.fd, end)
        fcntl.fcntl(image.fd, fcntl.F_ADD_SEALS, SEALS)
        return 0

    cdef uint64_t section(self, Image image, Arena arena, uint64_t *end) except? 0:
        cdef uint64_t at = end[0]
        arena.reserve(8)                   # what is behind its end, up to the next section, is zeros
        memset(arena.at + arena.used, 0, 8)
        end[0] = (at + arena.used + 7) & ~<uint64_t>7
        image.put(arena.at, end[0] - at, at)
        return at


cdef int note_term(Arena terms, const Term *term) except -1:
    cdef ssize_t at = terms.push(sizeof(Term))
    memcpy(terms.at + at, term, sizeof(Term))
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
