"""The failure table (see fault.pxd)."""
from gwfast.http.head cimport BAD_EXPECTATION, BAD_FIELDS_LARGE, BAD_METHOD, BAD_TARGET_LONG, BAD_VERSION, WHYS

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
        {421, "misdirected"},
        {0, "tls_hello"},
        {0, "tls_handshake"},
        {0, "idle"},
        {502, "upstream_tls"},
        {502, "upstream_tls_name"},
        {502, "upstream_tls_expired"},
        {502, "upstream_tls_untrusted"},
        {504, "request_timeout"},
        {403, "denied"},
        {403, "authorizer_failed"},
        {413, "body_too_large"},
        {500, "extension"},
        {503, "retry_budget"},
        {503, "queue_full"},
        {503, "queue_timeout"},
        {0, "stream_idle"},
        {400, "bad_chunk"},
        {400, "bad_trailer"},
        {0, "upstream_trailers_too_large"},
    };
    static const char *const gwfast_whys[] = {      /* by Why */
        0, "bad_line_end", "bad_method", "bad_target", "bad_version", "bad_header_name", "bad_header_value", "folded_header",
        "bad_host", "missing_host", "duplicate_host", "host_conflict", "bad_content_length", "content_length_conflict",
        "content_length_mismatch", "bad_transfer_encoding", "bad_connection", "bad_pseudo_header", "connection_header",
        "bad_protocol",
    };
    static const struct { unsigned short status; const char *word; } gwfast_phrases[] = {
        {200, "OK"},
        {100, "Continue"},
        {103, "Early Hints"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {0, ""}
    };
    """
    const Row gwfast_faults[]
    const Row gwfast_phrases[]
    const char *const gwfast_whys[]


cdef enum:
    X509_V_OK = 0
    X509_V_ERR_CERT_NOT_YET_VALID = 9
    X509_V_ERR_CERT_HAS_EXPIRED = 10
    X509_V_ERR_HOSTNAME_MISMATCH = 62


cdef int fault_of_tls(long verdict) noexcept nogil:
    if verdict == X509_V_OK:
        return FAULT_UPSTREAM_TLS
    if verdict == X509_V_ERR_HOSTNAME_MISMATCH:
        return FAULT_UPSTREAM_NAME
    if verdict == X509_V_ERR_CERT_NOT_YET_VALID or verdict == X509_V_ERR_CERT_HAS_EXPIRED:
        return FAULT_UPSTREAM_EXPIRED
    return FAULT_UPSTREAM_UNTRUSTED


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


cdef const char *why_word(int why) noexcept nogil:
    return gwfast_whys[why]


cdef const char *reason_phrase(int status) noexcept nogil:
    cdef int i = 0
    while gwfast_phrases[i].status:
        if gwfast_phrases[i].status == status:
            return gwfast_phrases[i].word
        i += 1
    return b""


def table():
    """List the failure table: (word, status) per fault, in the order of the counters."""
    return [(fault_row(i).word.decode(), fault_row(i).status) for i in range(FAULTS)]


def reasons() -> list[str]:
    """List why a request is a bad_request, as the access log says it."""
    return [why_word(why).decode() for why in range(1, WHYS)]
