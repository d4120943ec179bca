# Finds the rule for a request, or for a connection. Pure: reads the image and a head or a name, writes Found.
from libc.stdint cimport uint32_t, uint64_t
from gwfast.http.head cimport RequestHead
from gwfast.table.layout cimport Bind, Image, Listener, Rule

cdef struct Found:
    const Listener *listener
    const Rule *rule
    uint32_t rule_index    # in the image
    uint32_t prefix_len    # bytes of head.match_path that a PathPrefix match covers ('/' alone: 0); else 0
    uint32_t prefix        # 1 where the match was a PathPrefix
    const char *prefix_at  # in the image: that prefix, where prefix_len is not 0

cdef enum:
    FOUND = 0
    NO_RULE = 1            # 404: no listener, no host or no rule
    AMBIGUOUS = 2          # 400: '%2F' read as '/' would lead to another rule
    UNSTATED = 3           # rules of the listener ask what the gateway says of the client: to be asked again once it is stated

cdef int find(const Image *image, const Bind *bind, const RequestHead *head, Found *found) noexcept nogil

# The listener of a connection, by SNI (n == 0: the client sent none) or host, in lower case. NULL: none.
cdef const Listener *find_listener(const Image *image, const Bind *bind, const char *name, uint32_t n) noexcept nogil
# The rule of a connection that is not HTTP: FOUND or NO_RULE; found.listener is set if there is any.
cdef int find_route(const Image *image, const Bind *bind, const char *name, uint32_t n, Found *found) noexcept nogil

# 0 where every section of the image lies within `size` bytes; whoever maps an image calls this first.
cdef int check(const Image *image, uint64_t size) noexcept nogil
# The bind with this id; NULL if the image has none.
cdef const Bind *find_bind(const Image *image, uint32_t id) noexcept nogil
