r"""Regular expressions (RE2's syntax) as automata that run in time linear in their input.

    pattern -> syntax tree -> positions (Glushkov) -> deterministic automaton over classes of bytes

Rules:
- a match is of the whole value; '^' and '$' may stand at its ends and change nothing
- a pattern means characters, the automaton reads UTF-8: what is no valid UTF-8 matches no '.' and no negated class
- \d \w \s are ASCII, '.' is not a line feed (unless (?s)), laziness changes nothing
- look-around, back-references, word boundaries and Unicode classes are refused, and so is what the bounds of
  `automaton` refuse
"""
from functools import lru_cache

from gwfast.plan.automaton import Automaton, Unsupported, automaton_of

REPEAT = 1_000  # RE2's bound on {n,m}
DEPTH = 100  # of groups

TOP = 0x10FFFF
DIGIT = [(48, 57)]
SPACE = [(9, 10), (12, 13), (32, 32)]
WORD = [(48, 57), (65, 90), (95, 95), (97, 122)]
ESCAPES = {"d": DIGIT, "s": SPACE, "w": WORD}
CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "a": 7}
POSIX = {
    "alnum": [(48, 57), (65, 90), (97, 122)], "alpha": [(65, 90), (97, 122)], "ascii": [(0, 127)],
    "blank": [(9, 9), (32, 32)], "cntrl": [(0, 31), (127, 127)], "digit": DIGIT, "graph": [(33, 126)],
    "lower": [(97, 122)], "print": [(32, 126)], "punct": [(33, 47), (58, 64), (91, 96), (123, 126)],
    "space": [(9, 13), (32, 32)], "upper": [(65, 90)], "word": WORD, "xdigit": [(48, 57), (65, 70), (97, 102)],
}


def check(pattern: str) -> str | None:
    """Return why `pattern` cannot be served, or None where it can."""
    try:
        compile(pattern)
    except Unsupported as error:
        return str(error)
    return None


@lru_cache(maxsize=10_000)
def compile(pattern: str) -> Automaton:
    """Return the automaton of `pattern`; raise Unsupported."""
    return automaton_of(tree(pattern))


def tree(pattern: str):
    """Return the syntax tree of `pattern` as `automaton_of` takes it; raise Unsupported."""
    return _anchored(_Parser(pattern).parse(), True, True)


# ---- Syntax: trees as `automaton_of` takes them, and "^", "$" ----

EMPTY = ("cat", ())


class _Parser:
    def __init__(self, pattern: str):
        self.text = pattern
        self.at = 0
        self.depth = 0
        self.fold = self.dotall = False

    def parse(self):
        tree = self.alternatives()
        if self.at < len(self.text):
            raise Unsupported("unmatched ')'")
        return tree

    def take(self, what: str) -> bool:
        if self.text.startswith(what, self.at):
            self.at += len(what)
            return True
        return False

    def alternatives(self):
        flags = self.fold, self.dotall
        branches = [self.sequence()]
        while self.take("|"):
            branches.append(self.sequence())
        self.fold, self.dotall = flags
        return branches[0] if len(branches) == 1 else ("alt", tuple(branches))

    def sequence(self):
        nodes = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            nodes.append(self.repeated(self.atom()))
        return nodes[0] if len(nodes) == 1 else ("cat", tuple(nodes))

    def repeated(self, node):
        bounds = self.bounds()
        if bounds is None:
            return node
        if node in ("^", "$"):
            raise Unsupported("an anchor cannot be repeated")
        self.take("?")
        if self.bounds() is not None:
            raise Unsupported("a repetition of a repetition needs a group")
        return ("rep", node, *bounds)

    def bounds(self):
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(sign):
                return bounds
        end = self.text.find("}", self.at)
        if end < 0 or self.text[self.at] != "{":
            return None
        least, comma, most = self.text[self.at + 1:end].partition(",")
        if not (_is_number(least) and (most == "" or _is_number(most))):
            return None  # a literal '{', as in RE2
        self.at = end + 1
        low, high = int(least), (int(most) if most else None) if comma else int(least)
        if low > REPEAT or (high or 0) > REPEAT or (high is not None and high < low):
            raise Unsupported(f"bad repetition {{{least}{comma}{most}}} (at most {REPEAT}, in order)")
        return low, high

    def atom(self):
        c = self.text[self.at]
        self.at += 1
        if c == "(":
            return self.group()
        if c == "[":
            return self.set_of(self.bracket())
        if c == ".":
            return _utf8([(0, TOP)] if self.dotall else [(0, 9), (11, TOP)])
        if c in "^$":
            return c
        if c == "\\":
            return self.escape()
        if c in "*+?":
            raise Unsupported(f"nothing before '{c}' to repeat")
        return self.set_of([(ord(c), ord(c))])

    def set_of(self, ranges):
        return _utf8(_folded(ranges) if self.fold else ranges)

    def group(self):
        self.depth += 1
        if self.depth > DEPTH:
            raise Unsupported(f"groups are nested more than {DEPTH} deep")
        flags = self.fold, self.dotall
        if self.take("?") and not self.group_kind():
            self.depth -= 1
            return EMPTY  # (?i): holds to the end of the enclosing group
        node = self.alternatives()
        if not self.take(")"):
            raise Unsupported("missing ')'")
        self.fold, self.dotall = flags
        self.depth -= 1
        return node

    def group_kind(self) -> bool:
        """Read what follows '(?'; say whether a group's content follows."""
        for sign in ("<=", "<!", "=", "!"):
            if self.take(sign):
                raise Unsupported(f"look-around (?{sign} cannot run in linear time")
        if self.take("P<") or self.take("<"):
            end = self.text.find(">", self.at)
            if end < 0 or not self.text[self.at:end].isidentifier():
                raise Unsupported("bad name of a group")
            self.at = end + 1
            return True
        return self.flags()

    def flags(self) -> bool:
        on = True
        while self.at < len(self.text):
            c = self.text[self.at]
            self.at += 1
            if c in ":)":
                return c == ":"
            if c == "-":
                on = False
            elif c == "i":
                self.fold = on
            elif c == "s":
                self.dotall = on
            elif c != "U":
                raise Unsupported(f"(?{c} is not supported")
        raise Unsupported("missing ')'")

    def escape(self):
        if self.take("A"):
            return "^"
        if self.take("z"):
            return "$"
        if self.take("Q"):
            end = self.text.find("\\E", self.at)
            end = len(self.text) if end < 0 else end
            literal, self.at = self.text[self.at:end], end + 2 if end < len(self.text) else end
            return ("cat", tuple(self.set_of([(ord(c), ord(c))]) for c in literal))
        return self.set_of(self.escaped())

    def escaped(self):
        """Read what follows a backslash; return its ranges of characters."""
        if self.at >= len(self.text):
            raise Unsupported("a backslash at the end")
        c = self.text[self.at]
        self.at += 1
        if c.lower() in ESCAPES:
            return ESCAPES[c] if c in ESCAPES else _negated(ESCAPES[c.lower()])
        if c in CONTROLS:
            return [(CONTROLS[c], CONTROLS[c])]
        if c == "x":
            return self.hexadecimal()
        if c in "123456789":
            raise Unsupported(f"back-reference \\{c} cannot run in linear time")
        if c.isalnum():
            what = {"b": "word boundary", "B": "word boundary", "p": "Unicode class", "P": "Unicode class"}.get(c)
            raise Unsupported(f"{what or 'escape'} \\{c} is not supported")
        return [(ord(c), ord(c))]

    def hexadecimal(self):
        if self.take("{"):
            end = self.text.find("}", self.at)
            digits, after = self.text[self.at:end], end + 1
        else:
            digits, after = self.text[self.at:self.at + 2], self.at + 2
        if not 1 <= len(digits) <= 6 or not all(c in "0123456789abcdefABCDEF" for c in digits):
            raise Unsupported("bad \\x escape")
        if after == self.at + 2 and len(digits) != 2 or int(digits, 16) > TOP:
            raise Unsupported("bad \\x escape")
        self.at = after
        return [(int(digits, 16), int(digits, 16))]

    def bracket(self):
        negated = self.take("^")
        ranges = []
        first = True
        while first or not self.take("]"):
            first = False
            if self.at >= len(self.text):
                raise Unsupported("missing ']'")
            ranges.extend(self.member())
        return _negated(_folded(ranges) if self.fold else ranges) if negated else ranges

    def member(self):
        if self.take("[:"):
            end = self.text.find(":]", self.at)
            name = self.text[self.at:end] if end >= 0 else ""
            self.at = end + 2
            if name.removeprefix("^") not in POSIX:
                raise Unsupported(f"no class [:{name}:]")
            return _negated(POSIX[name[1:]]) if name.startswith("^") else POSIX[name]
        low = self.character()
        if len(low) > 1 or low[0][0] != low[0][1] or not self.text.startswith("-", self.at) \
                or self.text.startswith("-]", self.at):
            return low
        self.at += 1
        if self.at >= len(self.text):
            raise Unsupported("missing ']'")
        high = self.character()
        if len(high) > 1 or high[0][0] != high[0][1] or high[0][0] < low[0][0]:
            raise Unsupported("bad range in a class")
        return [(low[0][0], high[0][0])]

    def character(self):
        if self.take("\\"):
            return self.escaped()
        self.at += 1
        return [(ord(self.text[self.at - 1]),) * 2]


def _is_number(text: str) -> bool:
    return 0 < len(text) <= 9 and text.isascii() and text.isdigit()


def _negated(ranges):
    result, low = [], 0
    for start, end in sorted(ranges):
        if start > low:
            result.append((low, start - 1))
        low = max(low, end + 1)
    return result + [(low, TOP)] if low <= TOP else result


def _folded(ranges):
    """Add the other case: of ASCII letters in every range, of other characters where they stand alone."""
    result = list(ranges)
    for start, end in ranges:
        for low, high, shift in ((65, 90, 32), (97, 122, -32)):
            if max(start, low) <= min(end, high):
                result.append((max(start, low) + shift, min(end, high) + shift))
        if start == end and start > 127:
            result += [(ord(c), ord(c)) for c in (chr(start).lower(), chr(start).upper()) if len(c) == 1]
    return result


def _anchored(node, first: bool, last: bool):
    """Drop '^' where nothing can be before it and '$' where nothing can be behind it; refuse them elsewhere."""
    if node in ("^", "$"):
        if first if node == "^" else last:
            return EMPTY
        raise Unsupported(f"'{node}' is supported at the {'beginning' if node == '^' else 'end'} only")
    if node[0] == "alt":
        return ("alt", tuple(_anchored(branch, first, last) for branch in node[1]))
    if node[0] == "rep":
        return ("rep", _anchored(node[1], False, False), node[2], node[3])
    if node[0] == "cat":
        nodes = node[1]
        return ("cat", tuple(
            _anchored(item, first and all(_zero(other) for other in nodes[:i]),
                      last and all(_zero(other) for other in nodes[i + 1:])) for i, item in enumerate(nodes)))
    return node


def _zero(node) -> bool:
    return node in ("^", "$") or (node[0] in ("cat", "alt") and all(_zero(item) for item in node[1]))


# ---- Characters as bytes ----

@lru_cache(maxsize=1000)
def _utf8_of(ranges):
    branches = []
    for start, end in ranges:
        for low, high in ((0, 127), (128, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, TOP)):
            if max(start, low) <= min(end, high):
                branches += _sequences(chr(max(start, low)).encode(), chr(min(end, high)).encode())
    return _merged(branches)


def _merged(branches):
    """Return one tree of sequences of byte ranges; those that end alike share their end."""
    single = 0
    by_end: dict[tuple[int, int], list[list[tuple[int, int]]]] = {}
    for *before, (low, high) in branches:
        if before:
            by_end.setdefault((low, high), []).append(before)
        else:
            single |= (1 << high + 1) - (1 << low)
    nodes: list[tuple] = [("set", single)] if single or not by_end else []
    nodes += [("cat", (_merged(before), ("set", (1 << high + 1) - (1 << low))))
              for (low, high), before in by_end.items()]
    return nodes[0] if len(nodes) == 1 else ("alt", tuple(nodes))


def _utf8(ranges):
    return _utf8_of(tuple(sorted(set(ranges))))


def _sequences(low: bytes, high: bytes):
    """Return the sequences of byte ranges that are all encodings from `low` to `high`, of one length."""
    if len(low) == 1 or low[0] == high[0]:
        tails = [()] if len(low) == 1 else _sequences(low[1:], high[1:])
        return [((low[0], high[0]), *tail) for tail in tails]
    least, most = b"\x80" * (len(low) - 1), b"\xbf" * (len(low) - 1)
    result = []
    start, end = low[0], high[0]
    if low[1:] != least:
        result += [((start, start), *tail) for tail in _sequences(low[1:], most)]
        start += 1
    if high[1:] != most:
        end -= 1
    if start <= end:
        result.append(((start, end), *(((0x80, 0xBF),) * (len(low) - 1))))
    if high[1:] != most:
        result += [((high[0], high[0]), *tail) for tail in _sequences(least, high[1:])]
    return result
