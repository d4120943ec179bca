# Puts matches into the terms of an image: their predicates, and the automata of their regular expressions. See layout.pxd for
# the layout, plan/automaton.py and plan/union.py for automata.
#
# Rules:
# - predicates and automata are only appended; an automaton is there once, and those of several patterns are remembered for the
#   writer that comes after this one (`unions`)
from collections import ChainMap

import cython
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from gwfast.http.head cimport (METHOD_CONNECT, METHOD_DELETE, METHOD_GET, METHOD_HEAD, METHOD_OPTIONS, METHOD_PATCH,
                               METHOD_POST, METHOD_PUT, METHOD_TRACE, name_hash)
from gwfast.table.arena cimport take
from gwfast.table.automaton cimport Automaton
from gwfast.table.hash cimport hash_path
from gwfast.table.image cimport Sections, Texts
from gwfast.table.layout cimport SECTION_AUTOMATA, SECTION_PREDICATES, Predicate

from gwfast.graph.methods import ANY_CALL
from gwfast.plan import regex

METHODS = {
    "": 0, "GET": METHOD_GET, "HEAD": METHOD_HEAD, "POST": METHOD_POST, "PUT": METHOD_PUT, "DELETE": METHOD_DELETE,
    "CONNECT": METHOD_CONNECT, "OPTIONS": METHOD_OPTIONS, "TRACE": METHOD_TRACE, "PATCH": METHOD_PATCH,
}
EVERY_CALL = ANY_CALL[1]
cdef const char *SLASH = b"/"
KINDS = {"Exact": TERM_EXACT, "PathPrefix": TERM_PREFIX, "RegularExpression": TERM_REGEX}


# Fields whose value is the gateway's to say unless the peer is trusted: a match is to see what the backend will see.
cdef bint is_ours(str name) except -1:
    return name.startswith("x-forwarded-") or name in ("forwarded", "via", "x-real-ip", "x-request-id")


@cython.final
cdef class Terms:
    def __cinit__(self, Sections sections, Texts texts, dict unions):
        self.sections = sections
        self.texts = texts
        self.automata = &sections.arenas[<int>SECTION_AUTOMATA]
        take(self.automata, 8)             # offset 0 stands for none
        self.automaton_places = {}
        self.patterns = []
        self.numbers = {}
        self.unions = ChainMap({}, unions) # what was used last time is not made again, and kept only if it is used
        self.literals = {}

    cdef int put(self, object match, uint32_t rule, bint grpc, Term *term) except -1:
        cdef ssize_t n
        cdef tuple headers = match.headers
        cdef tuple query = match.query
        cdef str path = match.path
        cdef bytes elements
        memset(term, 0, sizeof(Term))
        term.path = PyUnicode_AsUTF8AndSize(path, &n)
        term.n = <uint32_t>n
        term.rule = rule
        term.kind = KINDS[match.path_type]
        term.method = METHODS[match.method]
        if grpc and path == EVERY_CALL:    # comes last in the order: of what '/' takes
            term.path, term.n, term.kind = SLASH, 1, TERM_PREFIX
        if term.kind == TERM_REGEX:
            term.pattern = self.number(path)
            elements = self.elements(path)
            if grpc:
                elements = b"/"
                term.kind = TERM_CALL
            term.path = elements
            term.n = <uint32_t>len(elements)
        term.hash = hash_path(term.path, term.n)
        if headers or query:
            self.conditions(headers, query, term)
        return 0

    cdef int conditions(self, tuple headers, tuple query, Term *term) except -1:
        cdef list seen = []
        for condition in headers:          # only the first of equivalent names counts (H:614-621)
            if condition.name.lower() not in [name for name, _ in seen]:
                seen.append((condition.name.lower(), condition))
        term.headers = <uint8_t>len(seen)
        term.asks = any([is_ours(name) for name, _ in seen])
        cdef list names = []
        for condition in query:
            if condition.name not in names:
                names.append(condition.name)
                seen.append((condition.name, condition))
        term.queries = <uint8_t>len(names)
        if len(seen) > 64:
            raise ValueError("a match has more than 64 conditions")
        term.predicates = self.sections.count(SECTION_PREDICATES)
        for name, condition in seen:
            self.condition(name, condition)
        return 0

    cdef uint32_t condition(self, str name, object condition) except? 0:
        cdef Predicate p
        self.texts.put(name, &p.name)
        self.texts.put(condition.value, &p.value)
        p.hash = name_hash(self.texts.arena.at + p.name.at, p.name.n)
        p.automaton = self.automaton(condition.value) if condition.regex else 0
        return self.sections.put(SECTION_PREDICATES, &p)

    cdef uint32_t number(self, str pattern) except? 0:
        number = self.numbers.get(pattern)
        if number is None:
            number = self.numbers[pattern] = len(self.patterns)
            self.patterns.append(pattern)
        return number

    cdef uint32_t automaton(self, str pattern) except? 0:
        place = self.automaton_places.get(pattern)
        if place is not None:
            return place
        compiled = regex.compile(pattern)
        cdef bytes classes = compiled.classes
        cdef bytes table = compiled.table
        cdef ssize_t at = take(self.automata, sizeof(Automaton) + len(table))
        cdef Automaton *automaton = <Automaton *>(self.automata.at + at)
        automaton.states = compiled.count
        automaton.classes = compiled.width
        automaton.start = compiled.start
        automaton.accept = compiled.accept
        automaton.places = compiled.places
        memcpy(automaton.class_of, <const char *>classes, 256)
        memcpy(automaton + 1, <const char *>table, len(table))
        self.automaton_places[pattern] = at // 8
        return <uint32_t>(at // 8)

    # That of several patterns.
    cdef uint32_t automaton_of(self, tuple key, bytes written) except? 0:
        cdef ssize_t at
        place = self.automaton_places.get(key)
        if place is None:
            at = take(self.automata, len(written))
            memcpy(self.automata.at + at, <const char *>written, len(written))
            place = self.automaton_places[key] = at // 8
        return place

    # The whole elements of the literal text that every match of a pattern begins with; '/' where there are none.
    cdef bytes elements(self, str pattern):
        elements = self.literals.get(pattern)
        if elements is None:
            literal = regex.compile(pattern).literal
            elements = self.literals[pattern] = literal[:literal.rfind(b"/")] if literal[:1] == b"/" else b""
        return elements or b"/"
