"""Every number that bounds something, and why it is what it is.

Times are seconds, sizes are bytes. The engine reads these once when it starts or has them as constants (a test
holds the two together); nothing here is tuned per site unless the command line says so.
"""

# Request heads. nginx: 4 x 8 KiB, 8 KiB a line; HAProxy: 15 KiB, 101 fields; Envoy: 60 KiB, 100 fields.
# One limit for both versions and both directions: what comes over HTTP/2 is measured as it would be written in HTTP/1.1, the
# crumbs of a cookie as the one field that they are (RFC 9113 8.2.3). 502 for responses.
HEAD_BYTES = 32 * 1024  # 431; --max-header-bytes; SETTINGS_MAX_HEADER_LIST_SIZE, as which a field counts 28 bytes more
FIELD_BYTES = 16 * 1024  # 414 for the request line, 431 for a field line; --max-field-bytes
FIELD_COUNT = 200  # 431; --max-fields
HEAD_BYTES_MOST = 256 * 1024  # that may be asked for: Kerberos tickets have up to 64 KiB (Windows: 48,000 bytes and base64)
FIELD_BYTES_MOST = 64 * 1024
FIELD_COUNT_MOST = 1000  # nginx: 1000
HEAD_BYTES_LEAST = 4 * 1024  # below that browsers are refused
FIELD_BYTES_LEAST = 1024
FIELD_COUNT_LEAST = 32
LOGGED_BYTES = 2048  # of User-Agent, Referer and X-Request-ID in the log: a line must fit into what is written at once
UNION_PATTERNS = 1024  # regular expressions on paths that are tried at once: so many bits are kept for what matches
UNION_STATES = 16_384  # of their automaton: some 2 MiB, as much as a processor keeps near itself
UNION_GROWTH = 4  # states for each byte that is written in them; more is a product, which is split. Bounds the image
UNION_WORK = 20_000_000  # positions looked at to make it: some 0.2 s
QUERY_PARAMETERS = 256  # that matches look at; those behind are forwarded but match nothing (PHP: 1000)
CHUNK_EXTENSION_BYTES = 256  # of one chunk: extensions are dropped, nobody needs long ones
INFORMATIONAL_RESPONSES = 16  # 1xx before the final response; then 502

# HTTP/2. A field list is counted while it is decoded, so that a few bytes that name a large entry again and again (an "HPACK
# bomb") end there: 431, 502 of a backend; after twice what a field block may have as it arrives the connection ends:
# ENHANCE_YOUR_CALM.
HEADER_TABLE_BYTES = 4096  # SETTINGS_HEADER_TABLE_SIZE, both directions; the RFC's default (nginx, HAProxy, Envoy: 4096)

FRAME_BYTES = 16 * 1024  # of a frame's payload, SETTINGS_MAX_FRAME_SIZE: the least that may be said (nginx, HAProxy: the same)
FIELD_BLOCK_BYTES = 64 * 1024  # of one field block as it arrives, its CONTINUATIONs together, or
FIELD_BLOCK_HEADS = 4  # times what a head may have, so that what is only too large is 431 and not the end of all streams
STREAMS = 100  # SETTINGS_MAX_CONCURRENT_STREAMS (HAProxy, Envoy: 100; nginx: 128); those beyond are refused
STREAM_WINDOW = 64 * 1024  # that one side may send before the other took it (nginx: 64 KiB)
CONNECTION_WINDOW = 1024 * 1024  # the same of all streams together
# What a client may make us do at once, and each second; more ends the connection: ENHANCE_YOUR_CALM.
STREAM_RESETS = 1000  # streams that it cancels at once, and those that it makes us reset (nghttp2: 1000, 33 a second);
STREAM_RESETS_PER_SECOND = 33  # a response that a backend began earns one (Envoy: half of the streams of a connection)
STREAM_RESET_AGE = 0.05  # an older stream, or one whose response has begun, may be cancelled (Envoy: 1 s): as dear as one served
GLITCHES = 1000  # frames that carry nothing or want an answer: empty DATA, PRIORITY, unknown types, SETTINGS, PING,
GLITCHES_PER_SECOND = 100  # RST_STREAM of what has ended; DATA with payload earns one: grpc-go and Java measure with a PING
GLITCHES_PER_STREAM = 4  # that each stream earns, and as many WINDOW_UPDATEs (Envoy: 100 PRIORITY, 2 WINDOW_UPDATEs)
UNSENT_ANSWERS = 1000  # to SETTINGS and PING of a backend that does not read them; more ends the connection
WINDOW_UPDATES = 8000  # beyond those that are earned
WINDOW_UPDATES_PER_DATA = 10  # frame that was sent (Envoy: 10): Go's net/http sends one for 4 KiB that were read, twice
CONTINUATIONS = 8  # of one field block (nghttp2: 8), more for larger heads; one more ends the connection: ENHANCE_YOUR_CALM

PROXY_HEADER_BYTES = 4096  # of the PROXY protocol before a connection, its TLVs included (nginx: 4096)

# TLS. nginx and HAProxy have 16 KiB for a ClientHello as well; one with post-quantum key shares has 2 KiB.
HELLO_BYTES = 16 * 1024  # of a ClientHello on the wire: until it is read nobody knows whose it is; or of a line of HTTP
HANDSHAKE_TIMEOUT = 10.0  # absolute, from accept to the end of the handshake (nginx: 60 s)
HANDSHAKE_LINES = 10  # in the log, of handshakes that failed, each second and worker (nginx: every one, at info)
KEY_UPDATES = 256  # answered on one connection (RFC 8446 4.6.3): a client may send them faster than it reads
CLIENT_CERT_BYTES = 2048  # of X-Forwarded-Client-Cert: beyond that, names are left out and the hash says which it is
RECORD_BYTES = 16 * 1024  # of plain text in one record: the most that there is (RFC 8446 5.1)

# Time, downstream. nginx: 60 s for a head, 75 s idle; Envoy: unset, 1 h.
HEAD_TIMEOUT = 10.0  # absolute, from its first byte (or from accept) to the end of the head; 408
BODY_TIMEOUT = 30.0  # between two reads of a request body, until its response has begun; 408
SEND_TIMEOUT = 30.0  # a client that takes none of its response; connection aborted
IDLE_TIMEOUT = 60.0  # keep-alive without a request
IDLE_TIMEOUT_PRESSED = 5.0  # the same while connections are near their limit
IDLE_REST = 1.0  # after which an idle connection over TLS gives its buffers back: sooner, and busy ones would make them anew
TABLE_BLOCK_BYTES = 16 * 1024  # both tables of an HTTP/2 connection that is not idle
TABLE_BLOCKS_KEPT = 64  # of those that came free, with their memory; what is more goes back to the system
KEEPALIVE_REQUESTS = 10_000
KEEPALIVE_AGE = 3600.0
BODY_MINIMUM_RATE = 240  # bytes per second over BODY_TIMEOUT windows, against slow trickles, until its response has begun
# A client that ends its direction while it waits for an answer or listens to one has gone (nginx: always, 499), unless that comes
# so soon behind its request that it may only mean that nothing more will be asked: then it is looked at once more.
HALF_CLOSE_SOON = 0.1
HALF_CLOSE_TIMEOUT = 1.0  # for an answer, or some of it, to be taken
LINGER_TIMEOUT = 2.0  # a closed connection still reads this long, so that its answer is not lost to an RST
TUNNEL_IDLE_TIMEOUT = 3600.0  # upgraded connections without traffic

# Time, upstream.
CONNECT_TIMEOUT = 5.0  # 503 after the last endpoint
RESPONSE_TIMEOUT = 60.0  # from the end of the request to the response's head; 504 (nginx: 60 s)
# A request whose response has begun, without a byte either way; cut. Servers of events speak every 15 to 30 s (the HTML standard
# advises 15), gRPC's keepalive every 5 min at most; Envoy and Contour: 5 min; nginx: 60 s between two reads of a response.
STREAM_IDLE_TIMEOUT = 300.0
AUTHORIZATION_BODY_BYTES = 16 * 1024 * 1024  # of a request that an authorizer is shown; kept until it answered (as maxBody)
RETRY_ATTEMPTS = 2  # where a rule asks for retries and does not say how many (Envoy Gateway)
RETRY_BACKOFF = 0.025  # and how long to wait (Envoy); twice as long each time, up to RETRY_BACKOFF_GROWTH times
RETRY_BACKOFF_GROWTH = 10  # as Envoy
RETRY_BODY_BYTES = 64 * 1024  # of a request that is kept to be sent again (retries, refusals of HTTP/2); a longer one is not
REFUSALS = 2  # of one request (GOAWAY, REFUSED_STREAM, a connection that ends): CONNECT_ATTEMPTS in all, then 502
RETRY_BUDGET = 20  # percent of a backend's requests that may be retries, in RETRY_BUDGET_INTERVAL (GEP-3388, Envoy, Linkerd)
RETRY_BUDGET_INTERVAL = 10.0
RETRY_BUDGET_RATE = 10  # retries a second that may be in any case
SESSION_TOKENS = 8  # that are looked at in a request, and kept in a cookie: one for each rule that shares its name
SESSION_KEY_BYTES = 32  # that the file with the key of sessions has at least
CONNECT_ATTEMPTS = 3  # endpoints tried before a request fails, where no connection can be made or those that were made end
HEALTH_SLOTS = 262_144  # endpoints that can be ejected: 64 bytes of address space each, memory only for those that are watched
PROBES = 512  # of endpoints at a time, by the gateway as a whole: those that hang do not keep the others from being asked
PROBE_BYTES = 64 * 1024  # of an answer to a probe; of a longer one the beginning is read (kubelet: 10 KiB)
EJECTION_MOST = 300.0  # an ejection lasts no longer, however often it happened (Envoy: 300 s)
POOL_SIZE = 256  # idle connections kept per endpoint and worker
POOL_IDLE = 30.0  # below the usual server's idle limit (60 s), so that stale connections are rare
POOL_AGE = 600.0
POOL_REQUESTS = 100_000

# TLS.
TLS_CONTEXTS = 1024  # of certificates in use that a worker keeps, some 20 KiB each; others are read again when asked for
TLS_AUTHORITIES = 64  # sets of authorities that a worker keeps apart from contexts; those of the system are 0.8 MiB
ROUTES_SHOWN = 1024  # in /metrics, an option: some 30 series each, and 240 bytes of each worker; those beyond share a row
ROUTES_SHOWN_MOST = 100_000  # 3 million series: no Prometheus takes more from one target
BACKENDS_SHOWN = 1000  # in /metrics, those beyond share a row; in /status and the log, of those whose endpoints a policy watches
FILTERS_SHOWN = 1000  # in /metrics, filters in Python, by when they were first loaded; the last row is of all others
CERTIFICATES_SHOWN = 1000  # in /metrics, those that expire first: a series for each is more than a Prometheus wants

# Connections and datagrams that are passed on as they are.
RELAY_BYTES = 64 * 1024  # of one read or splice; 32 KiB: some 10 % more calls for a bulk transfer
TCP_IDLE_TIMEOUT = 3600.0  # without a byte either way; as long as an upgraded connection (Envoy: 1 h; nginx: 10 min)
UDP_IDLE_TIMEOUT = 30.0  # without a datagram either way (nginx: 10 min; Envoy: 1 min; DNS needs seconds)
UDP_SESSIONS = 16_384  # in one worker and on one port: each has a descriptor

# Mirrors: copies of requests that nobody waits for.
MIRROR_BYTES = 64 * 1024  # of a body that a mirror has not taken yet; beyond that its copy is dropped, the client's goes on
MIRROR_CALLS = 256  # at once from one worker to one endpoint: one that hangs costs no more connections (Envoy: 1024)
MIRROR_TIMEOUT = 10.0  # from the end of the request to the end of its response, which nobody reads

# Authorizers (ExternalAuth).
AUTHORIZATION_HEADERS = 100  # that an answer over gRPC may change; beyond that it is 403
AUTHORIZATION_TIMEOUT = 5.0  # from the question to the end of the answer, then 403 (Envoy: 0.2 s, its Gateway: 10 s)

# Memory. One buffer per direction and connection, no disk. nginx: 8 x 8 KiB and disk; HAProxy: 16 KiB.
BUFFER_BYTES = 32 * 1024
CONNECTIONS = 0  # 0: half of the limit on open files
DRAIN_TIMEOUT = 30.0
DRAIN_IDLE = 1.0  # an idle connection gets this long before it is closed in a drain

# The control plane. Logs never wait for who reads them (Docker's non-blocking mode keeps 1 MiB; nginx and HAProxy wait or drop).
LOG_BYTES = 256 * 1024  # of a process's own lines that nobody has taken yet; what strangers cause has a quarter of it
LOG_LAST = 1.0  # for the last lines before a process ends
# Workers whose event loop does not turn. Envoy's watchdog: 1 s is a megamiss; gunicorn kills after 30 s, HAProxy after 1 to 2.
WORKER_SILENT = 1.0  # then it is told, and others get the connections that wait for it
WORKER_TIMEOUT = 10.0  # then it is killed and replaced: its requests have waited for so long
WORKER_LOADING = 60.0  # the same while it loads a filter in Python: an import may take its time
FILTER_CHECKED = 10.0  # that `gwfast check` waits for a filter to be loaded
WORKER_SILENT_DRAIN = 3.0  # the same once the gateway ends and nobody else is left
WORKERS_PER_CPU = 16  # more is a mistake (nginx: 1024 at most, whatever the machine); WORKERS_LEAST are always allowed
WORKERS_LEAST = 64
FILES_LEAST = 96  # the limit on open files that a gateway needs, for each of its processes, and
FILES_PER_WORKER = 8  # the supervisor for each worker: its sockets among them
FILES_FEW = 1024  # below that it is told: the usual soft limit, and half of it are clients
TIME_MOST = 10 * 365 * 86400.0  # of an option: 0 is what means none
NUMBER_MOST = 2**31 - 1  # of an option
KEY_FILE_BYTES = 64 * 1024  # of a key file: what is larger is none
UPGRADE_TIMEOUT = 60.0  # for a new program to serve in the place of this one: what a start of the largest tables takes, and some
ABORT_TIMEOUT = 1.0  # for workers to end that were told to do so at once
TOLD_WAITING = 100  # messages that a worker keeps for a supervisor that does not take them; what is more is counted

# The API server of a cluster. client-go's numbers where it has them.
API_CONNECTIONS = 8  # of requests; a watch has one of its own (client-go: 5 requests a second, 10 at once)
API_CONNECT_TIMEOUT = 10.0  # to a connection, TLS and a proxy's answer included (client-go: 30 s, and 10 s for TLS)
API_TIMEOUT = 30.0  # of a request with all its waits, and of the head that a watch begins with
API_IDLE = 60.0  # of a connection without a request: below the API server's 90 s (Go: 90 s)
API_SILENT = 150.0  # of a watch: a bookmark comes about once a minute, where the API server has a watch cache
API_ANSWER_BYTES = 64 * 1024 * 1024  # of one answer: a page of 500 objects has some 2 MiB; objects of 1.5 MiB need smaller pages
API_LINE_BYTES = 8 * 1024 * 1024  # of one event: etcd takes 1.5 MiB, and what binary is in it may be longer as JSON
API_PAGE = 500  # objects in an answer to a list (client-go, kubectl: 500)
API_WATCH_SECONDS = 300  # after which the API server ends a watch, up to twice of it by chance: not all at once (client-go)
API_BACKOFF = 0.2  # before what failed is tried again; twice as long each time, half of it by chance (client-go: 0.8 s)
API_BACKOFF_MOST = 30.0  # as client-go
API_RETRIES = 10  # of one request, where the API server asks for patience (client-go: 10)
API_TOKEN_AGE = 60.0  # after which files with tokens and certificates are read again: the kubelet renews them (client-go: 60 s)
API_PLUGIN_TIMEOUT = 60.0  # of a program that gives credentials: it may ask a server of its own

# Configuration text. Kubernetes refuses objects above 1.5 MiB (etcd) and aliases that outgrow their document.
DOCUMENT_DEPTH = 100  # a Gateway API resource needs 12
ALIAS_NODES = 100_000  # that aliases may add to a YAML document, against "billion laughs"
NUMBER_DIGITS = 400  # a longer plain scalar is a string; int() takes time in proportion to the square
CONFIG_FILE_BYTES = 1 << 30  # a larger file in a folder is a mistake
PEM_FILE_BYTES = 1 << 20  # as a Secret of Kubernetes has at most
PROBLEMS_PER_RESOURCE = 32

# The stream from a controller to its data planes.
STREAM_HEAD_BYTES = 32 * 1024  # of a request: most of it is the token
STREAM_CONNECTIONS = 8192  # data planes; each has some 100 KiB
STREAM_STRANGERS = 256  # connections that have not shown a good token yet, from accept on: some 300 KiB each, with the kernel's
STREAM_STRANGERS_OF_ONE = 64  # of them from one address: who comes takes the oldest one's place
STREAM_COMES = 100  # connections from one address at once, and
STREAM_COMES_PER_SECOND = 20.0  # a handshake is about a millisecond: 2 % of a core for who does nothing else
STREAM_SPARE = 32  # streams of a fleet, and
STREAM_PER_REPLICA = 4  # for each replica: Pods that roll, and connections that nobody has noticed to be dead
STREAM_REPLICAS = 250  # of a fleet of which nobody knows how many it has
STREAM_PING = 10.0  # without anything else to say, both ways
STREAM_SILENT = 35.0  # three of them, and a little: the other side has gone (Envoy's xDS: TCP keepalive, minutes)
STREAM_SEND_TIMEOUT = 30.0  # for a side that takes nothing
STREAM_AGE = 1800.0  # until a token has to be shown again (they last an hour, and kubelet renews them after 48 min)
STREAM_LINE_BYTES = 4 * 1024 * 1024  # of one line: an object has 1.5 MiB at most, a Secret's base64 included
STREAM_PROBLEMS = 100  # of one data plane that are kept
STREAM_PROBLEM_CHARS = 400  # of the words of each: all of them fit into
STREAM_SAID_BYTES = 256 * 1024  # of one line of a data plane
STREAM_BACKOFF = 0.1  # seconds until a data plane tries again, twice as long each time, up to
STREAM_BACKOFF_MOST = 5.0
STREAM_LINGER = 8.0  # seconds that a data plane counts for what it served after its stream has ended: it comes back
STREAM_FIRST = 1.0  # that a start waits for the controller, until it begins with what was kept

# Objects that a controller makes of what tenants ask for.
FREE_FORM_DEPTH = 32  # of a value in GatewayParameters that is Kubernetes' own: a Pod's affinity needs 10; Python fails at 1000
TARGETS_PER_NAMESPACE = 5000  # target ports of shared data planes, each transport's: a quarter, so that others have some too
PORTS_RECORD_BYTES = 1_000_000  # of the record of a fleet's target ports, a quarter for one namespace: a ConfigMap may have 1 MiB
