"""`gwfast compare`: lists of requests, access logs, what is printed, exit statuses."""
import json

import pytest
import yaml
from ingress_cases import converted, ingress

from gwfast.cli import main
from gwfast.errors import UsageError
from gwfast.ingress.compare import Question, questions

COMBINED = '10.0.0.1 - ann [01/Jan/2026:00:00:00 +0000] "GET {path} HTTP/1.1" {status} 5 "-" "curl/8 \\x22"'
UPSTREAM = COMBINED + " 100 0.001 [{upstream}] [] 10.1.1.1:80 5 0.001 200 3f1c"


@pytest.fixture
def files(tmp_path):
    """A folder with two hosts, and a place for requests."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old/a.yaml").write_text(yaml.safe_dump_all([
        ingress("shop/web", "shop.example", {"/": "web", "~/cart(/|$)(.*)": "cart"}, rewrite_target="/$2"),
        ingress("blog/web", "blog.example", {"/": "web"})]))
    return tmp_path


def compare(folder, lines, *more) -> int:
    (folder / "requests").write_text("\n".join(lines))
    return main(["compare", "--ingress", str(folder / "old"), "--requests", str(folder / "requests"), *more])


def test_what_is_the_same_is_counted(files, capsys):
    assert compare(files, ["# a comment", "", "GET http://shop.example/cart/17", "http://blog.example/x?y=z", "POST http://blog.example/"]) == 0
    assert capsys.readouterr().out == "3 requests, 0 different\n"


def test_what_differs_is_told_with_both_sides(files, capsys):
    assert compare(files, ["GET http://shop.example/CART/17 -H 'X-A: b'"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].endswith("requests:1: differs: GET http://shop.example/CART/17 -H 'X-A: b'")
    assert 'shop/cart:80 as /17  (location ~* "^/cart(/|$)(.*)" of server shop.example, Ingress shop/web' in out[1]
    assert "shop/web:80 as /  (HTTPRoute shop/web" in out[2]
    assert out[3] == "1 request, 1 different"


def test_what_serves_now_may_be_something_else(files, capsys):
    assert main(["convert", str(files / "old"), "--output", str(files / "new")]) == 1
    route = files / "new/blog-httproute-web.yaml"
    route.write_text(route.read_text().replace("name: web\n        port: 80", "name: web\n        port: 80").replace("port: 80", "port: 8080"))
    capsys.readouterr()
    assert compare(files, ["http://blog.example/", "http://shop.example/"], str(files / "new"), "-o", "json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["asked"], told["different"]) == (2, 1)
    [one] = told["requests"]
    assert one["nginx"]["shares"][0]["backend"] == "blog/web:80" and one["gwfast"]["shares"][0]["backend"] == "blog/web:8080"


def site(files):
    return converted(files, *yaml.safe_load_all((files / "old/a.yaml").read_text())).site


def test_lines_of_a_log_are_asked_of_the_hosts_that_they_may_be_of(files):
    found = list(questions([UPSTREAM.format(path="/cart/1", status=200, upstream="shop-cart-80")] * 2, site(files)))
    assert found == [Question("GET", "http://shop.example/cart/1", (), 1)]
    found = list(questions([UPSTREAM.format(path="/x?y", status=200, upstream="blog-web-80")], site(files)))
    assert [one.url for one in found] == ["http://blog.example/x?y"]
    found = list(questions([COMBINED.format(path="/x", status=404)], site(files)))
    assert sorted(one.url for one in found) == ["http://blog.example/x", "http://shop.example/x"]
    found = list(questions([COMBINED.format(path="/x", status=404)], site(files), ("www.example",)))
    assert [one.url for one in found] == ["http://www.example/x"]


def test_a_log_and_a_list_may_be_one_file(files, capsys):
    assert compare(files, [COMBINED.format(path="/x", status=200), "GET http://shop.example/"], "--host", "blog.example") == 0
    assert "2 requests" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["GET", "nonsense", "GET /path/alone", "GET ftp://a.example/", "GET http://a.example/ X-A: b",
                                  "GET http://a.example/ -H", "GET 'http://a.example/"])
def test_a_line_that_says_nothing_is_named(files, capsys, line):
    with pytest.raises(UsageError, match="line 2: "):
        list(questions(["", line], site(files)))
    assert compare(files, ["GET http://shop.example/", line]) == 2
    assert "requests: line 2: " in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("--ingress", "x"), ("--ingress", "no-such", "--requests", "-"), ("--requests", "-")])
def test_a_wrong_command_line_of_compare_is_2(capsys, arguments):
    assert main(["compare", *arguments]) == 2
    assert capsys.readouterr().err.startswith("gwfast: ")


def test_a_site_without_redirects_over_https_is_compared_without_its_Secret(files, capsys):
    (files / "old/tls.yaml").write_text(yaml.safe_dump(ingress("shop/tls", "tls.example", {"/": "web"}, tls="not-here")))
    assert compare(files, ["http://tls.example/a/", "https://tls.example/a/"]) == 0
    assert compare(files, ["http://tls.example/a/"], "--clean") == 0
