"""Requests and what becomes of them, for the manifests of the Gateway API's conformance suite.

A line is a request and its outcome:

    [METHOD] [@GATEWAY] [HOST]/PATH [NAME:VALUE ...]  ->  BACKEND or STATUS  [CHECK ...]

Several lines may follow for one manifest; `without KIND` takes all resources of that kind away from there on. Checks:

    NAME=VALUE    the backend got this field (several lines joined by ','); path=, host= what it got there
    -NAME         the backend did not get this field
    <NAME=VALUE   the response has this field;  <-NAME it has not
    to=URL        the response's Location
"""

REQUEST_HEADER_MODIFIER = """
    /set Some-Other-Header:val          -> v1 X-Header-Set=set-overwrites-values Some-Other-Header=val
    /set X-Header-Set:some-other-value  -> v1 X-Header-Set=set-overwrites-values
    /add Some-Other-Header:val          -> v1 X-Header-Add=add-appends-values Some-Other-Header=val
    /add X-Header-Add:some-other-value  -> v1 X-Header-Add=some-other-value,add-appends-values
    /remove X-Header-Remove:val         -> v1 -X-Header-Remove
    /multiple X-Header-Set-2:v X-Header-Add-2:v X-Header-Remove-2:v Another-Header:v -> v1 X-Header-Set-1=header-set-1 \
        X-Header-Set-2=header-set-2 X-Header-Add-1=header-add-1 X-Header-Add-2=v,header-add-2 \
        X-Header-Add-3=header-add-3 Another-Header=v -X-Header-Remove-1 -X-Header-Remove-2
    /case-insensitivity x-header-set:original x-header-add:original x-header-remove:original -> v1 \
        X-Header-Set=header-set X-Header-Add=original,header-add -x-header-remove
"""

# In each of the four listeners the route named after it answers, nothing else: the most specific listener takes all.
ISOLATION = {
    "bar.com": "empty-hostname", "bar.example.com": "wildcard-example-com", "bar.foo.example.com":
    "wildcard-foo-example-com", "abc.foo.example.com": "abc-foo-example-com",
}
ISOLATED = "\n".join(f"{host}/{path} -> {'v1' if path == mine else 404}"
                     for host, mine in ISOLATION.items() for path in ISOLATION.values())

CASES = {
    "gateway-http-listener-isolation": ISOLATED,
    "gateway-http-listener-isolation-with-hostname-intersection": ISOLATED,
    "httproute-303-redirect": "POST /see-other -> 303 to=http://any.example/see-other",
    "httproute-307-redirect": "POST /temporary -> 307 to=http://any.example/temporary",
    "httproute-308-redirect": "POST /permanent -> 308 to=http://any.example/permanent",
    "httproute-cors": """
        OPTIONS /cors-1 Origin:https://www.foo.com Access-Control-Request-Method:GET \
            Access-Control-Request-Headers:x-header-1,x-header-2 -> 200 \
            <Access-Control-Allow-Origin=https://www.foo.com <Access-Control-Allow-Methods=GET,OPTIONS \
            <Access-Control-Allow-Headers=x-header-1,x-header-2 <Access-Control-Expose-Headers=x-header-3,x-header-4 \
            <Access-Control-Max-Age=3600 <Access-Control-Allow-Credentials=true
        OPTIONS /cors-1 Origin:https://www.bar.com Access-Control-Request-Method:GET -> 200 \
            <Access-Control-Allow-Origin=https://www.bar.com <Access-Control-Allow-Headers=x-header-1,x-header-2
        OPTIONS /cors-1 Origin:https://xpto.www.bar.com Access-Control-Request-Method:GET -> 200 \
            <Access-Control-Allow-Origin=https://xpto.www.bar.com
        OPTIONS /cors-1 Origin:https://foobar.com Access-Control-Request-Method:GET -> 200 <-Access-Control-Allow-Origin
        /cors-1 Origin:https://www.foo.com -> v1 <Access-Control-Allow-Origin=https://www.foo.com
        /cors-1 Origin:https://www.bar.com -> v1 <Access-Control-Allow-Origin=https://www.bar.com
        /cors-1 Origin:https://foobar.com -> v1 <-Access-Control-Allow-Origin
        /cors-1 -> v1 <-Access-Control-Allow-Origin
        OPTIONS /cors-2 Origin:https://www.foo.com Access-Control-Request-Method:POST -> 200 \
            <Access-Control-Allow-Methods=POST <Access-Control-Allow-Origin=https://www.foo.com \
            <-Access-Control-Allow-Credentials <Access-Control-Max-Age=5
        OPTIONS /cors-wildcard-origin Origin:https://foobar.com:12345 Access-Control-Request-Method:PUT -> 200 \
            <Access-Control-Allow-Origin=https://foobar.com:12345 <Access-Control-Allow-Methods=PUT \
            <-Access-Control-Allow-Credentials
        PUT /cors-wildcard-origin Origin:https://foobar.com:12345 -> v1 \
            <Access-Control-Allow-Origin=https://foobar.com:12345 <-Access-Control-Allow-Credentials
        OPTIONS /cors-wildcard-methods-headers Origin:https://other.foo.com Access-Control-Request-Method:PUT \
            Access-Control-Request-Headers:x-header-1,x-header-2 -> 200 <Access-Control-Allow-Methods=PUT \
            <Access-Control-Allow-Origin=https://other.foo.com <Access-Control-Allow-Headers=x-header-1,x-header-2 \
            <Access-Control-Allow-Credentials=true
        OPTIONS /cors-wildcard-methods-headers-unauth Origin:https://other.foo.com Access-Control-Request-Method:PUT \
            Access-Control-Request-Headers:x-header-1,x-header-2 -> 200 <Access-Control-Allow-Methods=PUT \
            <Access-Control-Allow-Headers=x-header-1,x-header-2 <-Access-Control-Allow-Credentials
        /cors-wildcard-methods-headers Origin:https://other.foo.com Authorization:Bearer -> v1 \
            <Access-Control-Allow-Origin=https://other.foo.com <Access-Control-Allow-Credentials=true
        /cors-wildcard-methods-headers-unauth Origin:https://other.foo.com Authorization:Bearer -> v1 \
            <Access-Control-Allow-Origin=https://other.foo.com <-Access-Control-Allow-Credentials
    """,
    "httproute-cross-namespace": "@backend-namespaces / -> web-backend",
    "httproute-exact-path-matching": """
        /one -> v1
        /two -> v2
        / -> 404
        /one/example -> 404
        /two/ -> 404
        /Two -> 404
    """,
    "httproute-header-matching": """
        / Version:one -> v1
        / Version:two -> v2
        / Version:two Color:orange -> v1
        / Color:blue -> v1
        / Color:green -> v1
        / Color:red -> v2
        / Color:yellow -> v2
        / Color:purple -> 404
        / Version:three -> 404
        / -> 404
    """,
    "httproute-hostname-intersection": """
        @httproute-hostname-intersection very.specific.com/s1 -> v1
        @httproute-hostname-intersection very.specific.com:1234/s1 -> v1
        @httproute-hostname-intersection non.matching.com/s1 -> 404
        @httproute-hostname-intersection foo.nonmatchingwildcard.io/s1 -> 404
        @httproute-hostname-intersection foo.wildcard.io/s1 -> 404
        @httproute-hostname-intersection very.specific.com/non-matching-prefix -> 404
        @httproute-hostname-intersection foo.wildcard.io/s2 -> v2
        @httproute-hostname-intersection foo.wildcard.io:1234/s2 -> v2
        @httproute-hostname-intersection bar.wildcard.io/s2 -> v2
        @httproute-hostname-intersection foo.bar.wildcard.io/s2 -> v2
        @httproute-hostname-intersection non.matching.com/s2 -> 404
        @httproute-hostname-intersection wildcard.io/s2 -> 404
        @httproute-hostname-intersection very.specific.com/s2 -> 404
        @httproute-hostname-intersection foo.wildcard.io/non-matching-prefix -> 404
        @httproute-hostname-intersection very.specific.com/s3 -> v3
        @httproute-hostname-intersection foo.specific.com/s3 -> 404
        @httproute-hostname-intersection foo.wildcard.io/s3 -> 404
        @httproute-hostname-intersection very.specific.com/s3/x -> v3
        @httproute-hostname-intersection one.anotherwildcard.io/s4 -> v1
        @httproute-hostname-intersection one.two.three.anotherwildcard.io/s4 -> v1
        @httproute-hostname-intersection anotherwildcard.io/s4 -> 404
        @httproute-hostname-intersection foo.wildcard.io/s4 -> 404
        @httproute-hostname-intersection specific.but.wrong.com/s5 -> 404
        @httproute-hostname-intersection wildcard.io/s5 -> 404
        @httproute-hostname-intersection-all first.com/ -> v2
        @httproute-hostname-intersection-all sub.first.com/ -> v2
        @httproute-hostname-intersection-all SECOND.com/ -> v2
        @httproute-hostname-intersection-all sub.second.com/ -> v2
        @httproute-hostname-intersection-all third.com/ -> 404
        @httproute-hostname-intersection-all sub.third.com/ -> 404
    """,
    "httproute-invalid-backendref-unknown-kind": "/ -> 500",
    "httproute-invalid-cross-namespace-backend-ref": "/ -> 500",
    "httproute-invalid-cross-namespace-parent-ref": "/ -> 404",
    # A Service that is not in the files is a name to look up: 503 while nothing answers to it (a cluster says 500).
    "httproute-invalid-nonexistent-backendref": "/ -> 503",
    "httproute-invalid-reference-grant": "/ -> 500",
    "httproute-listener-hostname-matching": """
        bar.com/ -> v1
        foo.bar.com/ -> v2
        baz.bar.com/ -> v3
        boo.bar.com/ -> v3
        multiple.prefixes.bar.com/ -> v3
        multiple.prefixes.foo.com/ -> v3
        foo.com/ -> 404
        no.matching.host/ -> 404
    """,
    "httproute-listener-port-matching": """
        foo.com:80/ -> v1
        bar.com:80/ -> 404
        foo.com:8080/ -> v2
        bar.com:8080/ -> v2
        foo.com:8090/ -> v3
        bar.com:8090/ -> 404
    """,
    "httproute-matching": """
        / -> v1
        /example -> v1
        / Version:one -> v1
        /v2 -> v2
        /v2/example -> v2
        / Version:two -> v2
        /v2/ -> v2
        /v2example -> v1
        /foo/v2/example -> v1
    """,
    "httproute-matching-across-routes": """
        example.com/ -> v1
        example.com/example -> v1
        example.net/example -> v1
        example.com/example Version:one -> v1
        example.com/v2 -> v2
        example.com/v2example -> v1
        example.com/foo/v2/example -> v1
        example.com/v2/example -> v2
        example.com/ Version:two -> v2
        example.net/v2 -> v1
        example.org/ -> 404
    """,
    "httproute-method-matching": """
        POST / -> v1
        GET / -> v2
        HEAD / -> 404
        GET /path1 -> v1
        PUT / Version:one -> v2
        POST /path2 Version:two -> v3
        PATCH /path3 -> v1
        DELETE /path4 Version:three -> v1
        PATCH /path5 -> v1
        PATCH / Version:four -> v2
        DELETE / Version:four -> v3
        PUT / -> 404
        DELETE /path4 -> 404
    """,
    "httproute-multiple-gateways": """
        @same-namespace /shared -> v1
        @all-namespaces /shared -> v1
        @same-namespace / -> v2
        @all-namespaces / -> v3
    """,
    "httproute-named-rule": "/named -> v1\n/unnamed -> v2",
    "httproute-omitted-backendrefs": "/omitted-no-forward -> 500\n/empty-no-forward -> 500\n/ -> v1",
    "httproute-partially-invalid-via-invalid-reference-grant": "/v2 -> 500\n/ -> app-backend-v1",
    "httproute-path-match-order": """
        /match/exact/one -> v3
        /match/exact -> v2
        /match -> v1
        /match/prefix/one/any -> v2
        /match/prefix/any -> v1
        /match/any -> v3
    """,
    "httproute-query-param-matching": """
        /?animal=whale -> v1
        /?animal=dolphin -> v2
        /?animal=whale&otherparam=irrelevant -> v1
        /?animal=dolphin&color=yellow -> v2
        /?color=blue&animal=dolphin -> v3
        /?animal=dolphin&color=blue -> v3
        /?ANIMAL=Whale -> v3
        /?animal=shark -> 404
        /?animal=whaledolphin -> 404
        /?%61nimal=%77hale -> v1
        / -> 404
        /path1?animal=whale -> v1
        /?animal=whale version:one -> v2
        /path2?animal=whale version:two -> v3
        /path3?animal=shark -> v1
        /path4?animal=kraken version:three -> v1
        /path5?animal=hydra -> v1
        /?animal=hydra version:four -> v3
        /path3?animal=dolphin -> v2
    """,
    "httproute-redirect-host-and-status": """
        /hostname-redirect -> 302 to=http://example.org/hostname-redirect
        /host-and-status -> 301 to=http://example.org/host-and-status
    """,
    "httproute-redirect-path": """
        /original-prefix/lemon -> 302 to=http://any.example/replacement-prefix/lemon
        /original-prefix -> 302 to=http://any.example/replacement-prefix
        /original-prefix/?q=1 -> 302 to=http://any.example/replacement-prefix/?q=1
        /full/path/original -> 302 to=http://any.example/full-path-replacement
        /path-and-host/lemon -> 302 to=http://example.org/replacement-prefix/lemon
        /path-and-status/lemon -> 301 to=http://any.example/replacement-prefix/lemon
        /full-path-and-host/lemon -> 302 to=http://example.org/replacement-full
        /full-path-and-status/lemon -> 301 to=http://any.example/replacement-full
    """,
    "httproute-redirect-port": """
        /port -> 302 to=http://any.example:8083/port
        /port-and-host -> 302 to=http://example.org:8083/port-and-host
        /port-and-status -> 301 to=http://any.example:8083/port-and-status
        /port-and-host-and-status -> 302 to=http://example.org:8083/port-and-host-and-status
    """,
    # The routes on port 443 of this manifest belong to TLS.
    "httproute-redirect-port-and-scheme": """
        /scheme-nil-and-port-nil -> 302 to=http://example.org/scheme-nil-and-port-nil
        /scheme-nil-and-port-80 -> 302 to=http://example.org/scheme-nil-and-port-80
        /scheme-nil-and-port-8080 -> 302 to=http://example.org:8080/scheme-nil-and-port-8080
        /scheme-https-and-port-nil -> 302 to=https://example.org/scheme-https-and-port-nil
        /scheme-https-and-port-443 -> 302 to=https://example.org/scheme-https-and-port-443
        /scheme-https-and-port-8443 -> 302 to=https://example.org:8443/scheme-https-and-port-8443
        @same-namespace-with-http-listener-on-8080 /scheme-nil-and-port-nil -> 302 \
            to=http://example.org:8080/scheme-nil-and-port-nil
        @same-namespace-with-http-listener-on-8080 /scheme-nil-and-port-80 -> 302 \
            to=http://example.org/scheme-nil-and-port-80
        @same-namespace-with-http-listener-on-8080 /scheme-https-and-port-nil -> 302 \
            to=https://example.org/scheme-https-and-port-nil
    """,
    "httproute-redirect-scheme": """
        /scheme -> 302 to=https://any.example/scheme
        /scheme-and-host -> 302 to=https://example.org/scheme-and-host
        /scheme-and-status -> 301 to=https://any.example/scheme-and-status
        /scheme-and-host-and-status -> 302 to=https://example.org/scheme-and-host-and-status
    """,
    "httproute-reference-grant": "/ -> web-backend\nwithout ReferenceGrant\n/ -> 500",
    "httproute-request-header-modifier": REQUEST_HEADER_MODIFIER,
    "httproute-request-header-modifier-backend": REQUEST_HEADER_MODIFIER,
    "httproute-response-header-modifier": """
        /set -> v1 <X-Header-Set=set-overwrites-values
        /set X-Echo-Set-Header:X-Header-Set:some-other-value -> v1 <X-Header-Set=set-overwrites-values
        /add -> v1 <X-Header-Add=add-appends-values
        /add X-Echo-Set-Header:X-Header-Add:some-other-value -> v1 <X-Header-Add=some-other-value,add-appends-values
        /remove X-Echo-Set-Header:X-Header-Remove:val -> v1 <-X-Header-Remove
        /multiple X-Echo-Set-Header:X-Header-Set-2:v;X-Header-Add-2:v;X-Header-Remove-2:v;Another:v -> v1 \
            <X-Header-Set-1=header-set-1 <X-Header-Set-2=header-set-2 <X-Header-Add-2=v,header-add-2 \
            <X-Header-Add-3=header-add-3 <Another=v <-X-Header-Remove-2
        /case-insensitivity X-Echo-Set-Header:x-header-set:o;X-Header-Add:o;x-header-remove:o;X-Lowercase-Add:o -> v1 \
            <X-Header-Set=header-set <X-Header-Add=o,header-add <X-Lowercase-Add=o,lowercase-add <-X-Header-Remove
        /response-and-request-header-modifiers X-Header-Remove:v X-Header-Add:v -> v1 X-Header-Set=set-overwrites-values \
            X-Header-Add=v,header-val-1 X-Header-Add-Append=header-val-2 -X-Header-Remove <X-Header-Set-1=header-set-1 \
            <X-Header-Add-2=header-add-2
    """,
    "httproute-rewrite-host": """
        rewrite.example/one -> v1 host=one.example.org path=/one
        rewrite.example/two -> v2 host=example.org path=/two
        rewrite.example:8000/two?q=1 -> v2 host=example.org path=/two?q=1
        rewrite.example/rewrite-host-and-modify-headers X-Header-Remove:v X-Header-Add:v -> v2 host=test.example.org \
            X-Header-Set=set-overwrites-values X-Header-Add=v,header-val-1 X-Header-Add-Append=header-val-2 \
            -X-Header-Remove
        other.example/one -> 404
    """,
    "httproute-rewrite-path": """
        /prefix/one/two -> v1 path=/one/two
        /prefix/one -> v1 path=/one
        /prefix/one/ -> v1 path=/one/
        /strip-prefix/three -> v1 path=/three
        /strip-prefix -> v1 path=/
        /strip-prefix/ -> v1 path=/
        /strip-prefix?q=1 -> v1 path=/?q=1
        /full/one/two -> v1 path=/one
        /full/one/two?q=1 -> v1 path=/one?q=1
        /full/rewrite-path-and-modify-headers/x X-Header-Remove:v -> v1 path=/test X-Header-Set=set-overwrites-values \
            X-Header-Add=header-val-1 -X-Header-Remove
        /prefix/rewrite-path-and-modify-headers/x X-Header-Remove:v -> v1 path=/prefix/x \
            X-Header-Set=set-overwrites-values -X-Header-Remove
    """,
    "httproute-service-types": """
        /manual-endpointslices -> manual-endpointslices
        /headless -> headless
        /headless-manual-endpointslices -> headless-manual-endpointslices
    """,
    "httproute-simple-same-namespace": "/ -> v1",
    "listenerset-http-routing": """
        gateway-listener-1.com/route -> v1
        gateway-listener-2.com/route -> v1
        listener-set-http-routing-1-listener-1.com/route -> v1
        listener-set-http-routing-2-listener-2.com/route -> v1
        gateway-listener-1.com/gateway-route -> v2
        gateway-listener-2.com/gateway-route -> v2
        listener-set-http-routing-1-listener-1.com/gateway-route -> 404
        gateway-listener-1.com/gateway-section-route -> v3
        gateway-listener-2.com/gateway-section-route -> 404
        listener-set-http-routing-1-listener-1.com/listener-set-http-routing-1-route -> v2
        listener-set-http-routing-1-listener-2.com/listener-set-http-routing-1-route -> v2
        listener-set-http-routing-2-listener-1.com/listener-set-http-routing-1-route -> 404
        listener-set-http-routing-1-listener-1.com/listener-set-http-routing-1-section-route -> v3
        listener-set-http-routing-1-listener-2.com/listener-set-http-routing-1-section-route -> 404
        gateway-listener-1.com/listener-set-http-routing-2-route -> 404
        listener-set-http-routing-2-listener-1.com/listener-set-http-routing-2-route -> v2
    """,
    "listenerset-allowed-routes-namespaces": """
        listener-set-listener-allowed-routes-all.com/route-in-same-namespace -> v1
        listener-set-listener-allowed-routes-all.com/route-in-selected-namespace -> v2
        listener-set-listener-allowed-routes-all.com/route-not-in-selected-namespace -> v3
        listener-set-listener-allowed-routes-same.com/route-in-same-namespace -> v1
        listener-set-listener-allowed-routes-same.com/route-in-selected-namespace -> 404
        listener-set-listener-allowed-routes-selector.com/route-in-selected-namespace -> v2
        listener-set-listener-allowed-routes-selector.com/route-not-in-selected-namespace -> 404
        listener-set-listener-allowed-routes-cross-ns-same.com/route-in-listenerset-namespace -> v1
        listener-set-listener-allowed-routes-cross-ns-same.com/route-in-gateway-namespace -> 404
    """,
}
