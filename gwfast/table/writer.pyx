# Writes table images: see layout.pxd for the layout, plan/image.py for who calls this.
#
#     plan -> listeners -> hosts -> paths -> candidates
#                            +-> terms                       what the matches of entries ask
#                            +-> rules -> filters            what becomes of a request
#                                  +-> backends              where it goes
#
# Rules:
# - the sections are the image in the making: what a Rule, a Backend, a Host or a Listener became stays at its place while
#   that object lives in the plan; an image after a change costs the change and one copy
# - what differs from the last plan is found by what the two share (gwfast.sharing)
# - rules and backends are counted by who refers to them; places are given back when nobody does
# - runs of operations, choices, endpoints, predicates and text, and what is written of hosts and names, are only
#   appended; when they have doubled since the writer began (`wasteful`), a new writer starts over
from collections import ChainMap

import cython
from libc.stdint cimport uint64_t
from libc.string cimport memset

from gwfast.table.backends cimport Backends
from gwfast.table.hosts cimport Hosts
from gwfast.table.image cimport Image, Sections, Texts
from gwfast.table.layout cimport Image as Header
from gwfast.table.listeners cimport Listeners
from gwfast.table.rules cimport Rules
from gwfast.table.terms cimport Terms

cdef enum:
    SPARE = 1 << 20        # bytes that may be appended before a writer is wasteful


@cython.final
cdef class Writer:
    """Keeps what became of each object of the last plan, and writes images from it."""

    cdef object registry
    cdef Sections sections
    cdef Terms terms
    cdef Backends backends
    cdef Rules rules
    cdef Listeners listeners
    cdef size_t baseline       # what is only appended, after the first image

    def __cinit__(self, registry, dict unions=None):
        cdef Texts texts
        self.registry = registry
        self.sections = Sections()
        texts = Texts(self.sections)
        self.terms = Terms(self.sections, texts, unions or {})
        self.backends = Backends(registry, self.sections, texts)
        self.rules = Rules(registry, self.sections, texts, self.backends)
        self.listeners = Listeners(self.sections, texts, self.rules, Hosts(self.sections, self.terms, self.rules))

    def write(self, plan, bind_ids, uint64_t generation, Image image=None):
        """Return the Image of `plan`; binds that `bind_ids` {Bind.key: id} does not name are left out.

        image: an empty one that has room.
        """
        cdef Header header
        self.listeners.write([(bind, bind_ids[bind.key]) for bind in plan.binds if bind.key in bind_ids])
        self.rules.drop_left()
        self.backends.refresh(plan.endpoints)
        if not self.baseline:
            self.baseline = self.sections.appended()
            self.terms.unions = self.unions
        memset(&header, 0, sizeof(Header))
        header.generation = generation
        header.pick_slots = self.registry.pick_slots
        header.endpoint_slots = self.registry.endpoint_slots
        header.counter_slots = self.registry.counter_slots
        if image is None:
            image = Image()
        self.sections.write(image, &header)
        return image

    @property
    def unions(self):
        """The automata of several patterns that were used, for the writer that comes after this one."""
        return self.terms.unions.maps[0] if isinstance(self.terms.unions, ChainMap) else self.terms.unions

    @property
    def wasteful(self):
        return self.baseline and self.sections.appended() > 2 * self.baseline + SPARE

    def close(self):
        """Let go of everything that the registry holds for this writer."""
        self.rules.close()
        self.backends.close()
