"""Plans and requests for the oracle, drawn from few names and values so that they meet.

`random` is a random.Random: hypothesis seeds it, and what one seed makes is quick to make. Most requests are aimed at
an entry of the plan and then disturbed.
"""
from gwfast.plan import ir
from gwfast.plan.precedence import entry_key, host_key

HOSTNAMES = ["", "*.test", "*.a.test", "*.b.a.test", "a.test", "b.a.test", "c.b.a.test", "x.test"]
NAMES = ["a.test", "b.a.test", "c.b.a.test", "d.c.b.a.test", "test", "x.test", "A.Test", ""]
ELEMENTS = ["a", "b", "ab", "a-b", "%41"]
PATTERNS = {  # and a path that matches
    "/a/.*": "/a/b", "/[ab]+": "/ab", "/(a|b)(/.*)?": "/b/a", "/a{1,2}b?": "/aab", ".*": "/b/b", "/[^/]+/b": "/a-b/b",
    "/ab.*": "/ab/a", "/a/b/.*": "/a/b/", "/a/[ab]": "/a/b", "/a/b|/b": "/b", "/(?:ab|a-b)/.+": "/ab/x",
}
VALUES = ["1", "2", "3", "a, b", "", "long-value"]
VALUE_PATTERNS = {"[0-9]+": "12", "a.*": "a, b", ".*": "x", "1|2": "2", "[^1]": "3", "(?:a, )+b": "a, a, b"}
HEADERS = ["x-a", "x-b", "x-c", "version"]
PARAMETERS = ["q", "Q", "r", "a b"]
CREATED = ["", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]
METHODS = ["GET", "POST", "DELETE"]


def path(random) -> str:
    return "/" + "/".join(random.choices(ELEMENTS, k=random.randrange(5)))


def conditions(random, names):
    found = []
    for name in random.choices(names, k=random.choice([0, 0, 0, 1, 1, 2, 3])):
        regex = random.random() < 0.25
        found.append(ir.ValueMatch(name=name, value=random.choice([*VALUE_PATTERNS] if regex else VALUES), regex=regex))
    return tuple(found)


def match(random, some_paths):
    kind = random.choice(["Exact", "PathPrefix", "PathPrefix", "RegularExpression"])
    return ir.Match(
        path_type=kind,
        path=random.choice([*PATTERNS] if kind == "RegularExpression" else some_paths),
        method=random.choice(["", "", *METHODS]),
        headers=conditions(random, HEADERS),
        query=conditions(random, PARAMETERS),
        index=random.randrange(4),
    )


def rule(random):
    kind = random.choice(["HTTPRoute", "HTTPRoute", "HTTPRoute", "GRPCRoute"])
    return ir.Rule(kind=kind, namespace=random.choice("mn"), route=random.choice("rst"),
                   index=random.randrange(6), created=random.choice(CREATED))


def host(random, hostname, most):
    some_paths = [path(random) for _ in range(random.choice([1, 2, 6]))]
    entries = [ir.Entry(match=match(random, some_paths), rule=rule(random)) for _ in range(random.randrange(most))]
    unique = {entry_key(entry): entry for entry in entries}
    return ir.Host(hostname=hostname, entries=tuple(unique[key] for key in sorted(unique)))


def names(random, most):
    return sorted(random.sample(HOSTNAMES, random.randint(1, most)), key=host_key)


def plan(random, most=12):
    return ir.Plan(binds=(ir.Bind(address="", port=80, listeners=tuple(
        ir.Listener(id=f"m/g/{i}", hostname=name,
                    hosts=tuple(host(random, hostname, most) for hostname in names(random, 4)))
        for i, name in enumerate(names(random, 3)))),))


def changed(random, before, most=12):
    """Return the plan with some hosts replaced, some entries gone or new, and the rest the same objects."""
    def change(old):
        draw = random.random()
        if draw < 0.4:
            return old
        if draw < 0.5:
            return host(random, old.hostname, most)
        new = host(random, old.hostname, 3).entries
        kept = {entry_key(entry): entry for entry in (*new, *(e for e in old.entries if random.random() < 0.8))}
        return ir.Host(hostname=old.hostname, entries=tuple(kept[key] for key in sorted(kept)))

    (bind,) = before.binds
    listeners = tuple(ir.Listener(id=listener.id, hostname=listener.hostname, hosts=tuple(map(change, listener.hosts)))
                      for listener in bind.listeners if random.random() < 0.9)
    return ir.Plan(binds=(ir.Bind(address="", port=80, listeners=listeners),))


def request(random, plan_):
    """Return (method, target, headers), most often one that some entry of the plan matches."""
    hosts = [(host_.hostname, entry) for listener in plan_.binds[0].listeners for host_ in listener.hosts
             for entry in host_.entries]
    if not hosts or random.random() < 0.1:
        return random.choice(METHODS), path(random), [("Host", random.choice(NAMES))]
    hostname, entry = random.choice(hosts)
    fields = [("Host", name_for(random, hostname)), *fulfilled(random, entry.match.headers, title)]
    parameters = fulfilled(random, entry.match.query, escaped)
    return (
        entry.match.method or random.choice([*METHODS, "OTHER"]),
        path_for(random, entry.match) + ("?" if parameters else "") + "&".join("=".join(pair) for pair in parameters),
        fields,
    )


def name_for(random, hostname):
    if random.random() < 0.15:
        return random.choice(NAMES)
    return hostname.replace("*", random.choice(["a", "z", "c.b.a", "b"])) or random.choice(NAMES)


def path_for(random, match_):
    if match_.path_type == "RegularExpression":
        return PATTERNS[match_.path]
    if match_.path_type == "Exact" or random.random() < 0.3:
        return match_.path + random.choice(["", "", "", "x", "/"])
    return match_.path.rstrip("/") + path(random) + random.choice(["", "", "/"])


def fulfilled(random, wanted, spelled):
    """Return pairs that fulfil the conditions, now and then with something left out, doubled, split or strange."""
    pairs = []
    for condition in wanted:
        if random.random() < 0.1:
            continue
        value = VALUE_PATTERNS[condition.value] if condition.regex else condition.value
        parts = value.split(", ") if spelled is title and random.random() < 0.5 else [value]
        pairs += [spelled(random, condition.name, part) for part in parts]
    if random.random() < 0.3:
        names_ = HEADERS + ["x_a"] if spelled is title else PARAMETERS
        pairs.insert(random.randint(0, len(pairs)), spelled(random, random.choice(names_), random.choice(VALUES)))
    return pairs


def title(random, name, value):
    return (name.title() if random.random() < 0.5 else name), value


def escaped(random, name, value):
    quoted = {" ": "%20", ",": "%2C", "1": "%31", "q": "%71"}
    return tuple("".join(quoted.get(c, c) if c == " " or random.random() < 0.5 else c for c in text)
                 for text in (name, value))
