//go:build tools

// Package tools names the store of the API server, whose dependencies are not those of the API server.
package tools

import _ "go.etcd.io/etcd/server/v3"
