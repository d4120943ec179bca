"""HTTP/2 (RFC 9113) and HPACK (RFC 7541): its frames and field blocks, and a client's connection."""
