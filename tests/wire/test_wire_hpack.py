"""Field blocks of HTTP/2: RFC 7541's own examples, every static entry, and the corners of integers, strings and tables.

Every block is read at a guard page, whole and cut at every byte, and must come to the same.
"""
import pytest
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from gwfast import limits
from gwfast.http2.hpack import Decoder
from gwfast.http2.hpack_encoder import Encoder
from gwfast.http1.parser import request_of

OK, LARGE, MORE, BAD, CALM = 0, 1, 2, -1, -2
UNDERSCORE, NEVER, BAD_NAME, BAD_VALUE = 2, 4, 8, 16
OTHER = 64


def whole(guard, decoder, data, **limits):
    """Read a block at once: (result, fields)."""
    decoder.begin(**limits)
    result, used = decoder.part_at(guard.at(data), len(data))
    assert used <= len(data) and (used == len(data) or result < 0)
    return result, decoder.fields


def in_parts(guard, decoder, data, size, **limits):
    """The same in parts; what a part leaves over comes again with the next one."""
    decoder.begin(**limits)
    rest = b""
    for i in range(0, len(data), size):
        rest += data[i:i + size]
        result, used = decoder.part_at(guard.at(rest), len(rest), False)
        if result < 0:
            return result, decoder.fields
        assert result == MORE
        rest = rest[used:]
    return decoder.part_at(guard.at(rest), len(rest))[0], decoder.fields


def read(guard, blocks, most=4096, **limits):
    """Read blocks one after the other, however they are cut: (last result, its fields, decoder)."""
    decoder = Decoder(most)
    for data in blocks:
        result, fields = whole(guard, decoder, data, **limits)
    for size in (1, 2, 7):
        other = Decoder(most)
        for data in blocks:
            again = in_parts(guard, other, data, size, **limits)
        assert again[0] == result
        assert result < 0 or again[1] == fields
        assert result < 0 or (other.entries, other.size) == (decoder.entries, decoder.size)
    return result, fields, decoder


def pairs(fields):
    return [field[:2] for field in fields]


def listed(text):
    return [tuple(line.strip().encode().split(b": ", 1)) for line in text.strip().splitlines()]


GET = """:method: GET
    :scheme: http
    :path: /
    :authority: www.example.com"""
GET_2 = GET + "\ncache-control: no-cache"
GET_3 = """:method: GET
    :scheme: https
    :path: /index.html
    :authority: www.example.com
    custom-key: custom-value"""
REQUEST_TABLES = [
    (57, ":authority: www.example.com"),
    (110, "cache-control: no-cache\n:authority: www.example.com"),
    (164, "custom-key: custom-value\ncache-control: no-cache\n:authority: www.example.com")]
FOUND = """:status: 302
    cache-control: private
    date: Mon, 21 Oct 2013 20:13:21 GMT
    location: https://www.example.com"""
FOUND_2 = FOUND.replace("302", "307")
FOUND_3 = """:status: 200
    cache-control: private
    date: Mon, 21 Oct 2013 20:13:22 GMT
    location: https://www.example.com
    content-encoding: gzip
    set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"""
RESPONSE_TABLES = [
    (222, """location: https://www.example.com
        date: Mon, 21 Oct 2013 20:13:21 GMT
        cache-control: private
        :status: 302"""),
    (222, """:status: 307
        location: https://www.example.com
        date: Mon, 21 Oct 2013 20:13:21 GMT
        cache-control: private"""),
    (215, """set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1
        content-encoding: gzip
        date: Mon, 21 Oct 2013 20:13:22 GMT""")]

# RFC 7541 Appendix C: table size, blocks, their fields, the table behind each.
EXAMPLES = {
    "C.2.1": (4096, ["400a637573746f6d2d6b65790d637573746f6d2d686561646572"], ["custom-key: custom-header"],
              [(55, "custom-key: custom-header")]),
    "C.2.2": (4096, ["040c2f73616d706c652f70617468"], [":path: /sample/path"], [(0, "")]),
    "C.2.3": (4096, ["100870617373776f726406736563726574"], ["password: secret"], [(0, "")]),
    "C.2.4": (4096, ["82"], [":method: GET"], [(0, "")]),
    "C.3": (4096, ["828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865",
                   "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565"], [GET, GET_2, GET_3], REQUEST_TABLES),
    "C.4": (4096, ["828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf",
                   "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"], [GET, GET_2, GET_3], REQUEST_TABLES),
    "C.5": (256, ["4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
                  "6e1768747470733a2f2f7777772e6578616d706c652e636f6d", "4803333037c1c0bf",
                  "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d"
                  "4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b20766572"
                  "73696f6e3d31"], [FOUND, FOUND_2, FOUND_3], RESPONSE_TABLES),
    "C.6": (256, ["488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b"
                  "97c8e9ae82ae43d3", "4883640effc1c0bf",
                  "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdf"
                  "cd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"], [FOUND, FOUND_2, FOUND_3],
            RESPONSE_TABLES),
}


@pytest.mark.parametrize("most, blocks, texts, tables", EXAMPLES.values(), ids=EXAMPLES)
def test_examples(guard, most, blocks, texts, tables):
    blocks = [bytes.fromhex(block) for block in blocks]
    for n, (text, (size, entries)) in enumerate(zip(texts, tables, strict=True), 1):
        result, fields, decoder = read(guard, blocks[:n], most)
        assert (result, pairs(fields)) == (OK, listed(text))
        assert (decoder.entries, decoder.size) == (listed(entries), (size, most))


def test_never_indexed_is_kept(guard):
    _, fields, _ = read(guard, [bytes.fromhex(EXAMPLES["C.2.3"][1][0])])
    assert fields[0][3] == NEVER


def test_the_encoder_writes_the_examples():
    encoder = Encoder()
    for block, text in zip(EXAMPLES["C.4"][1], EXAMPLES["C.4"][2], strict=True):
        assert encoder.encode(listed(text)).hex() == block


@pytest.mark.parametrize("index", range(1, 62))
def test_static_entries(guard, index):
    name, value = HeaderTable.STATIC_TABLE[index - 1]
    result, fields, _ = read(guard, [bytes([128 | index])])
    assert (result, pairs(fields)) == (OK, [(name, value)])
    decoder = Decoder()
    assert pairs(decoder.decode(bytes([128 | index]))) == [(name, value)]
    assert decoder.lines == name + b": " + value + b"\r\n"
    assert Encoder().encode([(name, value)]) == bytes([128 | index])
    if not name.startswith(b":"):
        assert Encoder().encode([(name, b"\0\1", NEVER)])[:-3] == (bytes([16 | index]) if index < 15 else bytes([31, index - 15]))


def test_ids():
    """The fields that the gateway knows are known at once; so are they when they come from the table."""
    names = {b":authority": 65, b":method": 66, b":path": 67, b":scheme": 68, b":status": 69, b":protocol": 70, b":x": 64,
             b":": 0, b"host": 1, b"content-length": 2, b"te": 9, b"x-forwarded-for": 17, b"x-request-id": 22, b"location": 29,
             b"accept": 0, b"Host": 0}
    decoder = Decoder()
    block = b"".join(b"\x40" + bytes([len(name)]) + name + b"\x01x" for name in names)
    assert [field[2] for field in decoder.decode(block)] == list(names.values())
    assert [field[2] for field in decoder.decode(bytes(128 | 62 + i for i in range(len(names))))] == list(names.values())[::-1]


def test_hashes():
    """A name has the hash that it has in HTTP/1.1, wherever it comes from: routes look for it by that."""
    names = [b"a", b"te", b"x-a", b"host", b"accept", b"x_name", b"if-none-match", b"x-a-much-longer-name-than-others"]
    head = request_of(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(name.upper() + b": 1\r\n" for name in names if name != b"host") + b"\r\n")
    hashes = {name.lower(): hashed for name, _, _, _, hashed, _ in head["fields"]}
    decoder = Decoder()
    for block in (b"".join(literal(0x40, name, b"1") for name in names),   # as literals, and from the table
                  bytes(128 | 61 + i for i in range(len(names), 0, -1))):
        assert [(name, hashed) for name, _, _, _, hashed in decoder.decode(block)] == [(name, hashes[name]) for name in names]
    for index in (19, 38, 41):
        name, _, _, _, hashed = decoder.decode(bytes([128 | index]))[0]
        assert hashed == hashes[name]


def literal(first, name, value):
    return bytes([first, len(name)]) + name + bytes([len(value)]) + value


FLAGS = {
    "plain": (b"a-b", b"c d", 0), "underscore": (b"a_b", b"", UNDERSCORE), "upper case": (b"Ab", b"", BAD_NAME),
    "no name": (b"", b"x", BAD_NAME), "NUL in the name": (b"a\0", b"x", BAD_NAME), "space": (b"a b", b"x", BAD_NAME),
    "colon": (b"a:b", b"x", BAD_NAME), "only a colon": (b":", b"x", BAD_NAME), "second colon": (b":a:", b"x", BAD_NAME),
    "8 bits in the name": (b"\xe4", b"x", BAD_NAME), "DEL in the name": (b"a\x7f", b"x", BAD_NAME),
    "8 bits": (b"a", b"\xe4\x80", 0), "NUL": (b"a", b"x\0y", BAD_VALUE), "LF": (b"a", b"x\ny", BAD_VALUE),
    "CR": (b"a", b"\r", BAD_VALUE), "DEL": (b"a", b"x" * 30 + b"\x7f", BAD_VALUE), "CTL": (b"a", b"\x1f", BAD_VALUE),
    "tab inside": (b"a", b"x\ty", 0), "space before": (b"a", b" x", BAD_VALUE), "tab behind": (b"a", b"x\t", BAD_VALUE),
    "both": (b"A", b"\n", BAD_NAME | BAD_VALUE),
}


@pytest.mark.parametrize("name, value, flags", FLAGS.values(), ids=FLAGS)
def test_names_and_values_are_judged(guard, name, value, flags):
    result, fields, _ = read(guard, [literal(0x40, name, value), b"\xbe", b"\x7e\x01x", b"\xbe"])
    assert (result, pairs(fields)) == (OK, [(name, b"x")])
    assert fields[0][3] == flags & ~BAD_VALUE     # a name keeps its verdict where it is used again
    for blocks, wanted in (([literal(0x40, name, value)], flags), ([literal(0, name, value)], flags),
                           ([literal(0x10, name, value)], flags | NEVER), ([literal(0x40, name, value), b"\xbe"], flags)):
        assert read(guard, blocks)[1][0][3] == wanted


REFUSED = {
    "index 0": "80", "no entry": "be", "far away": "ffffff7f", "no such name": "7f0001", "no such name, without": "0f2f00",
    "end in an index": "ff", "end in an integer": "ff80", "end before a name": "40", "end in a name": "400361",
    "end before a value": "400161", "end in a value": "4001610261", "end in a length": "4001617f80",
    "integer of 6 octets": "ff8080808000", "integer of zeros": "ff80808080", "length of 6 octets": "007f808080800000",
    "size behind a field": "823f01", "size above the limit": "3fe21f", "size in six octets": "3f8080808000",
    "EOS in a name": "0084fffffffc00", "EOS in a value": "00016184fffffffc", "padding of 8 bits": "000161821fff",
    "padding of zeros": "0001618118", "padding with a zero": "000161811e", "only padding": "00016181ff",
    "a code cut short": "00016181fe", "16 bits of padding": "00016182ffff",
}
SERVED = {
    "empty": ("", []), "size": ("3fe11f", []), "sizes": ("203fe11f", []), "size then field": ("2082", [(b":method", b"GET")]),
    "no value": ("40016100", [(b"a", b"")]), "no value in Huffman code": ("40016180", [(b"a", b"")]),
    "length with zeros": ("007f80808000" + "61" * 127 + "00", [(b"a" * 127, b"")]),
    "index with zeros": ("0f80808000" + "00", [(b"accept-charset", b"")]), "Huffman code": ("000161811f", [(b"a", b"a")]),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused(guard, data):
    assert read(guard, [bytes.fromhex(data)])[0] == BAD


@pytest.mark.parametrize("data, fields", SERVED.values(), ids=SERVED)
def test_served(guard, data, fields):
    result, got, _ = read(guard, [bytes.fromhex(data)])
    assert (result, pairs(got)) == (OK, fields)


# ---- the Huffman code -----------------------------------------------------------------------------------------------

def bits_of(symbols, padding=True):
    bits = "".join(f"{REQUEST_CODES[s]:0{REQUEST_CODES_LENGTH[s]}b}" for s in symbols)
    bits += "1" * (-len(bits) % 8) if padding else ""
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big")


def huffman(guard, code, **options):
    data = b"\x00\x01a" + bytes([128 | len(code)]) + code
    result, fields, _ = read(guard, [data], **options)
    return fields[0][1] if result == OK else result


@pytest.mark.parametrize("first", range(0, 256, 16))
def test_every_symbol_at_every_place(guard, first):
    for symbol in range(first, first + 16):
        for before in (b"", b"a", b"0a", b"%-.", b"\\", b"0aX<a5" * 2, b"&" * 7):
            for behind in (b"", b"a", b"~:;", b"\x16", b"0a0a0a0a0a"):
                text = before + bytes([symbol]) + behind
                assert huffman(guard, bits_of(text)) == text


@pytest.mark.parametrize("text", [b"", b"a", b"ab", b"0" * 14, b"\\" * 3, b"aX" * 9, bytes([22]) * 4], ids=repr)
def test_padding(guard, text):
    code = bits_of(text)
    free = 8 * len(code) - sum(REQUEST_CODES_LENGTH[c] for c in text)
    assert huffman(guard, code) == text
    assert huffman(guard, code + b"\xff") == BAD
    for bit in range(free):
        assert huffman(guard, code[:-1] + bytes([code[-1] ^ 1 << bit])) != text
    assert huffman(guard, bits_of([*text, 256])) == BAD
    assert huffman(guard, bits_of([256, *text])) == BAD


@pytest.mark.parametrize("n", [*range(1, 40), 126, 127, 128, 129, 200, 1000])
@pytest.mark.parametrize("char", [b"a", b"X", b";", b"<", b"\xff"], ids=repr)
def test_strings_of_every_length_come_back(guard, n, char):
    """Codes that are shorter, as long and longer than what they stand for, and lengths about one octet."""
    for text in (char * n, b"a" * (n - 1) + char, char + b"a" * (n - 1)):
        data = Encoder().encode([(b"name", text)])
        assert len(data) <= 8 + n + 3
        result, fields, _ = read(guard, [data])
        assert (result, pairs(fields)) == (OK, [(b"name", text)])


# ---- dynamic tables -------------------------------------------------------------------------------------------------

def entry(n, name=b"n"):
    """A literal that is added, whose entry has this size."""
    return literal(0x40, name, b"v" * (n - 32 - len(name)))


def sizes(decoder):
    return [len(name) + len(value) + 32 for name, value in decoder.entries]


def test_eviction(guard):
    blocks = [b"\x3f\x31", entry(33), entry(40), entry(7 + 32)]   # a maximum of 80
    assert sizes(read(guard, blocks[:3], 100)[2]) == [40, 33]
    assert sizes(read(guard, blocks, 100)[2]) == [39, 40]
    assert sizes(read(guard, [*blocks, entry(80)], 100)[2]) == [80]
    result, fields, decoder = read(guard, [*blocks, entry(81)], 100)   # RFC 7541 4.4: no error, an empty table
    assert (result, len(fields), decoder.entries, decoder.size) == (OK, 1, [], (0, 80))


def test_an_entry_may_name_the_one_it_evicts(guard):
    blocks = [entry(40, b"name"), b"\x7e\x06" + b"w" * 6]   # RFC 7541 4.4
    result, fields, decoder = read(guard, blocks, 42)
    assert (result, pairs(fields)) == (OK, [(b"name", b"wwwwww")])
    assert decoder.entries == [(b"name", b"wwwwww")]


def test_size_updates(guard):
    blocks = [entry(40), entry(50), entry(60)]
    assert sizes(read(guard, [*blocks, b"\x3f\x4f"])[2]) == [60, 50]     # 110
    assert sizes(read(guard, [*blocks, b"\x3f\x4e"])[2]) == [60]
    assert sizes(read(guard, [*blocks, b"\x20\x3f\xe1\x1f"])[2]) == []
    assert read(guard, [*blocks, b"\x20", entry(40)])[2].size == (0, 0)


def test_a_lower_limit_must_be_obeyed_at_once(guard):
    """RFC 9113 4.3.1, RFC 7541 4.2."""
    for data, result in ((b"\x82", BAD), (b"\x3f\x46\x82", BAD), (b"\x3f\x45\x82", OK), (b"\x20\x3f\x45\x82", OK),
                         (b"\x20\x82", OK), (b"", OK)):
        decoder = Decoder()
        decoder.limit(100)
        assert whole(guard, decoder, data)[0] == result
        decoder.limit(100)
        assert whole(guard, decoder, b"\x82")[0] == (OK if result == OK and data else BAD)
    decoder = Decoder()
    decoder.decode(b"\x3f\x45")
    decoder.limit(100)
    assert whole(guard, decoder, b"\x82")[0] == OK


def test_a_table_is_packed_in_time(guard):
    """Entries of all sizes pass through tables of all sizes; the block they lie in has room for no more."""
    for most in (0, 33, 40, 64, 100, 127, 1000, 4096):
        decoder, expected = Decoder(most), []
        for n in range(400):
            value = bytes([97 + n % 26]) * (n * 7919 % max(1, min(most, 300)))
            expected.insert(0, (b"n", value))
            while sum(len(v) + 33 for _, v in expected) > most:
                expected.pop()
            data = b"\x40\x01n\x7f" + bytes([len(value) - 127 & 127 | 128, len(value) - 127 >> 7]) + value \
                if len(value) > 126 else literal(0x40, b"n", value)
            assert whole(guard, decoder, data)[1][0][1] == value
            assert decoder.entries == expected
            if expected:
                last = len(expected) - 1 + 62
                data = bytes([128 | last]) if last < 127 else b"\xff" + bytes([last - 127])
                assert pairs(whole(guard, decoder, data)[1]) == expected[-1:]


# ---- limits ---------------------------------------------------------------------------------------------------------

def test_size_of_the_list(guard):
    """RFC 9113 6.5.2: name, value and 32 for each field."""
    data = b"\x82" + literal(0, b"name", b"value")
    size = 7 + 3 + 32 + 4 + 5 + 32
    for left, result, count in ((size, OK, 2), (size - 1, LARGE, 1), (42, LARGE, 1), (41, LARGE, 0), (0, LARGE, 0)):
        got, fields, _ = read(guard, [data], left=left)
        assert (got, len(fields)) == (result, count)


def test_count_of_fields(guard):
    assert read(guard, [b"\x82" * 100])[0] == OK
    result, fields, _ = read(guard, [b"\x82" * 101])
    assert (result, len(fields)) == (LARGE, 100)


def test_nothing_follows_what_is_left_out(guard):
    """A request without its middle would be another request."""
    result, fields, _ = read(guard, [b"\x82" + literal(0, b"a", b"x" * 90) + b"\x84"], left=120)
    assert (result, pairs(fields)) == (LARGE, [(b":method", b"GET")])


@pytest.mark.parametrize("left", [0, 10, 40, 41, 42, 1000])
def test_the_table_is_right_whatever_is_left_out(guard, left):
    blocks = [entry(41, b"one") + entry(41, b"two") + b"\x83" + entry(100, b"three"), b"\xbe\xbf\xc0",
              b"\x40\x01a\x7f\xe1\x1f" + b"v" * 4192]
    result, _, decoder = read(guard, blocks[:1], left=left)
    assert (result, [name for name, _ in decoder.entries]) == (OK if left == 1000 else LARGE, [b"three", b"two", b"one"])
    assert [name for name, _ in pairs(Decoder.decode(decoder, blocks[1]))] == [b"three", b"two", b"one"]
    assert read(guard, blocks, left=left)[2].entries == []   # larger than the table, and than the list


LARGE_ENTRY = b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000


@pytest.mark.parametrize("again", [b"\xbe", b"\x7e\x00", b"\x0f\x2f\x00"], ids=["indexed", "its name, added", "its name"])
def test_a_bomb_ends_at_the_limit(guard, again):
    """One entry of 4,000 bytes, or of such a name, again and again: 20 KB of input would be 64 MB."""
    entry = LARGE_ENTRY if again == b"\xbe" else b"\x40\x7f\xa1\x1e" + b"n" * 4000 + b"\x00"
    fits = limits.HEAD_BYTES // 4033
    result, fields, _ = read(guard, [entry + again * (fits - 1)], left=limits.HEAD_BYTES)
    assert (result, len(fields)) == (OK, fits)
    result, fields, decoder = read(guard, [entry + again * (2 * fits - 1)], left=limits.HEAD_BYTES, spare=limits.HEAD_BYTES)
    assert (result, len(fields), len(decoder.entries)) == (LARGE, fits, 1)
    result, fields, _ = read(guard, [entry + again * 8000], left=limits.HEAD_BYTES, spare=limits.HEAD_BYTES)
    assert (result, len(fields)) == (CALM, fits)


def test_one_field_that_is_too_large_is_no_flood(guard):
    cookie = b"\x00\x06cookie\x7f\xc1\xb7\x02" + b"c" * (127 + 0x41 + (0x37 << 7) + (2 << 14))
    result, fields, _ = read(guard, [b"\x82" + cookie + b"\x84" * 50])
    assert (result, pairs(fields)) == (LARGE, [(b":method", b"GET")])


# ---- encoding -------------------------------------------------------------------------------------------------------

INDEXED = {
    "a name of its own": [(b"x-a", b"1")], "status": [(b":status", b"201")], "date": [(b"date", b"Mon")],
    "a cookie": [(b"cookie", b"c" * 20)], "upper case": [(b"X-Frame_Options", b"DENY")], "content-type": [(b"content-type", b"a/b")],
    "protocol": [(b":protocol", b"websocket")], "authority": [(b":authority", b"a.example")],
}
WITHOUT = {
    "path": [(b":path", b"/a?b")], "length": [(b"Content-Length", b"12")], "etag": [(b"etag", b'"x"')], "age": [(b"age", b"1")],
    "location": [(b"Location", b"/a")], "request id": [(b"x-request-id", b"1-2-3")], "since": [(b"if-modified-since", b"x")],
    "large": [(b"x-large", b"<" * 3072)],
}
NEVER_INDEXED = {
    "authorization": [(b"authorization", b"Basic eDp5")], "proxy": [(b"proxy-authorization", b"x")],
    "set-cookie": [(b"Set-Cookie", b"a=b")], "a short cookie": [(b"cookie", b"c" * 19)], "as it came": [(b"x-a", b"1", NEVER)],
    "a static one": [(b":method", b"GET", 0), (b"accept-encoding", b"gzip, deflate", NEVER)],
}


def lowered(fields):
    return [(name.lower(), value) for name, value, *_ in fields]


@pytest.mark.parametrize("fields", INDEXED.values(), ids=INDEXED)
def test_indexed(fields):
    encoder, decoder = Encoder(), Decoder()
    assert pairs(decoder.decode(encoder.encode(fields))) == lowered(fields)
    assert encoder.encode(fields) == b"\xbe"
    assert encoder.entries == decoder.entries or fields[0][0] == b":protocol"
    assert pairs(decoder.decode(b"\xbe")) == lowered(fields)


@pytest.mark.parametrize("fields", WITHOUT.values(), ids=WITHOUT)
def test_without_indexing(fields):
    encoder, decoder = Encoder(), Decoder()
    for _ in range(2):
        data = encoder.encode(fields)
        assert (data[0] & 0xf0, encoder.entries) == (0, [])
        assert pairs(decoder.decode(data)) == lowered(fields)


@pytest.mark.parametrize("fields", NEVER_INDEXED.values(), ids=NEVER_INDEXED)
def test_never_indexed(fields):
    encoder, decoder = Encoder(), Decoder()
    encoder.encode([(b"x-a", b"1")])
    decoder.decode(b"\x40\x03x-a\x011")
    for _ in range(2):
        data = encoder.encode(fields)
        got = decoder.decode(data)
        assert pairs(got) == lowered(fields)
        assert got[-1][3] == NEVER
        assert len(encoder.entries) == 1


@pytest.mark.parametrize("status", [200, 204, 206, 304, 400, 404, 500, 100, 101, 201, 302, 503, 599])
def test_status(status):
    encoder, decoder = Encoder(), Decoder()
    data = encoder.encode([(b":status", b"%d" % status)])
    assert pairs(decoder.decode(data)) == [(b":status", b"%d" % status)]
    assert (len(data) == 1) == (status in (200, 204, 206, 304, 400, 404, 500))
    assert len(encoder.encode([(b":status", b"%d" % status)])) == 1


def test_sizes_are_announced():
    """RFC 7541 4.2: the smallest since the last block, and the last."""
    fields = [(b"x-a", b"1")]
    encoder = Encoder()
    first = encoder.encode(fields)
    encoder.limit(4096)
    assert encoder.encode(fields) == b"\xbe"
    encoder.limit(8192)
    assert encoder.encode(fields) == b"\xbe"
    encoder.limit(100)
    assert encoder.encode(fields) == b"\x3f\x45\xbe"
    assert encoder.encode(fields) == b"\xbe"
    encoder.limit(0)
    encoder.limit(50)
    assert encoder.encode(fields) == b"\x20\x3f\x13" + first
    encoder.limit(10)
    encoder.limit(4096)
    encoder.limit(50)
    assert encoder.encode(fields) == b"\x2a\x3f\x13" + first
    assert Encoder(100).encode(fields) == b"\x3f\x45" + first
    larger = Encoder(8192)
    assert larger.encode(fields) == first
    larger.limit(6000)
    assert larger.encode(fields) == b"\x3f\xd1\x2e\xbe"


def test_room(guard):
    """Nothing is written behind the end, and a field that has no room changes nothing."""
    fields = [(b"x-name", b"value" * 30), (b":status", b"404"), (b":path", b"/"), (b"cookie", b"\xff" * 300)]
    encoder = Encoder()
    encoder.limit(2000)
    needed = len(encoder.encode(fields))
    for room in range(needed + 400):
        encoder = Encoder()
        encoder.limit(2000)
        n = encoder.encode_at(fields, guard.at(bytes(room)), room)
        assert n in (-1, needed)
        assert n == needed or len(encoder.entries) <= 2
    assert n == needed


def test_many_entries_of_one_name():
    encoder, decoder = Encoder(), Decoder()
    for n in range(70_000):   # more than there are numbers for
        encoder.encode([(b"n", b"%d" % n)])
    encoder.limit(0)
    encoder.limit(4096)
    for n in range(300):
        fields = [(b"n", b"%d" % m) for m in range(n, max(n - 20, -1), -1)] + [(b"m", b"%d" % n)]
        assert pairs(decoder.decode(encoder.encode(fields))) == fields
        assert encoder.entries == decoder.entries
