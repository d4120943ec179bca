"""Backends of HTTP/2 of random tests."""
import asyncio

from h2.settings import SettingCodes

from support.random_faults import content


def settings(rng):
    return {SettingCodes.MAX_CONCURRENT_STREAMS: rng.choice((1, 2, 5, 100)),
            SettingCodes.INITIAL_WINDOW_SIZE: rng.choice((0, 1, 1000, 65535, 1 << 20)),
            SettingCodes.HEADER_TABLE_SIZE: rng.choice((0, 200, 4096, 65536)),
            SettingCodes.MAX_FRAME_SIZE: rng.choice((16384, 1 << 20))}


def handler(rng, failures):
    async def trouble(request):
        """What a backend may do in the middle of anything; True where the stream is over."""
        connection = request.connection
        dice = rng.random()
        if dice < 0.03:
            request.rst(rng.choice((0, 2, 7, 8)))
        elif dice < 0.05:
            connection.h2.close_connection(0, last_stream_id=rng.choice((0, request.number)))
            connection.flush()
            connection.writer.close()
        elif dice < 0.07:
            connection.writer.transport.abort()
        elif dice < 0.08:
            await asyncio.sleep(30)
        elif dice < 0.09:
            connection.raw(rng.choice((b"\0" * 9, b"nonsense nonsense", b"\0\0\1\0\0\0\0\0\1")))
        elif dice < 0.2:
            connection.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: rng.choice((100, 65535, 1 << 20))})
            connection.flush()
            return False
        elif dice < 0.25:
            await asyncio.sleep(0.05)
            return False
        elif dice < 0.3:
            connection.h2.ping(b"12345678")
            connection.flush()
            return False
        else:
            return False
        return True

    async def serve(request):
        connection = request.connection
        if 0 in connection.backend.settings.values():
            connection.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 5000})
            connection.flush()
        if rng.random() < 0.3 and await trouble(request):
            return
        await request.ended.wait()
        if request.reset is not None:
            return
        token, size, asked = (request.fields[name] for name in (b"token", b"size", b"asked"))
        if request.body != content(token, int(size)):
            failures.append(f"a backend got {request.body[:50]} ({len(request.body)}) for {token} ({size})")
        if rng.random() < 0.3 and await trouble(request):
            return
        answer = content(token, int(asked))
        if rng.random() < 0.2:
            await request.head(103, (b"token", b"none"))
        sized = [(b"content-length", asked)] if rng.random() < 0.5 else []
        if not answer and rng.random() < 0.5:
            await request.head(200, (b"token", token), *sized, end=True)
            return
        await request.head(200, (b"token", token), *sized)
        half = rng.randrange(len(answer) + 1)
        await request.data(answer[:half])
        if rng.random() < 0.2 and await trouble(request):
            return
        trailers = rng.random() < 0.3
        await request.data(answer[half:], end=not trailers)
        if trailers:
            await request.trail((b"after", b"wards"))
    return serve
