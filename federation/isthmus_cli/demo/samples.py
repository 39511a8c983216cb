"""The sample services of the demo: an HTTP echo and a TCP greeter, each a process that can be killed or frozen."""

import argparse
import asyncio
import contextlib
import signal


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, word: bytes) -> None:
    """Answer every request on a kept-alive connection with this sample's name."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (
        len(word) + 1,
        word + b"\n",
    )
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
    writer.close()


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, word: bytes) -> None:
    """Answer every line with a greeting that says who greets."""
    with contextlib.suppress(ConnectionError, ValueError):
        while line := await reader.readline():
            writer.write(b"hello " + line.strip() + b", this is " + word + b"\n")
            await writer.drain()
    writer.close()


async def serve(host: str, http_port: int, tcp_port: int, word: str) -> None:
    """Serve both on one address until told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    text = word.encode()
    http = await asyncio.start_server(lambda r, w: _http(r, w, text), host, http_port, backlog=1024)
    greeter = await asyncio.start_server(lambda r, w: _greet(r, w, text), host, tcp_port, backlog=1024)
    print("ready", flush=True)
    await stop.wait()
    http.close()
    greeter.close()


def main() -> None:
    """Run one sample: `samples.py HOST HTTP_PORT TCP_PORT WORD`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("http_port", type=int)
    parser.add_argument("tcp_port", type=int)
    parser.add_argument("word")
    given = parser.parse_args()
    asyncio.run(serve(given.host, given.http_port, given.tcp_port, given.word))


if __name__ == "__main__":
    main()
