"""What the access log says of an exchange (see access_record.pxd)."""
from libc.stdint cimport uint32_t
from libc.string cimport memset

from gwfast.engine.access_log cimport Record, say_tls
from gwfast.engine.loop cimport append
from gwfast.exchange.exchange cimport FACTS, Exchange
from gwfast.http.fault cimport fault_row
from gwfast.http.head cimport FIELD_REFERER, FIELD_USER_AGENT, FIELD_X_REQUEST_ID, RequestHead, Slice
from gwfast.http.header_writer cimport Out, put_id
from gwfast.table.layout cimport Image, text

cdef enum:
    LOGGED = 2048          # limits.LOGGED_BYTES


cdef void keep_facts(Exchange exchange, const RequestHead *head) noexcept:
    cdef Slice parts[FACTS]
    cdef uint32_t i
    memset(parts, 0, sizeof(parts))
    parts[0] = head.method
    parts[1] = head.target
    parts[2] = head.authority
    for i in range(head.count):
        if head.fields[i].id == FIELD_USER_AGENT:
            parts[3].at = head.fields[i].value
            parts[3].n = min(head.fields[i].value_len, <uint32_t>LOGGED)
        elif head.fields[i].id == FIELD_REFERER:
            parts[4].at = head.fields[i].value
            parts[4].n = min(head.fields[i].value_len, <uint32_t>LOGGED)
        elif head.fields[i].id == FIELD_X_REQUEST_ID and exchange.client.trusted:
            parts[5].at = head.fields[i].value
            parts[5].n = min(head.fields[i].value_len, <uint32_t>LOGGED)
    for i in range(FACTS):
        exchange.facts_n[i] = 0
        if append(&exchange.gateway.loop.pool, &exchange.facts, parts[i].at, parts[i].n) == 0:
            exchange.facts_n[i] = parts[i].n


cdef void log_exchange(Exchange exchange) noexcept:
    cdef Record record
    cdef const Image *image = exchange.table.image
    cdef Slice *parts[FACTS]
    cdef uint32_t i, at = 0
    cdef char id[36]
    cdef Out out
    memset(&record, 0, sizeof(record))
    parts[0] = &record.method
    parts[1] = &record.target
    parts[2] = &record.host
    parts[3] = &record.agent
    parts[4] = &record.referer
    parts[5] = &record.request_id
    for i in range(FACTS):
        parts[i].at = exchange.facts.base + at
        parts[i].n = exchange.facts_n[i]
        at += exchange.facts_n[i]
    if exchange.id[0] and record.request_id.n == 0:
        out.at = id
        out.end = id + sizeof(id)
        out.full = False
        put_id(&out, exchange.id)
        record.request_id.at = id
        record.request_id.n = sizeof(id)
    record.client = exchange.client_address()
    say_tls(&record, exchange.client.session())
    record.minor = exchange.minor
    record.status = exchange.status
    record.flags = fault_row(exchange.fault).word
    record.attempts = exchange.tried
    record.bytes_in = exchange.bytes_in
    record.bytes_out = exchange.bytes_out
    record.duration_us = exchange.gateway.loop.now_us - exchange.started_us
    record.upstream_us = exchange.replied_us - exchange.started_us if exchange.replied_us else 0
    if exchange.listener != NULL:
        record.listener.at = text(image, exchange.listener.id)
        record.listener.n = exchange.listener.id.n
    if exchange.rule != NULL:
        record.route.at = text(image, exchange.rule.route)
        record.route.n = exchange.rule.route.n
        record.rule = exchange.rule.rule_index
    if exchange.backend != NULL:
        record.backend.at = text(exchange.image, exchange.backend.name)
        record.backend.n = exchange.backend.name.n
    if exchange.state != NULL:
        record.endpoint.at = exchange.state.name
        record.endpoint.n = exchange.state.name_n
    exchange.gateway.log.line(&record)
