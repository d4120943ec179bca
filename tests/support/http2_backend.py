"""A backend of HTTP/2 on asyncio and h2 in a thread, which does what a handler says."""
import asyncio
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings


class Request:
    """What one stream was asked: fields, body, trailers; `ended` where all of it came."""

    def __init__(self, connection, number, fields):
        self.connection, self.number, self.fields = connection, number, dict(fields)
        self.pairs = list(fields)
        self.body, self.trailers = b"", {}
        self.ended = asyncio.Event()
        self.reset = None
        self.owed = 0              # bytes whose window was not given back

    async def head(self, status=200, *fields, end=False):
        self.connection.h2.send_headers(self.number, [(b":status", b"%d" % status), *fields], end_stream=end)
        self.connection.flush()

    async def data(self, data: bytes, end=False):
        """Send as windows allow."""
        h2 = self.connection.h2
        while data or end:
            room = min(h2.local_flow_control_window(self.number), h2.max_outbound_frame_size, len(data))
            if data and room <= 0:
                self.connection.window.clear()
                await self.connection.window.wait()
                continue
            last = end and room == len(data)
            h2.send_data(self.number, data[:room], end_stream=last)
            self.connection.flush()
            data = data[room:]
            await self.connection.writer.drain()
            if last:
                return

    async def trail(self, *fields):
        self.connection.h2.send_headers(self.number, list(fields), end_stream=True)
        self.connection.flush()

    async def answer(self, body=b"", status=200, *fields):
        await self.head(status, (b"content-length", b"%d" % len(body)), *fields, end=not body)
        if body:
            await self.data(body, end=True)

    def rst(self, code=0):
        self.connection.h2.reset_stream(self.number, code)
        self.connection.flush()

    async def read(self):
        """Wait until the other side has read all that was sent so far: it answers a PING behind it."""
        self.connection.ponged.clear()
        self.connection.h2.ping(b"are you?")
        self.connection.flush()
        await self.connection.ponged.wait()


class Connection:
    def __init__(self, backend, reader, writer):
        self.backend, self.reader, self.writer = backend, reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None,
                                                                       validate_outbound_headers=False))
        self.h2.decoder.max_header_list_size = 1 << 20     # gwfast's limits are what is looked at
        self.requests = {}
        self.window = asyncio.Event()
        self.news = asyncio.Event()
        self.ponged = asyncio.Event()
        self.tasks = set()
        self.closed = False
        self.consume = True        # gives windows back as payload comes

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.writer.write(data)

    def raw(self, data: bytes):
        """Send bytes behind h2's back."""
        self.flush()
        self.writer.write(data)

    async def serve(self):
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values={
            h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100, **self.backend.settings})
        self.h2.initiate_connection()
        self.flush()
        try:
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(data):
                    self.on(event)
                self.flush()
                await self.writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        except h2.exceptions.ProtocolError as error:
            self.backend.failures.append(repr(error))
        finally:
            self.closed = True
            self.window.set()
            for task in self.tasks:
                task.cancel()
            self.writer.close()

    def on(self, event):
        number = getattr(event, "stream_id", None)
        request = self.requests.get(number)
        if isinstance(event, h2.events.RequestReceived):
            request = self.requests[number] = Request(self, number, event.headers)
            self.backend.requests.append(request)
            task = asyncio.ensure_future(self.handle(request))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif isinstance(event, h2.events.DataReceived):
            request.body += event.data
            if not self.consume:
                request.owed += event.flow_controlled_length
            elif event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, h2.events.TrailersReceived):
            request.trailers = dict(event.headers)
        elif isinstance(event, h2.events.StreamReset):
            if request is not None:
                request.reset = event.error_code
                request.ended.set()
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            self.window.set()
        elif isinstance(event, h2.events.PingAckReceived):
            self.ponged.set()
        self.news.set()
        if isinstance(event, h2.events.StreamEnded):
            request.ended.set()

    async def handle(self, request):
        try:
            await self.backend.handler(request)
        except (h2.exceptions.ProtocolError, ConnectionError, asyncio.CancelledError):
            pass                   # the stream or the connection has ended meanwhile
        except Exception as error:
            self.backend.failures.append(repr(error))


class Http2Backend:
    """Listens at once; `handler(request)` is a coroutine function; `settings` are those that h2 knows by number."""

    def __init__(self, handler, settings=None, tls=None):
        self.handler, self.settings, self.tls = handler, settings or {}, tls
        self.requests, self.connections, self.failures = [], [], []
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.ready.wait(5)

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(
            lambda reader, writer: self.accept(reader, writer), "127.0.0.1", 0, backlog=512, ssl=self.tls))
        self.port = self.server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self.end())
        self.loop.close()

    async def accept(self, reader, writer):
        self.connections.append(Connection(self, reader, writer))
        await self.connections[-1].serve()

    async def end(self):
        self.server.close()
        for connection in self.connections:
            connection.writer.transport.abort()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(0.01)      # transports end in the loop's next turns

    def do(self, work, *args):
        """Call something in the backend's thread; what it returned."""
        done = threading.Event()
        got = []

        def call():
            got.append(work(*args))
            done.set()

        self.loop.call_soon_threadsafe(call)
        assert done.wait(5)
        return got[0]

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        assert not self.thread.is_alive()
