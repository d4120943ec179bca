"""The failure table (see fault.pxd). What stands behind a row is what docs/ says of its word."""
from libc.stdint cimport uint16_t

from gwfast.http.head cimport BAD_EXPECTATION, BAD_FIELDS_LARGE, BAD_METHOD, BAD_TARGET_LONG, BAD_VERSION, WHYS

cdef extern from * nogil:
    """
    enum { NOBODY, CLIENT, CONFIGURATION, UPSTREAM, GATEWAY };      /* by Side */
    enum { NEVER, BY_STATUS, UNANSWERED };                          /* by Retried */
    static const struct { unsigned short status; unsigned char side, retried; const char *word; } gwfast_faults[] = {
        {200, NOBODY, NEVER, "-"},                  /* Nothing went wrong. */
        {400, CLIENT, NEVER, "bad_request"},        /* The request is not valid HTTP; `reason` says why. */
        {414, CLIENT, NEVER, "target_too_long"},    /* The request line is longer than `--max-field-bytes`. */
        {431, CLIENT, NEVER, "fields_too_large"},   /* The head is beyond `--max-header-bytes`, `--max-fields` and the like. */
        {505, CLIENT, NEVER, "version"},            /* The version of HTTP is not served. */
        {405, CLIENT, NEVER, "method"},             /* The method is not served, as CONNECT is not. */
        {417, CLIENT, NEVER, "expectation"},        /* The request has an Expect field that is not `100-continue`. */
        {408, CLIENT, NEVER, "head_timeout"},       /* The head was not whole within `--head-timeout`. */
        {408, CLIENT, NEVER, "body_timeout"},       /* The next part of the body did not come within `--body-timeout`. */
        {400, CLIENT, NEVER, "bad_body"},           /* The body has another length than the head says. */
        {0, CLIENT, NEVER, "client_gone"},          /* The client went away before it had its response. */
        {0, CLIENT, NEVER, "send_timeout"},         /* The client took nothing for `--send-timeout`. */
        {404, CLIENT, NEVER, "no_route"},           /* No rule matches the request. */
        {400, CLIENT, NEVER, "ambiguous_path"},     /* The path leads to another rule when %2F is read as a slash. */
        {500, CONFIGURATION, NEVER, "invalid_backend"}, /* The rule has no backend that is valid: a reference does not resolve. */
        {500, CONFIGURATION, NEVER, "filter"},      /* A filter of the rule cannot be carried out. */
        {503, CONFIGURATION, NEVER, "no_endpoint"}, /* The backend has no endpoint. */
        {503, UPSTREAM, UNANSWERED, "connect_failed"}, /* No endpoint of the backend could be connected to. */
        {503, UPSTREAM, UNANSWERED, "connect_timeout"}, /* No connection to the backend was open within `--connect-timeout`. */
        {502, UPSTREAM, UNANSWERED, "upstream_reset"}, /* The backend closed the connection before its response began. */
        {502, UPSTREAM, BY_STATUS, "upstream_malformed"}, /* The response is not valid HTTP, or its head is too large. */
        {504, UPSTREAM, BY_STATUS, "upstream_timeout"}, /* The response of the backend did not begin in time. */
        {0, UPSTREAM, NEVER, "upstream_cut"},       /* The response of the backend ended before it was whole. */
        {0, CLIENT, NEVER, "proxy_header"},         /* The connection does not begin with a header of the PROXY protocol. */
        {500, GATEWAY, NEVER, "internal"},          /* A bug of gwfast ended the request. */
        {503, GATEWAY, NEVER, "draining"},          /* The gateway ends, and took no more requests. */
        {421, CLIENT, NEVER, "misdirected"},        /* The host belongs to another listener than the connection's TLS. */
        {0, CLIENT, NEVER, "tls_hello"},          /* The connection did not begin with a ClientHello that a listener can take. */
        {0, CLIENT, NEVER, "tls_handshake"},        /* The TLS handshake with the client failed. */
        {0, CLIENT, NEVER, "idle"},                 /* The connection was idle for too long. */
        {502, UPSTREAM, UNANSWERED, "upstream_tls"}, /* The TLS handshake with the backend failed. */
        {502, UPSTREAM, UNANSWERED, "upstream_tls_name"}, /* The backend's certificate has another name than is asked for. */
        {502, UPSTREAM, UNANSWERED, "upstream_tls_expired"}, /* The backend's certificate has expired, or is not valid yet. */
        {502, UPSTREAM, UNANSWERED, "upstream_tls_untrusted"}, /* No authority that is trusted signed the certificate. */
        {504, GATEWAY, NEVER, "request_timeout"},   /* The request took longer than `timeouts.request` of its rule. */
        {403, CLIENT, NEVER, "denied"},             /* An authorizer denied the request. */
        {403, GATEWAY, NEVER, "authorizer_failed"}, /* The authorizer could not be asked, or its answer could not be used. */
        {413, CLIENT, NEVER, "body_too_large"},     /* The body is larger than an authorizer or a filter in Python may read. */
        {500, GATEWAY, NEVER, "extension"},         /* A filter in Python failed. */
        {503, GATEWAY, NEVER, "retry_budget"},    /* The request was not tried again: the budget of retries was used up. */
        {503, GATEWAY, NEVER, "queue_full"},        /* Too many requests wait for an endpoint of the backend already. */
        {503, GATEWAY, NEVER, "queue_timeout"},     /* No endpoint took the request within `pendingTimeout`. */
        {0, GATEWAY, NEVER, "stream_idle"},         /* The response had begun, and no byte moved for `--stream-idle-timeout`. */
        {400, CLIENT, NEVER, "bad_chunk"},          /* A chunk of the request's body is not valid. */
        {400, CLIENT, NEVER, "bad_trailer"},        /* The trailers of the request are not valid. */
        {0, UPSTREAM, NEVER, "upstream_trailers_too_large"}, /* The trailers of the backend are larger than a head may be. */
    };
    enum { GW_FAULT_ROWS = sizeof(gwfast_faults) / sizeof(gwfast_faults[0]) };
    #define gw_static_assert(holds) _Static_assert(holds, #holds)
    static const char *const gwfast_whys[] = {      /* by Why */
        0, "bad_line_end", "bad_method", "bad_target", "bad_version", "bad_header_name", "bad_header_value", "folded_header",
        "bad_host", "missing_host", "duplicate_host", "host_conflict", "bad_content_length", "content_length_conflict",
        "content_length_mismatch", "bad_transfer_encoding", "bad_connection", "bad_pseudo_header", "connection_header",
        "bad_protocol",
    };
    struct ReasonPhrase { unsigned short status; const char *word; };
    static const struct ReasonPhrase gwfast_phrases[] = {
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
    struct ReasonPhrase:
        uint16_t status
        const char *word
    const FaultRow gwfast_faults[]
    const ReasonPhrase gwfast_phrases[]
    const char *const gwfast_whys[]
    enum:
        GW_FAULT_ROWS
        GATEWAY
        UNANSWERED
    void gw_static_assert(bint holds)


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


cdef const FaultRow *fault_row(int fault) noexcept nogil:
    gw_static_assert(FAULTS == GW_FAULT_ROWS)
    gw_static_assert(<int>SIDE_GATEWAY == GATEWAY)
    gw_static_assert(<int>RETRIED_UNANSWERED == UNANSWERED)
    return &(<const FaultRow *>gwfast_faults)[fault]


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


def table() -> list[tuple[str, int, str, str]]:
    """List the failure table, in the order of the counters: (word, status, side, retried) of each fault."""
    sides = "nobody", "client", "configuration", "upstream", "gateway"
    retried = "never", "by status", "unanswered"
    return [(fault_row(i).word.decode(), fault_row(i).status, sides[fault_row(i).side], retried[fault_row(i).retried])
            for i in range(FAULTS)]


def reasons() -> list[str]:
    """List why a request is a bad_request, as the access log says it."""
    return [why_word(why).decode() for why in range(1, WHYS)]
