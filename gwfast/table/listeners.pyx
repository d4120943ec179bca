# Writes binds and listeners, and keeps what is written of a listener in line with the plan.
#
# Rules:
# - where binds and the names of their listeners are those of the last plan, only listeners that changed are looked at; else binds
#   and listeners are written anew, and what hangs below a listener stays
# - a listener on several addresses is written once for each of them, but its hosts only once
import cython
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from gwfast.table.backends cimport parse_address
from gwfast.table.hosts cimport HostBlock, Hosts
from gwfast.table.image cimport Sections, Texts
from gwfast.table.layout cimport (AUTH_ANY, AUTH_NONE, AUTH_VALID, BIND_HTTP, BIND_TCP, BIND_TLS, BIND_UDP, MODE_HTTP, MODE_HTTPS,
                                  MODE_PASSTHROUGH, MODE_TCP, MODE_TERMINATE, MODE_UDP, SECTION_BINDS, SECTION_INDEX,
                                  SECTION_LISTENERS, Bind, Endpoint, Listener)
from gwfast.table.names cimport Name, make_name, remove_name, room_for_names, set_name, write_names
from gwfast.table.rules cimport Rules

from gwfast.identity import identity
from gwfast.sharing import items_of, spans

TRANSPORTS = {"http": BIND_HTTP, "tls": BIND_TLS, "tcp": BIND_TCP, "udp": BIND_UDP}
MODES = {"http": MODE_HTTP, "https": MODE_HTTPS, "terminate": MODE_TERMINATE, "passthrough": MODE_PASSTHROUGH,
         "tcp": MODE_TCP, "udp": MODE_UDP}
CLIENT_AUTHS = {"AllowValidOnly": AUTH_VALID, "AllowInsecureFallback": AUTH_ANY}


@cython.final
cdef class ListenerBlock:
    def __cinit__(self):
        self.hosts = ()
        self.blocks = []
        self.places = []


@cython.final
cdef class Listeners:
    def __cinit__(self, Sections sections, Texts texts, Rules rules, Hosts hosts):
        self.sections = sections
        self.texts = texts
        self.rules = rules
        self.hosts = hosts
        self.index = &sections.arenas[<int>SECTION_INDEX]
        self.blocks = {}
        self.last_binds = []

    cdef int write(self, list binds) except -1:
        cdef list changed = []
        if self.same_binds(binds, changed):
            for listener in changed:
                self.renew(listener)
        else:
            self.write_binds(binds)
        self.last_binds = binds
        return 0

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
        cdef dict known = self.blocks
        cdef ListenerBlock block
        self.sections.arenas[<int>SECTION_BINDS].used = self.sections.arenas[<int>SECTION_LISTENERS].used = 0
        self.blocks = {}
        for bind, id in binds:
            for listener in bind.listeners:
                if listener.id not in self.blocks:
                    block = <ListenerBlock>known.pop(listener.id, None) or ListenerBlock()
                    block.places = []
                    self.blocks[listener.id] = block
            self.bind(bind, id)
        for block in known.values():
            for host in block.blocks:
                self.hosts.drop(host)
            self.set_front(block, None)
        return 0

    cdef int bind(self, object bind, uint32_t id) except -1:
        cdef tuple listeners = bind.listeners
        cdef ssize_t names = write_names(self.index, <uint32_t>len(listeners))
        cdef uint32_t at
        cdef Bind out
        cdef Endpoint where
        cdef Name name
        memset(&out, 0, sizeof(Bind))
        out.id = id
        out.port = bind.port
        out.transport = TRANSPORTS[bind.transport]
        out.proxy_protocol = bind.proxy_protocol
        out.passes_through = all([listener.mode == "passthrough" for listener in listeners])
        if bind.address and parse_address(bind.address, &where):
            if where.family == 4:
                out.address[10] = out.address[11] = 255
            memcpy(out.address + (12 if where.family == 4 else 0), where.address, 4 if where.family == 4 else 16)
        out.hosts = <uint32_t>(names // 8)
        out.listeners.first = self.sections.count(SECTION_LISTENERS)
        out.listeners.count = <uint32_t>len(listeners)
        self.sections.put(SECTION_BINDS, &out)
        for listener in listeners:
            at = 1 + self.listener(listener)
            make_name(&name, listener.hostname, self.texts, True)
            set_name(self.index, names, &name, at, False)
        return 0

    # Its index. A listener on several addresses is written once for each of them but its hosts only once.
    cdef uint32_t listener(self, object listener) except? 0:
        cdef Listener out
        cdef uint32_t at
        memset(&out, 0, sizeof(Listener))
        out.identity = identity(listener.id)
        self.texts.put(listener.id, &out.id)
        self.texts.put(listener.hostname, &out.hostname)
        at = self.sections.put(SECTION_LISTENERS, &out)
        (<ListenerBlock>self.blocks[listener.id]).places.append(at)
        self.renew(listener)
        return at

    # Brings what is written of a listener to what it is now.
    cdef int renew(self, object listener) except -1:
        cdef ListenerBlock block = self.blocks[listener.id]
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
            out = <Listener *>self.sections.element(SECTION_LISTENERS, at)
            out.hosts = <uint32_t>(block.names // 8)
            out.mode = MODES[listener.mode]
            out.client_auth = client_auth
            out.asks = block.asking != 0
            out.front = block.front_slot + 1 if block.front is not None else 0
        return 0

    # What is asked before a rule is chosen: held as the entries of a host hold their rules.
    cdef int set_front(self, ListenerBlock block, object front) except -1:
        cdef uint32_t slot = 0
        if front is not None:
            slot = self.rules.hold(front)
        if block.front is not None:
            self.rules.leave(block.front_slot)
        block.front, block.front_slot = front, slot
        return 0

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
            some = [self.hosts.block(host, <HostBlock>old.pop(host.hostname, None)) for host in items_of(hosts, c, d)]
            listener.blocks[a:b] = some
            made += some
            for block in some:
                listener.asking += block.asking
        for block in old.values():
            self.hosts.drop(block)
            if room:
                remove_name(self.index, listener.names, &block.name, self.texts)
        if not room:
            listener.names = write_names(self.index, <uint32_t>len(hosts))
            made = listener.blocks
        for block in made:
            set_name(self.index, listener.names, &block.name, <uint32_t>(block.at // 8), True)
        return 0
