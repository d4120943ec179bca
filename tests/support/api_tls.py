"""An API server of TLS that knows its clients by their certificates."""
import ssl
import tempfile

from servers import Exchange

from support.pki import pair

CHAIN, KEY = pair("a.test")


def server_context(chain: bytes = CHAIN, key: bytes = KEY, clients: bytes = b"") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(chain + key)
        file.flush()
        context.load_cert_chain(file.name)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=clients.decode())
    return context


async def whoami(x: Exchange):
    peer = x.writer.get_extra_info("peercert")
    await x.answer(b"%d %s" % (x.connection, str(peer.get("serialNumber") if peer else "").encode()))


def serial(chain: bytes) -> str:
    from cryptography import x509
    return f"{x509.load_pem_x509_certificate(chain).serial_number:02X}"
