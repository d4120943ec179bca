# Writes rules: what became of each, and where their requests go.
#
# Rules:
# - a rule is there once, at its place while an entry of a host names it; what holds it is counted
# - rules go last, so that those that only move keep what the registry holds for them
# - rules that send everything to one backend share its Choice; those that say the same of time and retries share a Policy
import cython
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from gwfast.http.head cimport name_hash
from gwfast.table.arena cimport discard, push
from gwfast.table.backends cimport Backends
from gwfast.table.blocks cimport BackendBlock, RuleBlock
from gwfast.table.filters cimport Filters
from gwfast.table.image cimport Sections, Texts
from gwfast.table.layout cimport (NO_BACKEND, PERSISTENCE_HEADER, RULE_ANSWERS, RULE_CORS, RULE_GRPC, RULE_NAMES, RULE_POLICY,
                                  RULE_SESSIONS, SECTION_CHOICES, SECTION_EXTENSIONS, SECTION_PERSISTENCES, SECTION_POLICIES,
                                  SECTION_RULES, Choice, Persistence, Policy, Rule)

from gwfast import limits
from gwfast.plan.sessions import sessions_of
from gwfast.sharing import interned


cdef uint32_t milliseconds(seconds) except? 0:
    return min(round((seconds or 0) * 1000), 0xFFFFFFFF)


@cython.final
cdef class Rules:
    def __cinit__(self, registry, Sections sections, Texts texts, Backends backends):
        self.registry = registry
        self.sections = sections
        self.texts = texts
        self.backends = backends
        self.filters = Filters(registry, sections, texts, backends)
        self.blocks = {}
        self.slots = []
        self.free = []
        self.policy_places = {}
        self.persistence_places = {}

    def __dealloc__(self):
        discard(&self.left)

    cdef uint32_t hold(self, object rule) except? 0:
        cdef RuleBlock block = <RuleBlock>self.blocks.get(rule)
        if block is None:
            block = RuleBlock()
            block.rule = rule
            if self.free:
                block.slot = self.free.pop()
                self.slots[block.slot] = block
            else:
                block.slot = self.sections.add(SECTION_RULES, 1)
                self.slots.append(block)
            self.blocks[rule] = block
            self.write(rule, block)
        block.refs += 1
        return block.slot

    cdef int leave(self, uint32_t slot) except -1:
        cdef ssize_t at = push(&self.left, sizeof(uint32_t))
        (<uint32_t *>(self.left.at + at))[0] = slot
        return 0

    cdef int drop_left(self) except -1:
        cdef RuleBlock block
        cdef size_t i
        for i in range(self.left.used // sizeof(uint32_t)):
            block = self.slots[(<uint32_t *>self.left.at)[i]]
            block.refs -= 1
            if block.refs == 0:
                self.drop(block)
        self.left.used = 0
        return 0

    cdef int drop(self, RuleBlock block) except -1:
        del self.blocks[block.rule]
        self.slots[block.slot] = None
        self.free.append(block.slot)
        self.sections.clear(SECTION_RULES, block.slot)
        for at in block.extensions or ():
            self.sections.clear(SECTION_EXTENSIONS, at)
        self.let_go(block)
        self.backends.leave(block)
        return 0

    cdef int let_go(self, RuleBlock block) except -1:
        rule = block.rule
        self.registry.drop_counter(rule.kind, f"{rule.namespace}/{rule.route}")
        if block.weights is not None:
            self.registry.drop_pick(rule.id, block.weights)
        for identity, weights in block.shares or ():
            self.registry.drop_pick(identity, weights)
        return 0

    cdef int close(self) except -1:
        for block in self.blocks.values():
            self.let_go(block)
        self.blocks.clear()
        return 0

    cdef int write(self, object rule, RuleBlock block) except -1:
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
        out.counter = self.registry.take_counter(rule.kind, route)
        if rule.filters or rule.session is not None:
            self.filters.write(rule.filters, block, &out.ops, &out.flags, False, sessions_of(rule, None))
        if rule.timeouts is not None or rule.retry is not None:
            out.flags |= RULE_POLICY
            out.policy = self.policy(rule.timeouts, rule.retry)
        self.write_choices(rule, block, &out)
        block.backends = interned(*block.backends)
        (<Rule *>self.sections.element(SECTION_RULES, block.slot))[0] = out
        return 0

    cdef int write_choices(self, object rule, RuleBlock block, Rule *out) except -1:
        cdef list weighted = [backend for backend in rule.backends if backend.weight > 0]
        # whoever chooses by name may choose what no weight would, and so do sessions (GEP-1619, Traffic Splitting)
        cdef bint sticks = any([sessions_of(rule, one.backend) for one in rule.backends])
        cdef list idle = [one for one in rule.backends if not one.weight] if sticks or out.flags & RULE_NAMES else []
        cdef uint32_t at
        cdef Choice choice
        cdef uint32_t i
        cdef uint32_t flags
        cdef uint32_t rule_cors = out.flags & RULE_CORS
        if len(weighted) == 1 and not (idle or sticks) and weighted[0].backend is not None and not weighted[0].filters:
            return self.share_choice(weighted[0], block, out)
        at = out.choices.first = self.sections.add(SECTION_CHOICES, <uint32_t>(len(weighted) + len(idle)))
        out.choices.count = <uint32_t>len(weighted)
        out.idle = <uint32_t>len(idle)
        for i, item in enumerate(weighted + idle):
            memset(&choice, 0, sizeof(Choice))
            choice.weight = item.weight
            choice.status = item.status
            choice.backend = self.backends.index(item.backend, block) if item.backend is not None else NO_BACKEND
            sessions = sessions_of(rule, item.backend)
            if sessions is not None:
                choice.persistence = 1 + self.persistence(sessions)
                out.flags |= RULE_SESSIONS
            sessions = sessions if rule.session is None else None      # of the rule: among its ops already
            if item.filters or sessions is not None:
                flags = 0
                self.filters.write(item.filters, block, &choice.ops, &flags, rule_cors != 0, sessions)
                out.flags |= flags & ~<uint32_t>RULE_ANSWERS
            out.total += choice.weight
            (<Choice *>self.sections.element(SECTION_CHOICES, at + i))[0] = choice
        if out.total >> 32:
            raise ValueError(f"{rule.id}: the sum of the weights is {out.total}")
        if len(weighted) > 1:
            block.weights = interned(*[item.weight for item in weighted])
            out.pick_at, out.pick_generation = self.registry.take_pick(rule.id, block.weights)
        return 0

    cdef int share_choice(self, object item, RuleBlock rule, Rule *out) except -1:
        cdef uint32_t index = self.backends.index(item.backend, rule)
        cdef BackendBlock backend = rule.backends[len(rule.backends) - 1]     # behind those of its mirrors
        cdef Choice choice
        if backend.weight != <uint32_t>item.weight:
            memset(&choice, 0, sizeof(Choice))
            choice.weight = backend.weight = item.weight
            choice.status = item.status
            choice.backend = index
            backend.choice = self.sections.put(SECTION_CHOICES, &choice)
        out.choices.first = backend.choice
        out.choices.count = 1
        out.total = backend.weight
        return 0

    cdef uint32_t policy(self, object timeouts, object retry) except? 0:
        cdef Policy out
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
        place = self.policy_places[timeouts, retry] = self.sections.put(SECTION_POLICIES, &out)
        return place

    cdef uint32_t persistence(self, object sessions) except? 0:
        cdef Persistence out
        cdef bytes name = sessions.name.encode()
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
        place = self.persistence_places[sessions] = self.sections.put(SECTION_PERSISTENCES, &out)
        return place
