# Targets and authorities (RFC 3986, RFC 9112 3.2), for every version of HTTP. Pure: slices in, slices out.
from libc.stdint cimport uint32_t
from gwfast.http.head cimport RequestHead, Slice

# How many bytes from `at` can be a request target (what follows is the caller's to judge), or BAD_REQUEST.
# Sets target, path, query, absolute and (absolute-form) authority of the head, as received.
cdef int scan_target(const char *at, uint32_t n, RequestHead *head) noexcept nogil

# Judges a scanned target as a whole and sets match_path, slash_path and (absolute-form) host. 0 or BAD_REQUEST.
cdef int resolve_target(RequestHead *head) noexcept nogil

# host [":" port] into lower case without a trailing dot (`room` has MAX_HOST bytes); port 0: none is given. An IPv6
# literal keeps its brackets. 0 or BAD_REQUEST.
cdef int parse_authority(const Slice *authority, char *room, uint32_t *host_n, uint32_t *port) noexcept nogil

# A Host field beside what the target said. 0 or BAD_REQUEST.
cdef int resolve_host(const Slice *value, RequestHead *head) noexcept nogil

# Writes the normalised path to `room` (at least n bytes); `slashes` reads %2F as '/'. Its length, or BAD_REQUEST. `encoded`
# is set where there is a %2F.
cdef int normalise(const char *path, uint32_t n, char *room, bint slashes, bint *encoded) noexcept nogil
