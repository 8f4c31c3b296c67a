"""Configuration of the embedded chain: where it listens and the genesis hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass

RAO_PER_TAO = 10**9


@dataclass(frozen=True)
class ChainConfig:
    """Immutable settings. Amounts are rao (1e-9 TAO), periods are blocks, fractions are u16 (65535 = 1.0).

    The defaults suit staging on one machine: no rate limits, cheap registration, plain weights.
    Raises ValueError for values the chain cannot run with.
    """

    host: str = "127.0.0.1"
    port: int = 9944
    block_time: float = 0.25  # seconds
    tempo: int = 20
    weights_rate_limit: int = 0
    serving_rate_limit: int = 0
    network_rate_limit: int = 0
    start_call_delay: int = 0
    commit_reveal: bool = False
    reveal_period: int = 1  # epochs
    yuma3: bool = False
    immunity_period: int = 200
    activity_cutoff: int = 5000
    max_uids: int = 256
    max_validators: int = 64
    min_allowed_weights: int = 1
    kappa: int = 32767
    rho: int = 10
    bonds_moving_avg: int = 900_000  # millionths
    bonds_penalty: int = 65535
    stake_threshold: int = 0
    tao_weight: int = 971_718_665_099_567_868  # fraction of 2^64
    initial_burn: int = RAO_PER_TAO // 10
    min_burn: int = 500_000
    max_burn: int = 100 * RAO_PER_TAO
    adjustment_interval: int = 100
    adjustment_alpha: int = 0  # fraction of 2^64
    target_registrations_per_interval: int = 64
    max_registrations_per_block: int = 64
    subnet_lock_cost: int = 100 * RAO_PER_TAO
    # both sides of a new pool get this besides the lock cost: a shallow pool would turn staging stakes into slippage
    pool_seed: int = 100_000 * RAO_PER_TAO
    subnet_limit: int = 128
    owner_cut: int = 11796
    min_stake: int = 500_000
    existential_deposit: int = 500
    transaction_fee: int = 100_000
    endowment: int = 1_000_000 * RAO_PER_TAO
    moving_price_alpha: float = 0.000003  # weight of the current price in the moving one, once a subnet is old
    price_halving_blocks: int = 201_600  # a subnet of this age has half of that weight
    history_blocks: int = 256
    max_pool: int = 4096

    def __post_init__(self) -> None:
        # 198.18.0.0/15 is for test networks (RFC 2544) and is routed nowhere: network namespaces meet there.
        if self.host not in ("127.0.0.1", "localhost", "::1") and not self.host.startswith(("198.18.", "198.19.")):
            raise ValueError(f"host {self.host!r} is not loopback: this chain must not be reachable from outside")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is out of range")
        if not 0.01 <= self.block_time <= 60:
            raise ValueError(f"block time {self.block_time} is not within 0.01..60 seconds")
        if not 1 <= self.tempo <= 65534:
            raise ValueError(f"tempo {self.tempo} is not within 1..65534")
        if not 1 <= self.max_uids <= 4096:
            raise ValueError(f"max_uids {self.max_uids} is not within 1..4096")
        if not 0 < self.min_burn <= self.initial_burn <= self.max_burn:
            raise ValueError("burn must satisfy 0 < min_burn <= initial_burn <= max_burn")
        if self.history_blocks < 8:
            raise ValueError("history_blocks must be at least 8: clients read a few blocks back")
