"""HTTP/1.1 (RFC 9112): its grammar, and a client's connection."""
