"""TLS: the ClientHello that is read ahead, and records through the library that pyOpenSSL brings."""
