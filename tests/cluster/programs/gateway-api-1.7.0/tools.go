//go:build tools

// Package tools names the Gateway API's own echo server; its conformance suite is in conformance_test.go.
package tools

import _ "sigs.k8s.io/gateway-api-conformance-images/echo-basic"
