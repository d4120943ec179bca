def check(
    head: bytes,
    body: bytes = b"",
    names: bytes = b"",
    client: bytes = b"",
    server: bytes = b"",
    port: int = 0,
    size: int = 0,
    https: bool = False,
    id: bytes = b"",
    protocol: bytes = b"",
    when: tuple[int, int] = (0, 0),
) -> bytes | None: ...
