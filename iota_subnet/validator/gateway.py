"""The border: verified synapses and messages come in, events go to the core. Only here are a miner's words doubted.

Signature, receiver, freshness and sequence were checked by the axon and the channel; what is checked here is meaning:
digests look like digests, texts have a length, and blobs lie where the miner said that it serves them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
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
from iota_subnet.core.state import Miner, RunState
from iota_subnet.protocol import Join, Leave, Standing
from iota_subnet.spec import BlobRef, RunSpec
from iota_subnet.train import transcript
from iota_subnet.validator.standing import standing
from iota_subnet.wire.blobs import is_digest
from iota_subnet.wire.channel import ChannelError
from iota_subnet.wire.places import keeper
from iota_subnet.wire.signing import SIGNATURE_BYTES, Clock, Verifier

STARTING = "the validator is starting, try again in a moment"

#: Characters of a hotkey, and of a text that a miner wrote.
MAX_HOTKEY = 64
MAX_REASON = 200

#: Characters of a bucket's address: with the path of a blob it must still be a short URL.
MAX_DATA_URL = 200

#: Ends of names that mean nothing to others, or something else.
_LOCAL = (".local", ".localhost", ".internal", ".lan", ".home.arpa")

#: More losses than this in one receipt would be a microbatch of more samples than fit into a frame.
MAX_LOSSES = 4096


class Gateway:
    """Handlers for the axon and the channel of one validator.

    `announced(hotkey)` is the address that the chain knows, None for a hotkey that is not registered. Nobody comes in
    before `opened` is set: a miner that came earlier would find a run that has not begun, or not begun again.
    `relayed(hotkey)` is the data URL of a miner without an open port, "" where nothing is relayed; `obeyed` hears what
    such a miner answers to its orders.
    """

    def __init__(
        self,
        spec: RunSpec,
        channel_url: Callable[[], str],
        miner_of: Callable[[str], Miner | None],
        announced: Callable[[str], str | None],
        post: Callable[[Event], list[Action]],
        clock: Clock,
        state: Callable[[], RunState],
        verify: Verifier,
        relayed: Callable[[str], str] = lambda hotkey: "",
        obeyed: Callable[[str, m.Obeyed], object] = lambda hotkey, message: None,
    ) -> None:
        self._relayed = relayed
        self._obeyed = obeyed
        self.opened = False
        self._run = spec.digest()
        self._verify = verify
        self._spec = spec
        self._channel_url = channel_url
        self._miner_of = miner_of
        self._announced = announced
        self._post = post
        self._clock = clock
        self._state = state

    # The axon

    def who(self, hotkey: str) -> str | None:
        """Whom the axon serves: every hotkey of the subnet."""
        if not self.opened:
            return STARTING
        return None if self._announced(hotkey) is not None else "the hotkey is not registered on this subnet"

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
                axon=f"{synapse.axon_ip}:{synapse.axon_port}" if synapse.axon_port else "",
                data_url=synapse.data_url or self._relayed(hotkey),
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
        hotkey = synapse.dendrite.hotkey
        reasons: list[str] = []
        if self._miner_of(hotkey) is not None:
            actions = self._post(MinerLeft(at=self._clock(), hotkey=hotkey, drain=synapse.drain))
            reasons = [a.reason for a in actions if isinstance(a, Refuse) and a.hotkey == hotkey]
        synapse.accepted, synapse.needed_for = not reasons, "".join(reasons[:1])
        return synapse

    async def standing(self, synapse: Standing) -> Standing:
        """A miner asks how it stands; what it sent as its standing is not looked at. No event: nothing changes."""
        assert synapse.dendrite is not None and synapse.dendrite.hotkey is not None
        synapse.report = standing(self._state(), synapse.dendrite.hotkey, self._clock())
        return synapse

    def _why_not(self, synapse: Join) -> str:
        if synapse.spec_version != SPEC_VERSION:
            return (
                f"spec version {synapse.spec_version} does not match this run's {SPEC_VERSION}; "
                "install the same release as the validator"
            )
        caller = synapse.dendrite
        assert caller is not None and caller.hotkey is not None
        if not synapse.axon_port:
            if not self._relayed(caller.hotkey):
                return "this validator relays nothing; open a port and announce it with --axon.external_ip"
            known = {caller.ip, self._announced(caller.hotkey)}
            return _why_no_bucket(synapse.data_url, caller.hotkey, known) if synapse.data_url else ""
        if not synapse.data_url:
            return "a miner names both its addresses, axon and data, or no axon (--blobs.relay, --blobs.bucket)"
        # Else a miner could make others call a third party.
        if _address_of(synapse.data_url) != synapse.axon_ip:
            return "data_url must be http://IP:PORT on the same IP address as the axon"
        if synapse.axon_ip not in (caller.ip, self._announced(caller.hotkey)):
            return (
                f"{synapse.axon_ip} is neither the address that you call from nor the one that the chain knew of you "
                "when this validator last looked; announce it with --axon.external_ip, this is tried again, or let the "
                "validator relay (--blobs.relay)"
            )
        return ""

    # The channel

    def admits(self, hotkey: str) -> str | None:
        """Whose work channel is accepted: miners with a seat."""
        if not self.opened:
            return STARTING
        return None if self._miner_of(hotkey) is not None else "join first"

    def connected(self, hotkey: str) -> None:
        """A miner's work channel is open."""
        self._post(MinerConnected(at=self._clock(), hotkey=hotkey))

    def disconnected(self, hotkey: str, reason: str) -> None:
        """A miner's work channel is closed, and why."""
        self._post(MinerDisconnected(at=self._clock(), hotkey=hotkey, reason=plain(reason)))

    def message(self, hotkey: str, message: m.FromMiner) -> None:
        """One verified message. Raises ChannelError, which ends the connection, for one that makes no sense."""
        if isinstance(message, m.Obeyed):
            self._obeyed(hotkey, message)
            return
        miner = self._miner_of(hotkey)
        if miner is not None:
            self._post(self._event(miner, message))

    def _event(self, miner: Miner, message: m.FromMiner) -> Event:
        at, hotkey = self._clock(), miner.hotkey
        match message:
            case m.Receipt():
                output = self._located(miner, message.output) if message.output is not None else None
                _need(len(message.losses) <= MAX_LOSSES, f"{len(message.losses)} losses")
                return LeaseFinished(
                    at=at,
                    hotkey=hotkey,
                    lease=message.lease,
                    output=output,
                    losses=message.losses,
                    seconds=message.seconds,
                    inner_step=message.inner_step,
                )
            case m.Failure():
                _need(message.digest == "" or is_digest(message.digest), "a digest that is none")
                return LeaseFailed(
                    at=at,
                    hotkey=hotkey,
                    lease=message.lease,
                    kind=message.kind,
                    digest=message.digest,
                    reason=plain(message.reason),
                )
            case m.Installed():
                _need(is_digest(message.digest) and is_digest(message.manifest), "a digest that is none")
                return StageInstalled(
                    at=at,
                    hotkey=hotkey,
                    stage=message.stage,
                    epoch=message.epoch,
                    digest=message.digest,
                    manifest=message.manifest,
                )
            case m.Committed():
                _need(len(message.shards) <= m.MAX_SHARDS, f"{len(message.shards)} shards")
                shards = tuple(self._located(miner, made) for made in message.shards)
                told = self._signed(miner, message, tuple(shard.digest for shard in shards))
                return ShardsCommitted(
                    at=at,
                    hotkey=hotkey,
                    stage=message.stage,
                    epoch=message.epoch,
                    shards=shards,
                    transcript=told,
                    signature=message.signature if told is not None else "",
                )
            case m.Fetched():
                _need(len(message.have) <= self._spec.swarm.max_miners, f"{len(message.have)} contributors")
                _need(len(message.missed) <= self._spec.swarm.max_miners, f"{len(message.missed)} contributors missed")
                named = [*message.have, *(hotkey for hotkey, _ in message.missed)]
                _need(all(len(hotkey) <= MAX_HOTKEY for hotkey in named), "a hotkey that is none")
                return ShardFetched(
                    at=at,
                    hotkey=hotkey,
                    stage=message.stage,
                    epoch=message.epoch,
                    shard=message.shard,
                    have=message.have,
                    missed=tuple((hotkey, plain(reason)) for hotkey, reason in message.missed),
                )
            case m.Reduced():
                return ShardReduced(
                    at=at,
                    hotkey=hotkey,
                    stage=message.stage,
                    epoch=message.epoch,
                    shard=message.shard,
                    mean=self._located(miner, message.mean),
                    weights=self._located(miner, message.weights),
                    momentum=self._located(miner, message.momentum),
                )
        raise ChannelError("bad_message", type(message).__name__)

    def _signed(self, miner: Miner, message: m.Committed, shards: tuple[str, ...]) -> BlobRef | None:
        """The transcript, if it is signed: an unsigned word is no word, an audit could hold nobody to it."""
        if message.transcript is None:
            return None
        told = self._located(miner, message.transcript)
        line = transcript.line(self._run, message.stage, message.epoch, told.digest, shards)
        _need(len(message.signature) == 2 * SIGNATURE_BYTES, "a signature that is none")
        try:
            signature = bytes.fromhex(message.signature)
        except ValueError:
            raise ChannelError("bad_message", "a signature that is none") from None
        return told if self._verify(miner.hotkey, line, signature) else None

    def _located(self, miner: Miner, made: m.Made) -> BlobRef:
        """Where a miner's blob lies, by what it told at `Join`."""
        within = is_digest(made.digest) and 0 < made.nbytes <= self._spec.swarm.max_blob_bytes
        _need(within, "a blob reference outside the limits")
        return BlobRef(made.digest, made.nbytes, (f"{miner.data_url}/v1/blobs/{made.digest}",))


def _need(truth: bool, what: str) -> None:
    if not truth:
        raise ChannelError("bad_message", what)


def plain(text: str) -> str:
    """What a stranger wrote, as one short line that can be kept and shown."""
    return "".join(char if char.isprintable() else " " for char in text[:MAX_REASON])


def _why_no_bucket(url: str, hotkey: str, known: Collection[str | None]) -> str:
    """Why others will not be sent to a place that a miner without a port names; "" for one that is good.

    By https nobody is called who has no certificate for that name, which is never a machine of somebody's own network;
    what is asked for there is a digest, in a folder of this miner's hotkey, and no ticket is shown.
    """
    if keeper(url) != hotkey or len(url) > MAX_DATA_URL:
        return "data_url of a bucket ends with /HOTKEY/ and 32 hex digits, 200 characters in all"
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # A last label without a letter is an address in disguise (127.1), or none at all.
        name, _, top = host.rpartition(".")
        public = bool(name) and top[:1].isalpha() and not host.endswith(_LOCAL)
        named = parts.scheme == "https" and parts.netloc == host and public
        return "" if named else "a bucket is read by https at a public name, on the usual port (--blobs.bucket_url)"
    return (
        "" if host in known else f"a bucket at an address must be at your own, and {host} is not (--blobs.bucket_url)"
    )


def _address_of(url: str) -> str | None:
    """The IP address in http://IP:PORT; None for anything else, a host name among them."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        ipaddress.ip_address(host)
        shown = f"[{host}]" if ":" in host else host
        return host if url == f"http://{shown}:{parts.port}" else None
    except ValueError:
        return None
