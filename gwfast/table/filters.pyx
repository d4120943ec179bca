# Writes the filters of rules and backendRefs: operations in their order, and what some of them lead to.
#
# Rules:
# - CORS comes last: what it says is said whatever the others do (spec 5.5), and no other filter writes its fields
# - everything here is only appended; of an extension whose rule is gone the definition is taken out, for workers load those
import cython
import msgspec
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from gwfast.http.head cimport name_hash
from gwfast.table.backends cimport Backends
from gwfast.table.blocks cimport RuleBlock
from gwfast.table.image cimport Sections, Texts
from gwfast.table.layout cimport (CORS_ANY_HEADER, CORS_ANY_METHOD, CORS_ANY_ORIGIN, CORS_CREDENTIALS, OP_ANSWER, OP_AUTHORIZE,
                                  OP_CORS, OP_EXTENSION, OP_MIRROR, OP_REDIRECT, OP_REQUEST_ADD, OP_REQUEST_COOKIE,
                                  OP_REQUEST_REMOVE, OP_REQUEST_SET, OP_RESPONSE_ADD, OP_RESPONSE_REMOVE, OP_RESPONSE_SET,
                                  OP_REWRITE_HOST, OP_REWRITE_PATH_FULL, OP_REWRITE_PATH_PREFIX, OP_SESSION, RULE_ANSWERS,
                                  RULE_CORS, RULE_MIRRORS, RULE_NAMES, RULE_NEEDS_REQUEST, RULE_NEEDS_RESPONSE,
                                  RULE_REQUEST_FILTERS,
                                  SECTION_AUTHORIZERS, SECTION_CORS, SECTION_EXTENSIONS, SECTION_MIRRORS, SECTION_OPS,
                                  SECTION_ORIGINS, SECTION_REDIRECTS, Authorizer, Cors, Extension, Mirror, Op, Origin, Redirect,
                                  Span)

from gwfast.plan import ir

ON = {"request": (OP_REQUEST_SET, OP_REQUEST_ADD, OP_REQUEST_REMOVE),
      "response": (OP_RESPONSE_SET, OP_RESPONSE_ADD, OP_RESPONSE_REMOVE)}
CORS_FIELDS = frozenset(f"access-control-{name}" for name in (
    "allow-origin", "allow-credentials", "allow-methods", "allow-headers", "expose-headers", "max-age"))
PATH_KINDS = {"ReplaceFullPath": 1, "ReplacePrefixMatch": 2}


@cython.final
cdef class Filters:
    def __cinit__(self, registry, Sections sections, Texts texts, Backends backends):
        self.registry = registry
        self.sections = sections
        self.texts = texts
        self.backends = backends

    cdef int write(self, tuple filters, RuleBlock block, Span *span, uint32_t *flags, bint crossed,
                   object sessions) except -1:
        cdef object cors = None
        span.first = self.sections.count(SECTION_OPS)
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
        span.count = self.sections.count(SECTION_OPS) - span.first
        return 0

    cdef uint32_t write_mirror(self, object item, RuleBlock block) except? 0:
        cdef Mirror out
        memset(&out, 0, sizeof(Mirror))
        out.backend = self.backends.index(item.backend, block)
        out.numerator, out.denominator = item.numerator, item.denominator
        if item.numerator < item.denominator:
            block.shares = block.shares or []
            identity = f"{block.rule.id}/mirrors/{len(block.shares)}"
            block.shares.append((identity, (item.numerator, item.denominator)))
            out.pick_at, out.pick_generation = self.registry.take_pick(identity, (item.numerator, item.denominator))
        return self.sections.put(SECTION_MIRRORS, &out)

    cdef uint32_t write_authorizer(self, object item, RuleBlock block) except? 0:
        cdef Authorizer out
        memset(&out, 0, sizeof(Authorizer))
        out.backend = self.backends.index(item.backend, block)
        out.grpc, out.max_body = item.grpc, item.max_body
        self.texts.put(item.path, &out.path)
        self.texts.put(",".join(item.headers), &out.headers)
        self.texts.put(",".join(item.answers), &out.answers)
        return self.sections.put(SECTION_AUTHORIZERS, &out)

    cdef uint32_t write_extension(self, object item, RuleBlock block) except? 0:
        cdef Extension out
        cdef uint32_t at
        memset(&out, 0, sizeof(Extension))
        out.id = item.id
        self.texts.put(msgspec.json.encode(item).decode(), &out.definition)
        at = self.sections.put(SECTION_EXTENSIONS, &out)
        block.extensions = block.extensions or []
        block.extensions.append(at)
        return at

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
        cdef bytes name
        memset(&out, 0, sizeof(Cors))
        out.first = self.sections.count(SECTION_ORIGINS)
        for origin in item.origins:
            if origin == "*":
                out.flags |= CORS_ANY_ORIGIN
            else:
                self.write_origin(origin)
        out.count = self.sections.count(SECTION_ORIGINS) - out.first
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
        return self.sections.put(SECTION_CORS, &out)

    cdef int write_origin(self, str origin) except -1:
        cdef Origin out
        memset(&out, 0, sizeof(Origin))
        scheme, _, authority = origin.partition("://")
        host, _, port = authority.partition(":")
        out.https = scheme == "https"
        out.port = min(int(port), 65535) if port else 443 if out.https else 80
        out.wild = host.startswith("*")
        self.texts.put(host.removeprefix("*"), &out.host)
        self.sections.put(SECTION_ORIGINS, &out)
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
        cdef Redirect out
        memset(&out, 0, sizeof(Redirect))
        out.status = item.status
        out.port = item.port
        self.texts.put(item.scheme, &out.scheme)
        self.texts.put(item.hostname, &out.host)
        if item.path is not None:
            out.path_kind = PATH_KINDS[item.path.type]
            self.texts.put(item.path.value.rstrip("/") if out.path_kind == 2 else item.path.value, &out.path)
        return self.sections.put(SECTION_REDIRECTS, &out)

    cdef int put_op(self, uint8_t kind, uint32_t number, str name, str value) except -1:
        cdef Op op
        memset(&op, 0, sizeof(Op))
        op.kind = kind
        op.hash = number
        self.texts.put(name, &op.name)
        self.texts.put(value, &op.value)
        if name:
            op.hash = name_hash(self.texts.arena.at + op.name.at, op.name.n)
            self.texts.put(f"{name}: {value}\r\n", &op.line)
        self.sections.put(SECTION_OPS, &op)
        return 0
