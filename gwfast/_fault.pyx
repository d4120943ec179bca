"""The failure table (see _fault.pxd)."""
from gwfast._head cimport (
    BAD_EXPECTATION, BAD_FIELDS_LARGE, BAD_METHOD, BAD_TARGET_LONG, BAD_VERSION,
)

cdef extern from * nogil:
    """
    static const struct { unsigned short status; const char *word; } gwfast_faults[] = {
        {200, "-"},
        {400, "bad_request"},
        {414, "target_too_long"},
        {431, "fields_too_large"},
        {505, "version"},
        {405, "method"},
        {417, "expectation"},
        {408, "head_timeout"},
        {408, "body_timeout"},
        {400, "bad_body"},
        {0, "client_gone"},
        {0, "send_timeout"},
        {404, "no_route"},
        {400, "ambiguous_path"},
        {500, "invalid_backend"},
        {500, "filter"},
        {503, "no_endpoint"},
        {503, "connect_failed"},
        {503, "connect_timeout"},
        {502, "upstream_reset"},
        {502, "upstream_malformed"},
        {504, "upstream_timeout"},
        {0, "upstream_cut"},
        {0, "proxy_header"},
        {500, "internal"},
        {503, "draining"},
    };
    """
    const Row gwfast_faults[]


cdef const Row *fault_row(int fault) noexcept nogil:
    return &(<const Row *>gwfast_faults)[fault]


cdef int fault_of_parse(int result) noexcept nogil:
    if result == BAD_TARGET_LONG:
        return FAULT_TARGET_LONG
    if result == BAD_FIELDS_LARGE:
        return FAULT_FIELDS_LARGE
    if result == BAD_VERSION:
        return FAULT_VERSION
    if result == BAD_METHOD:
        return FAULT_METHOD
    if result == BAD_EXPECTATION:
        return FAULT_EXPECTATION
    return FAULT_BAD_REQUEST


cdef const char *reason_phrase(int status) noexcept nogil:
    if status == 301: return b"Moved Permanently"
    if status == 302: return b"Found"
    if status == 303: return b"See Other"
    if status == 307: return b"Temporary Redirect"
    if status == 308: return b"Permanent Redirect"
    if status == 400: return b"Bad Request"
    if status == 404: return b"Not Found"
    if status == 405: return b"Method Not Allowed"
    if status == 408: return b"Request Timeout"
    if status == 413: return b"Content Too Large"
    if status == 414: return b"URI Too Long"
    if status == 417: return b"Expectation Failed"
    if status == 431: return b"Request Header Fields Too Large"
    if status == 500: return b"Internal Server Error"
    if status == 501: return b"Not Implemented"
    if status == 502: return b"Bad Gateway"
    if status == 503: return b"Service Unavailable"
    if status == 504: return b"Gateway Timeout"
    if status == 505: return b"HTTP Version Not Supported"
    return b""


def table():
    """List the failure table: (word, status) per fault, in the order of the counters."""
    return [(fault_row(i).word.decode(), fault_row(i).status) for i in range(FAULTS)]
