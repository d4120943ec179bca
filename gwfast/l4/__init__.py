"""What is no HTTP: TCPRoute, TLSRoute and UDPRoute."""
