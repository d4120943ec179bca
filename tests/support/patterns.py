"""How a pattern of a definition differs from ours."""
import re

SAMPLES = [
    "", "a", "A", "a-b", "-a", "a-", "a--b", "a.b", ".a", "a.", "a..b", "*.a.b", "*", "*.", "*.*.a", "a" * 64, "ä",
    "a b", "a\tb", "a  b", " a", "a ", "a\n", "visible!", "~!#$%&'*+", "X-Header", "x@y", "a?b", "a_b", "Kind", "9Kind",
    "Kind-9", "1", "1.2.3.4", "10", "10s", "1h30m", "100ms", "123456s", "1d", "http", "HTTP", "HTTPS-2", "System",
    "system", "a/b", "/a", "/x/%2f", "/x/%2", "/[]", "a.b/c", "a.b/C", "a.b/c/d", "example.net/gw", "IPAddress",
    "Hostname", "NamedAddress", "x:y", "spiffe://a/b", "http://a", "https://*.a.b:80", "https://a:", "ftp://a", "https://a/b",
    "http://*",
]


def pattern_differences(crd: str, ours: str, path: str):
    go = re.compile(re.sub(r"\$(?=$|[|)])", r"\\Z", crd))
    for sample in SAMPLES:
        if bool(go.search(sample)) != bool(re.search(ours, sample)):
            yield f"{path}: {sample!r} is {'refused' if go.search(sample) else 'allowed'} ({ours})"
