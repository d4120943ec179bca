"""Bodies that are larger than any buffer, and who takes them slowly."""
import socket
import threading

SIZE = 6 << 20
BODY = b"".join(b"%015d\n" % n for n in range(SIZE // 16))
SMALL = 8192


def narrow(engine) -> socket.socket:
    """A client whose receive buffer is small."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", engine.port))
    engine.clients.append(connection)
    return connection


def sender(connection: socket.socket, *pieces: bytes, ends: bool = False) -> threading.Thread:
    """Send from a thread of its own, and end the direction."""
    def run():
        connection.settimeout(20)
        for piece in pieces:
            connection.sendall(piece)
        if ends:
            connection.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def take(connection: socket.socket, n: int) -> bytes:
    got = bytearray()
    while len(got) < n:
        data = connection.recv(min(50000, n - len(got)))
        if not data:
            break
        got += data
    return bytes(got)
