# The table image: one flat, position-independent, read-only block of memory. This file is the one place that defines
# its layout (and table/hash how keys are hashed). An image begins with a header, Image, which names its sections; each is an
# array of one kind of element, or bytes. Every reference is an index into a section or an offset within one (uint32_t, in
# units of 8 bytes: 32 GiB at most). Everything is 8-byte aligned; text is (offset in bytes in the text section, length).
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef struct Text:
    uint32_t at            # byte offset from the start of the text section
    uint32_t n

cdef enum OpKind:
    OP_REQUEST_SET = 1     # set/add/remove a field of the request: name (as written), value; hash of the name
    OP_REQUEST_ADD
    OP_REQUEST_REMOVE
    OP_RESPONSE_SET
    OP_RESPONSE_ADD
    OP_RESPONSE_REMOVE
    OP_REWRITE_HOST        # value
    OP_REWRITE_PATH_FULL   # value
    OP_REWRITE_PATH_PREFIX # value, without trailing '/'; '' where it was '/' or empty
    OP_REDIRECT            # an index into redirects, in `hash`
    OP_ANSWER              # a status, in `hash`
    OP_AUTHORIZE           # holds the request: an index into the authorizers, in `hash`
    OP_EXTENSION           # holds the request: an index into the extensions, in `hash`
    OP_MIRROR              # an index into mirrors, in `hash`
    OP_SESSION             # where a response says the token of its session; name: of the field where it is no cookie's
    OP_REQUEST_COOKIE      # adds to the Cookie field of the request: name, value
    OP_CORS                # the last of its rule's or backendRef's: an index into cors, in `hash`

cdef struct Op:
    uint8_t kind           # OpKind
    uint8_t pad[3]
    uint32_t hash          # name_hash of `name`
    Text name
    Text value             # for SET and ADD: the whole line 'Name: value\r\n', ready to copy, begins at `line`
    Text line

cdef struct Redirect:
    uint16_t status
    uint16_t port          # 0: derive
    uint8_t path_kind      # 0: keep, 1: ReplaceFullPath, 2: ReplacePrefixMatch
    uint8_t pad[3]
    Text scheme            # n == 0: the request's
    Text host              # n == 0: the request's
    Text path              # for kind 2 without trailing '/', '' where it was '/' or empty

cdef enum CorsFlag:
    CORS_CREDENTIALS = 1
    CORS_ANY_ORIGIN = 2
    CORS_ANY_METHOD = 4
    CORS_ANY_HEADER = 8

cdef struct Cors:
    uint32_t flags         # CorsFlag
    uint32_t first         # of its origins
    uint32_t count
    uint32_t pad
    uint64_t named         # a bit for the hash of each field that is the gateway's to write (http/header_writer.overriding)
    Text preflight         # whole lines that every answer to a preflight has
    Text actual            # whole lines that every other response has
    Text methods           # the value of Access-Control-Allow-Methods; n == 0: none
    Text headers           # the value of Access-Control-Allow-Headers; n == 0: none

cdef struct Origin:        # one that Cors allows
    uint16_t port
    uint8_t https
    uint8_t wild           # `host` is what the name ends with, from the dot on; n == 0: any name
    uint32_t pad
    Text host              # in lower case

cdef struct Mirror:        # of every `denominator` requests, `numerator` are sent to the backend too
    uint32_t backend
    uint32_t numerator     # at least 1
    uint32_t denominator   # equal to it: every one
    uint32_t pick_at       # as in Rule: one slot of the selector's state, generation << 32 | what has gathered
    uint32_t pick_generation
    uint32_t pad

cdef struct Authorizer:    # of an ExternalAuth filter
    uint32_t backend
    uint32_t grpc          # it is asked with envoy.service.auth.v3, over HTTP/2; `path` and `answers` are not used
    uint32_t max_body      # how much of a body it is shown, larger ones are 413; 0: none
    uint32_t pad
    Text path              # in front of the request's
    Text headers           # names of fields that it is shown besides, between commas; with gRPC n == 0 is all
    Text answers           # names of fields of its 200 that go on; n == 0: all

cdef struct Extension:     # a filter in Python
    uint64_t id            # identity of what follows
    Text definition        # JSON of plan.ir.ExtensionFilter; n == 0: its rule is gone

cdef enum PersistenceFlag:
    PERSISTENCE_HEADER = 1 # tokens come and go in a field of this name, not in a cookie

cdef struct Persistence:   # how clients keep the sessions of a rule
    uint64_t rule          # identity of what they are of: a token is of no use to another rule
    uint64_t lasts_ms      # from when its token was given out; 0: for ever
    uint32_t flags         # PersistenceFlag
    uint32_t hash          # name_hash of `name`
    Text name              # of the cookie or field, as written
    Text before            # what a line of a response has before the token, and
    Text behind            # behind it, of a cookie without '; Secure'

cdef struct Span:          # a run of elements of one array
    uint32_t first
    uint32_t count

cdef struct Choice:        # one backend of a rule; those of weight 0 are written only where somebody may name them
    uint32_t weight
    uint32_t backend       # index; NO_BACKEND: answer `status`
    uint16_t status
    uint16_t pad
    Span ops               # filters of this backendRef
    uint32_t persistence   # 1 + its index; 0: there are no sessions

cdef enum:
    NO_BACKEND = 0xFFFFFFFF

cdef enum RuleFlag:
    RULE_NEEDS_RESPONSE = 1   # has ops on the response (rule or backendRef)
    RULE_NEEDS_REQUEST = 2    # has ops on the request
    RULE_ANSWERS = 4          # an OP_REDIRECT or OP_ANSWER among its ops ends the request here
    RULE_GRPC = 8             # of a GRPCRoute: what fails is said in gRPC's words
    RULE_REQUEST_FILTERS = 16 # an OP_AUTHORIZE or OP_EXTENSION among its ops
    RULE_CORS = 32            # an OP_CORS among its ops or those of its backendRefs
    RULE_POLICY = 64          # says something of time, or of trying again
    RULE_NAMES = 256          # somebody may choose a backend by its name: those of weight 0 are written
    RULE_MIRRORS = 128        # an OP_MIRROR among them
    RULE_SESSIONS = 512       # among its choices are some with sessions

cdef struct Policy:        # of a rule: `timeouts` and `retry`
    uint32_t request_ms    # the whole of it; 0: no limit
    uint32_t backend_ms    # one attempt; 0: no limit
    uint32_t backoff_ms    # at least so long before another attempt
    uint16_t attempts      # after the first one
    uint8_t timed          # `timeouts` are given: the gateway's own limit on responses does not hold
    uint8_t once           # `attempts: 0`: one connection is tried, and nothing sent twice
    uint64_t codes[4]      # a bit for each status from 400 on that is tried again

cdef enum:
    CODES = 256            # bits there are

cdef struct Rule:
    uint32_t flags
    uint32_t counter       # slot in the counters; 0: the shared slot of routes beyond the bound
    Span ops               # filters of the rule, in order
    Span choices
    uint64_t total         # sum of the weights of choices; 0: no backend can be chosen, answer `empty_status`
    uint32_t pick_at       # first slot of the selector's state in each worker's memory (see _pick)
    uint32_t pick_generation     # changes when the weights change; a worker resets state that carries another generation
    uint16_t empty_status  # 500
    uint16_t pad
    uint32_t policy        # with RULE_POLICY
    uint32_t idle          # so many choices of weight 0 follow the others: only who names them gets there
    uint32_t rule_index    # in its route
    Text route             # 'namespace/name'
    Text name              # of the rule; may be empty
    Text kind              # 'HTTPRoute', 'GRPCRoute', 'TLSRoute', ...

cdef enum Protocol:        # in clear, or over TLS where `tls` is not 0
    PROTO_HTTP = 0         # HTTP/1.1, or over TLS what ALPN says
    PROTO_H2C              # HTTP/2
    PROTO_WS               # HTTP/1.1
    PROTO_TCP
    PROTO_UDP

cdef enum BackendFlag:
    BACKEND_PASSIVE = 1    # failures are counted, and endpoints that fail are ejected
    BACKEND_ACTIVE = 2     # the supervisor probes its endpoints and marks those that are unhealthy
    BACKEND_SLOW = 4       # endpoints that come get few requests first
    BACKEND_LIMITED = 8    # only so many requests are under way at one of its endpoints

cdef struct Backend:
    Text name              # 'namespace/name:port'
    uint64_t id            # identity of `name`
    Span endpoints         # count 0: 503
    uint64_t tls           # id of its TLS settings in the credentials; 0: in clear
    uint8_t protocol       # Protocol
    uint8_t budget_percent # of the requests of the last budget_ms may be retries, 0 too
    uint8_t flags          # BackendFlag; 0: its health costs nothing
    uint8_t percent        # of its endpoints that may be ejected, but at least one; 0: none
    uint32_t budget_ms     # 0: nothing is said of a budget; percent, minimum and their times are those of limits
    uint32_t budget_minimum  # so many retries in each minimum_ms are allowed whatever the percentage comes to
    uint32_t minimum_ms
    uint32_t failures      # in a row that eject an endpoint
    uint32_t ejection_ms   # times how often it was ejected
    uint32_t slow_ms       # until an endpoint has its whole share
    uint32_t parallel      # requests at one endpoint
    uint32_t pending       # that wait for one, of each worker
    uint32_t pending_ms    # and for how long
    uint32_t counter       # row in the counters; 0: the one of all that have none of their own

cdef struct Endpoint:
    uint32_t slot          # stable while the endpoint lives: index into each worker's endpoint states
    uint32_t generation    # changes when the slot is given to another address, protocol or TLS settings
    uint8_t family         # 4 or 6
    uint8_t pad
    uint16_t port          # host byte order
    uint32_t scope
    uint8_t address[16]    # network byte order; the first 4 for family 4

cdef enum ListenerMode:    # what becomes of a connection
    MODE_HTTP = 0
    MODE_HTTPS
    MODE_TERMINATE         # TLS ends here, its bytes go on as they are
    MODE_PASSTHROUGH       # TLS goes on as it is
    MODE_TCP
    MODE_UDP

cdef enum ClientAuth:      # certificates of clients
    AUTH_NONE = 0          # are not asked for
    AUTH_VALID             # AllowValidOnly
    AUTH_ANY               # AllowInsecureFallback

cdef struct Listener:
    uint64_t identity      # identity of `id`: stable over images, and the key of its TLS settings in the credentials
    Text id                # 'namespace/gateway/listener'
    Text hostname          # '' for any
    uint32_t hosts         # index of its hosts: private to _match
    uint8_t mode           # ListenerMode
    uint8_t client_auth    # ClientAuth
    uint8_t asks           # a match of a rule is on a field that is the gateway's to say (table/terms.is_ours)
    uint8_t pad
    uint32_t front         # 1 + index of the Rule whose ops every request passes before a rule is chosen; 0: there is none
    uint32_t pad2

cdef enum Transport:       # what a client's first bytes are
    BIND_HTTP = 0
    BIND_TLS               # a ClientHello, whose SNI chooses the listener: its modes may differ
    BIND_TCP
    BIND_UDP

cdef struct Bind:
    uint32_t id            # given by whoever opened the socket; stable over images
    uint16_t port          # the spec's port: what redirects print
    uint8_t transport      # Transport
    uint8_t proxy_protocol
    Span listeners
    uint32_t hosts         # index of listener hostnames: private to _match
    uint8_t passes_through # nothing here ends TLS: who asks for a name that leads nowhere meets no TLS server
    uint8_t pad[3]
    uint8_t address[16]    # network byte order, IPv4 as ::ffff:a.b.c.d; all zero: any

cdef enum Section:         # in the order in which they lie in an image
    SECTION_BINDS = 0
    SECTION_LISTENERS
    SECTION_RULES
    SECTION_OPS
    SECTION_REDIRECTS
    SECTION_CORS
    SECTION_POLICIES
    SECTION_PERSISTENCES
    SECTION_ORIGINS
    SECTION_MIRRORS
    SECTION_AUTHORIZERS
    SECTION_EXTENSIONS
    SECTION_CHOICES
    SECTION_BACKENDS
    SECTION_ENDPOINTS
    SECTION_PREDICATES     # this and the next two: private to _match
    SECTION_AUTOMATA       # bytes: see table/automaton
    SECTION_INDEX          # bytes: hosts, paths, candidates
    SECTION_TEXT           # bytes
    SECTIONS               # how many

cdef struct Part:          # of an image: one section
    uint64_t at            # byte offset
    uint64_t count         # of its elements (element_size)

cdef struct Image:         # at offset 0
    uint64_t magic
    uint32_t version
    uint32_t header_size
    uint64_t size          # of the whole image
    uint64_t generation
    uint32_t pick_slots    # how many slots of selector state a worker needs at least
    uint32_t endpoint_slots
    uint32_t counter_slots
    uint32_t pad
    Part sections[SECTIONS]

cdef inline const char *section_at(const Image *image, Section section) noexcept nogil:
    return <const char *>image + image.sections[<int>section].at

cdef inline uint32_t count_of(const Image *image, Section section) noexcept nogil:
    return <uint32_t>image.sections[<int>section].count

cdef inline const char *text(const Image *image, Text t) noexcept nogil:
    return section_at(image, SECTION_TEXT) + t.at

cdef inline const Bind *bind_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Bind *>section_at(image, SECTION_BINDS) + i

cdef inline const Listener *listener_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Listener *>section_at(image, SECTION_LISTENERS) + i

cdef inline const Rule *rule_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Rule *>section_at(image, SECTION_RULES) + i

cdef inline const Op *op_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Op *>section_at(image, SECTION_OPS) + i

cdef inline const Redirect *redirect_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Redirect *>section_at(image, SECTION_REDIRECTS) + i

cdef inline const Cors *cors_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Cors *>section_at(image, SECTION_CORS) + i

cdef inline const Policy *policy_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Policy *>section_at(image, SECTION_POLICIES) + i

cdef inline const Persistence *persistence_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Persistence *>section_at(image, SECTION_PERSISTENCES) + i

cdef inline const Origin *origin_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Origin *>section_at(image, SECTION_ORIGINS) + i

cdef inline const Mirror *mirror_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Mirror *>section_at(image, SECTION_MIRRORS) + i

cdef inline const Authorizer *authorizer_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Authorizer *>section_at(image, SECTION_AUTHORIZERS) + i

cdef inline const Extension *extension_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Extension *>section_at(image, SECTION_EXTENSIONS) + i

cdef inline const Choice *choice_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Choice *>section_at(image, SECTION_CHOICES) + i

cdef inline const Backend *backend_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Backend *>section_at(image, SECTION_BACKENDS) + i

cdef inline const Endpoint *endpoint_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Endpoint *>section_at(image, SECTION_ENDPOINTS) + i

# ---- The index: private to _match (which reads it) and table/paths and what it calls (which write it) -----------
#
#     Bind.hosts, Listener.hosts -> Names -> HostIndex -> PathSlot -> PathNode -> Node -> Candidate -> Rule
#                                                                                  |          +-> Predicate
#                                                                                  +-> Keys -> Values -> Node
#
# `Bind.hosts`, `Listener.hosts` and the values of names count units of 8 bytes from the section; all offsets in a HostIndex
# and below count units from that HostIndex, and lead on from it. 0 means: not there. Tables are open-addressed, a power of
# two in size, at most half full (of paths three eighths: requests often ask for some that are not there); a slot begins
# with bits of its key's hash, and the word behind is 0 where the slot is free (table/slots); keys are compared in full.
# Between what is in use lies what no longer is.
cdef enum:
    IMAGE_VERSION = 18
    ANY_DEPTH = 63               # depths of 63 and more share the last bit of a mask
    UNION_PATTERNS = 1024        # of one automaton (limits), and the words of as many bits
    UNION_WORDS = 16

cdef struct NameSlot:
    uint32_t hash          # upper half
    uint32_t value         # 0: empty. Of a bind: 1 + index of the listener; of a listener: offset of a HostIndex
    Text name              # 'a.example', or '.example' for '*.example'

cdef struct Names:         # slots follow
    uint32_t mask          # slots - 1
    uint32_t any           # value for every name
    uint64_t depths        # bit d: there is a wildcard of d labels; bit 0: there is a name

cdef struct HostIndex:
    uint32_t mask          # path slots - 1
    uint32_t paths         # PathSlots
    uint64_t depths        # bit d: there is a prefix of d elements
    uint64_t exact_depths  # bit d: there is an exact path of d elements ("/a/" has two)
    uint32_t root          # Node of prefix '/'
    uint32_t regexes       # Regexes on paths that begin with no certain element
    uint64_t regex_depths  # bit d: there are Regexes at a PathNode of d elements
    uint32_t calls         # Regexes of gRPC, which are tried behind every prefix but '/'
    uint32_t pad

cdef struct PathSlot:
    uint32_t hash          # upper half
    uint32_t path          # PathNode

cdef struct PathNode:      # the path's bytes follow, then usually its nodes
    uint32_t n
    uint32_t exact         # Node
    uint32_t prefix        # Node
    uint32_t regexes       # Regexes whose matches all begin with this path and a '/'

cdef struct Candidate:
    uint32_t rule
    uint32_t ordinal       # place in the final order among those that share its path; for patterns: its host
    uint32_t predicates    # first: `headers` on headers, then `queries` on query parameters
    uint8_t method         # Method; 0: any
    uint8_t headers
    uint8_t queries
    uint8_t pad

cdef struct Node:          # candidates follow, in final order; the first that holds wins
    uint32_t first         # lowest ordinal in and below this node
    uint32_t count
    uint32_t keys          # Keys that lead to more candidates
    uint32_t pad

cdef struct Keys:          # KeySlots follow
    uint32_t mask
    uint32_t headers       # how many names of headers
    uint32_t queries       # how many names of query parameters
    uint32_t pad
    uint32_t methods[10]   # Node by Method

cdef enum KeyKind:
    KEY_NONE = 0
    KEY_HEADER
    KEY_QUERY

cdef struct KeySlot:
    uint32_t hash          # name_hash
    uint32_t kind          # KeyKind; KEY_NONE: empty
    Text name
    uint32_t values        # Values
    uint32_t present       # Node of candidates that ask only that the name is there

cdef struct Values:        # ValueSlots follow
    uint32_t mask
    uint32_t pad

cdef struct ValueSlot:
    uint32_t hash          # upper half
    uint32_t node
    Text value

cdef struct RegexSlot:     # patterns on paths that have one automaton
    uint32_t automaton     # as in Predicate; where `nodes` is not 0, one of several patterns
    uint32_t first         # the lowest ordinal of its nodes
    uint32_t node          # of the only pattern
    uint32_t nodes         # uint32_t [patterns]: a node for each; then, where `sieve`, the automaton of each
    uint32_t sieve         # the patterns may match that it says: the automata of each are to be asked
    uint32_t pad

cdef struct Regexes:       # RegexSlots follow, in the order of `first`
    uint32_t count
    uint32_t pad

cdef struct Predicate:
    uint32_t hash          # name_hash of the name
    uint32_t automaton     # offset in the automata section in units of 8 bytes, 0: equal to `value`
    Text name
    Text value

cdef inline const Predicate *predicate_at(const Image *image, uint32_t i) noexcept nogil:
    return <const Predicate *>section_at(image, SECTION_PREDICATES) + i

# Bytes of an element of a section; 1 where its elements differ in size, and offsets lead to them.
cdef inline uint64_t element_size(Section section) noexcept nogil:
    if section == SECTION_BINDS:
        return sizeof(Bind)
    elif section == SECTION_LISTENERS:
        return sizeof(Listener)
    elif section == SECTION_RULES:
        return sizeof(Rule)
    elif section == SECTION_OPS:
        return sizeof(Op)
    elif section == SECTION_REDIRECTS:
        return sizeof(Redirect)
    elif section == SECTION_CORS:
        return sizeof(Cors)
    elif section == SECTION_POLICIES:
        return sizeof(Policy)
    elif section == SECTION_PERSISTENCES:
        return sizeof(Persistence)
    elif section == SECTION_ORIGINS:
        return sizeof(Origin)
    elif section == SECTION_MIRRORS:
        return sizeof(Mirror)
    elif section == SECTION_AUTHORIZERS:
        return sizeof(Authorizer)
    elif section == SECTION_EXTENSIONS:
        return sizeof(Extension)
    elif section == SECTION_CHOICES:
        return sizeof(Choice)
    elif section == SECTION_BACKENDS:
        return sizeof(Backend)
    elif section == SECTION_ENDPOINTS:
        return sizeof(Endpoint)
    elif section == SECTION_PREDICATES:
        return sizeof(Predicate)
    return 1

cdef inline uint64_t image_magic() noexcept nogil:
    return 0x6567616D69776721u   # '!gwimage'
