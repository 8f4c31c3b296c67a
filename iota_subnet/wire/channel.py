"""The work channel: leases out, receipts in, over one signed websocket per miner. One door to the files behind it.

    frames      what one message looks like and how it is checked       handshake   how two hotkeys meet
    link        one connection, either side                             channel_server, channel_client

Delivery is at most once within a connection, in order, with no replay after a reconnect; the layers above are
idempotent (a lease asked for twice is the same lease), so replay buffers would only add states to go wrong.
"""

from __future__ import annotations

from iota_subnet.wire.channel_client import ChannelClient
from iota_subnet.wire.channel_server import PATH, ChannelServer
from iota_subnet.wire.frames import ChannelError

__all__ = ["PATH", "ChannelClient", "ChannelError", "ChannelServer"]
