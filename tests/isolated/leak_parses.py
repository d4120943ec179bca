"""Doors of the pure stages, good input and bad, over and over; tables made of images, asked, and dropped."""
from measure import steady
from support.scripted import one_rule

from gwfast import _match, _pick

from gwfast.engine import proxy_protocol

from gwfast.http import target

from gwfast.http1 import chunked, parser

from gwfast.http2 import hpack, hpack_encoder

import table_inspect as inspect
import table_verify as verify
from gwfast.endpoints.registry import Registry
from gwfast.plan import ir, regex
from gwfast.plan.image import Images

REQUEST = (b"POST /a%2Fb/../c?x=1 HTTP/1.1\r\nHost: a.example\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n"
           b"5;x=y\r\nhello\r\n0\r\nX-T: 1\r\n\r\n")
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"


def matching() -> ir.Plan:
    plan = one_rule([("10.0.0.1", 80)])
    rule = plan.binds[0].listeners[0].hosts[0].entries[0].rule
    entries = tuple(ir.Entry(match=match, rule=rule) for match in (
        ir.Match(path_type="RegularExpression", path="/[a-z]+/[0-9]{2,9}"),
        ir.Match(path="/a", headers=(ir.ValueMatch(name="x-a", regex=True, value="b+"),)), ir.Match(path="/b")))
    listener = ir.Listener(id="d/g/web", hosts=(ir.Host(hostname="*.example", entries=entries),))
    return ir.Plan(binds=(ir.Bind(address="", port=80, listeners=(listener,)),), backends=plan.backends, endpoints=plan.endpoints)


def main() -> None:
    plan, images = matching(), Images(Registry())

    def turn(n: int) -> None:
        for cut in range(len(REQUEST)):
            parser.request_of(REQUEST[:cut])
            parser.request_of(REQUEST[:cut] + b"\0" + REQUEST[cut:])
        chunked.chunks_of(b"5;x=y\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", (1, 2, 9))
        chunked.trailers_of(b"X-T: 1\r\n\r\n")
        parser.response_of(RESPONSE)
        parser.response_of(RESPONSE.replace(b"200", b"2000"))
        decoder, encoder = hpack.Decoder(), hpack_encoder.Encoder()
        for size in (4096, 0, 4096):
            encoder.limit(size)
            block = encoder.encode([(b"x-a", b"b" * 100), (b"cookie", b"a=b"), (b":path", b"/c")])
            decoder.decode(block)
            decoder.decode(block[:-1], left=10)
        proxy_protocol.parse(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n")
        target.normalised(b"/a/../b%41")
        _pick.sequence([1, 5, 100], 50)
        image = images.build(plan, {bind.key: 1 for bind in plan.binds}, n)
        table = _match.Table(image)
        for path in ("/a", "/b/c", "/word/1234", "/none"):
            table.find(1, "GET", path, [("host", "x.example"), ("x-a", "bb")])
        table.spin(1, "GET", ["/a", "/b"], [("host", "x.example")], 100)
        assert verify.verify(image) is None and inspect.rules(image)
        regex.compile.cache_clear()
        regex._utf8_of.cache_clear()
        regex.compile("/(a|b)+c{2,5}[^x]*")
        try:
            _match.Table(b"\0" * 500)
        except ValueError:
            pass

    steady(turn, 1500, warm=300, allocated=64 << 10)


main()
