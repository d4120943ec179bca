"""Who is asked about a request: authorizers, mirrors, filters in Python."""
