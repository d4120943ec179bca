"""Normal form, prefixes by element, and the table of ReplacePrefixMatch (spec 5.5)."""
import pytest

from gwfast.plan.paths import normal_path, normal_prefix, quoted_path, replace_prefix, under


@pytest.mark.parametrize(("path", "normal"), [
    ("/", "/"), ("/a/b", "/a/b"), ("/a/", "/a/"), ("//", "/"), ("//a///b//", "/a/b/"),
    ("/./a", "/a"), ("/a/.", "/a/"), ("/a/./b", "/a/b"), ("/a/..", "/"), ("/a/../b", "/b"), ("/../..", "/"),
    ("/../a", "/a"), ("/a/b/..", "/a/"), ("/.a/..b", "/.a/..b"), ("/%41%7e%2d", "/A~-"), ("/%2e%2E/a", "/a"),
    ("/%2fa", "/%2Fa"), ("/%c3%a9", "/%C3%A9"), ("/a%", "/a%"),
])
def test_normal_path(path, normal):
    assert normal_path(path) == normal
    assert normal_path(normal) == normal


@pytest.mark.parametrize(("prefix", "normal"), [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("/a/b/", "/a/b")])
def test_normal_prefix(prefix, normal):
    assert normal_prefix(prefix) == normal


@pytest.mark.parametrize(("path", "prefix", "expected"), [
    ("/v2", "/v2", True), ("/v2/", "/v2", True), ("/v2/x", "/v2", True), ("/v2x", "/v2", False),
    ("/", "/", True), ("/x", "/", True), ("/v", "/v2", False),
])
def test_prefixes_match_by_element(path, prefix, expected):
    assert under(path, prefix) is expected


@pytest.mark.parametrize(("path", "prefix", "replacement", "expected"), [
    ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
    ("/foo", "/foo", "/xyz", "/xyz"),
    ("/foo/", "/foo", "/xyz", "/xyz/"),
    ("/foo/bar", "/foo", "", "/bar"),
    ("/foo/", "/foo", "", "/"),
    ("/foo", "/foo", "", "/"),
    ("/foo/", "/foo", "/", "/"),
    ("/foo", "/foo", "/", "/"),
    ("/bar", "/", "/xyz", "/xyz/bar"),
    ("/", "/", "/", "/"),
])
def test_replace_prefix_follows_the_table(path, prefix, replacement, expected):
    assert replace_prefix(path, prefix, replacement) == expected


@pytest.mark.parametrize(("value", "quoted"), [
    ("/a/b", "/a/b"), ("", "/"), ("a", "/a"), ("/a b", "/a%20b"), ("/a\r\nX: y", "/a%0D%0AX:%20y"), ("/é", "/%C3%A9"),
    ("/a?b#c", "/a%3Fb%23c"), ("/a%20b", "/a%20b"), ("/100%", "/100%25"),
])
def test_quoted_path_cannot_break_a_line(value, quoted):
    assert quoted_path(value) == quoted
