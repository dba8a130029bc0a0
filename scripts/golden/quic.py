"""Plays QUIC with aioquic for the golden captures.

    quic.py serve PORT CERTIFICATE KEY [ALPN] [retry]
    quic.py ask PORT AUTHORITY ALPN FIRST WANTED[,WANTED]   the version of the first packet, and
                                                            those that are offered, best first

The server answers a stream with its bytes reversed, or as HTTP/3 where the ALPN name is h3; the
client prints the answer, or what failed.
"""

import asyncio
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion

VERSIONS = {"1": QuicProtocolVersion.VERSION_1, "2": QuicProtocolVersion.VERSION_2}


class Web(QuicConnectionProtocol):
    """Answers every request with a word."""

    http = None

    def quic_event_received(self, event):
        self.http = self.http or H3Connection(self._quic)
        for told in self.http.handle_event(event):
            if isinstance(told, HeadersReceived):
                headers = [(b":status", b"200"), (b"content-type", b"text/plain")]
                self.http.send_headers(told.stream_id, headers)
                self.http.send_data(told.stream_id, b"done", end_stream=True)
        self.transmit()


async def answer(reader, writer):
    asked = await reader.read()
    writer.write(asked[::-1])
    writer.write_eof()


async def run_server(port, certificate, key, alpn, *options):
    configuration = QuicConfiguration(is_client=False, alpn_protocols=alpn.split(","))
    configuration.supported_versions = [VERSIONS["2"], VERSIONS["1"]]
    configuration.load_cert_chain(certificate, key)

    def handle(reader, writer):
        asyncio.ensure_future(answer(reader, writer))

    await serve(
        "127.0.0.1",
        int(port),
        configuration=configuration,
        create_protocol=Web if alpn == "h3" else QuicConnectionProtocol,
        stream_handler=handle,
        retry="retry" in options,
    )
    await asyncio.Event().wait()


async def run_client(port, authority, alpn, first, wanted):
    configuration = QuicConfiguration(alpn_protocols=alpn.split(","), server_name="server.golden")
    configuration.load_verify_locations(authority)
    configuration.supported_versions = [VERSIONS[v] for v in wanted.split(",")]
    configuration.original_version = VERSIONS[first]
    try:
        async with connect("127.0.0.1", int(port), configuration=configuration) as protocol:
            reader, writer = await protocol.create_stream()
            writer.write(b"hello")
            writer.write_eof()
            print((await reader.read()).decode())
    except ConnectionError as error:
        print("failed", error)


mode, *arguments = sys.argv[1:]
asyncio.run(run_server(*arguments) if mode == "serve" else run_client(*arguments))
