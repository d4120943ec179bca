"""An authorizer that is asked over HTTP, for the tests of the engine that put one before a route."""
from collections.abc import Callable

import pytest

from gwfast.plan import ir
from support.exchanges import FORWARDED, refused
from support.scripted import one_rule

GET = b"GET /x?q=1 HTTP/1.1\r\nHost: a\r\nAuthorization: me\r\nX-A: 1\r\nX-B: 2\r\nCookie: c\r\n\r\n"
FIELDS = b"Authorization: me\r\nX-A: 1\r\nX-B: 2\r\nCookie: c\r\n" + FORWARDED
SENT = b"GET /x?q=1 HTTP/1.1\r\nHost: a\r\n" + FIELDS + b"\r\n"
ASKED = b"GET /x?q=1 HTTP/1.1\r\nHost: a\r\nAuthorization: me\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
YES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
AUTHORIZER = ir.Backend(namespace="default", name="auth", port=80)
FAILED = refused(b"403 Forbidden")


@pytest.fixture
def begin(start, backend, other) -> Callable:
    """begin(**filter): an engine whose authorizer is `other`."""
    def begin(before=(), after=(), port=None, ports=None, **given):
        one = ir.AuthorizeFilter(backend=AUTHORIZER, **given)

        def plan(addresses) -> ir.Plan:
            made = one_rule(addresses, filters=(*before, one, *after))
            where = tuple(("127.0.0.1", each) for each in (ports if ports is not None else (port or other.port,)))
            return ir.Plan(binds=made.binds, backends=(*made.backends, AUTHORIZER),
                           endpoints=(*made.endpoints, ir.Endpoints(key=AUTHORIZER.key, addresses=where)))
        return start([("127.0.0.1", backend.port)], plan, request_id=False)
    return begin


BODY = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
