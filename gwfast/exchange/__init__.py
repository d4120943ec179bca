"""One request from its head to the last byte of its response, and the session that it belongs to."""
