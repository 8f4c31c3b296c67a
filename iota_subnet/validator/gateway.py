"""The border: verified synapses and messages come in, events go to the core. Only here are a miner's words doubted.

Signature, receiver, freshness and sequence were checked by the axon and the channel; what is checked here is meaning:
digests look like digests, and blobs lie where the miner said that it serves them.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from iota_subnet import SPEC_VERSION
from iota_subnet import messages as m
from iota_subnet.core.actions import Action, Refuse
from iota_subnet.core.events import (
    Event,
    LeaseFailed,
    LeaseFinished,
    MinerConnected,
    MinerDisconnected,
    MinerJoined,
    MinerLeft,
    ShardFetched,
    ShardReduced,
    ShardsCommitted,
    StageInstalled,
)
from iota_subnet.core.state import Miner
from iota_subnet.protocol import Join, Leave
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.wire.blobs import is_digest
from iota_subnet.wire.channel import ChannelError
from iota_subnet.wire.signing import Clock


class Gateway:
    """Handlers for the axon and the channel of one validator."""

    def __init__(
        self,
        spec: RunSpec,
        channel_url: Callable[[], str],
        miner_of: Callable[[str], Miner | None],
        registered: Callable[[str], bool],
        post: Callable[[Event], list[Action]],
        clock: Clock,
    ) -> None:
        self._spec = spec
        self._channel_url = channel_url
        self._miner_of = miner_of
        self._registered = registered
        self._post = post
        self._clock = clock

    # The axon

    def who(self, hotkey: str) -> str | None:
        """Whom the axon serves: every hotkey of the subnet."""
        return None if self._registered(hotkey) else "the hotkey is not registered on this subnet"

    async def join(self, synapse: Join) -> Join:
        """A miner asks for a seat."""
        assert synapse.dendrite is not None and synapse.dendrite.hotkey is not None
        hotkey = synapse.dendrite.hotkey
        reason = self._why_not(synapse)
        if not reason:
            event = MinerJoined(
                at=self._clock(),
                hotkey=hotkey,
                boot=synapse.boot,
                axon=f"{synapse.axon_ip}:{synapse.axon_port}",
                data_url=synapse.data_url,
            )
            refusals = [a.reason for a in self._post(event) if isinstance(a, Refuse) and a.hotkey == hotkey]
            reason = refusals[0] if refusals else ""
        synapse.accepted, synapse.reason = not reason, reason
        if not reason:
            synapse.spec = self._spec.to_json()
            synapse.channel_url = self._channel_url()
        return synapse

    async def leave(self, synapse: Leave) -> Leave:
        """A miner stops on purpose."""
        assert synapse.dendrite is not None and synapse.dendrite.hotkey is not None
        self._post(MinerLeft(at=self._clock(), hotkey=synapse.dendrite.hotkey))
        synapse.accepted = True
        return synapse

    def _why_not(self, synapse: Join) -> str:
        if synapse.spec_version != SPEC_VERSION:
            return (
                f"spec version {synapse.spec_version} does not match this run's {SPEC_VERSION}; "
                "install the same release as the validator"
            )
        if urlsplit(synapse.data_url).hostname != synapse.axon_ip:
            # Else a miner could make others call a third party.
            return "data_url must be on the same address as the axon"
        return ""

    # The channel

    def admits(self, hotkey: str) -> str | None:
        """Whose work channel is accepted: miners with a seat."""
        return None if self._miner_of(hotkey) is not None else "join first"

    def connected(self, hotkey: str) -> None:
        self._post(MinerConnected(at=self._clock(), hotkey=hotkey))

    def disconnected(self, hotkey: str, reason: str) -> None:
        self._post(MinerDisconnected(at=self._clock(), hotkey=hotkey, reason=reason[:200]))

    def message(self, hotkey: str, message: m.FromMiner) -> None:
        """One verified message. Raises ChannelError, which ends the connection, for one that makes no sense."""
        miner = self._miner_of(hotkey)
        if miner is not None:
            self._post(self._event(miner, message))

    def _event(self, miner: Miner, message: m.FromMiner) -> Event:
        at, hotkey = self._clock(), miner.hotkey
        match message:
            case m.Receipt():
                output = self._located(miner, message.output) if message.output is not None else None
                return LeaseFinished(
                    at=at,
                    hotkey=hotkey,
                    lease=message.lease,
                    output=output,
                    losses=message.losses[:4096],
                    seconds=message.seconds,
                    inner_step=message.inner_step,
                )
            case m.Failure():
                return LeaseFailed(
                    at=at,
                    hotkey=hotkey,
                    lease=message.lease,
                    kind=message.kind,
                    digest=message.digest[:64],
                    reason=message.reason[:200],
                )
            case m.Installed():
                stage, epoch = message.stage, message.epoch
                return StageInstalled(at=at, hotkey=hotkey, stage=stage, epoch=epoch, digest=message.digest[:64])
            case m.Committed():
                if len(message.shards) > m.MAX_SHARDS:
                    raise ChannelError("bad_message", f"{len(message.shards)} shards")
                shards = tuple(self._located(miner, made) for made in message.shards)
                return ShardsCommitted(at=at, hotkey=hotkey, stage=message.stage, epoch=message.epoch, shards=shards)
            case m.Fetched():
                return ShardFetched(
                    at=at,
                    hotkey=hotkey,
                    stage=message.stage,
                    epoch=message.epoch,
                    shard=message.shard,
                    have=message.have[: self._spec.swarm.max_miners],
                )
            case m.Reduced():
                return ShardReduced(
                    at=at,
                    hotkey=hotkey,
                    stage=message.stage,
                    epoch=message.epoch,
                    shard=message.shard,
                    weights=self._located(miner, message.weights),
                    momentum=self._located(miner, message.momentum),
                )
        raise ChannelError("bad_message", type(message).__name__)

    def _located(self, miner: Miner, made: m.Made) -> BlobRef:
        """Where a miner's blob lies, by what it told at `Join`."""
        if not is_digest(made.digest) or not 0 < made.nbytes <= self._spec.swarm.max_blob_bytes:
            raise ChannelError("bad_message", "a blob reference outside the limits")
        return BlobRef(made.digest, made.nbytes, (f"{miner.data_url}/v1/blobs/{made.digest}",))
