"""Emission per block and its payout at epochs.

Per block a started subnet mints 1 alpha (owner cut set aside) and gets a price-weighted share of 1 TAO for its pool;
at its epoch block :mod:`template.localnet.yuma` decides who is paid. Simplified against the real runtime: no halving,
no TAO-flow shares, no root sale (root stake counts as stake weight and is paid in alpha).
"""

from __future__ import annotations

from template.localnet.children import apply_pending, counted_stake, split_dividend
from template.localnet.economy import alpha_price
from template.localnet.fixed import BITS, ONE, mul
from template.localnet.state import MAX_U16, ROOT_NETUID, AccountId, ChainState, Subnet
from template.localnet.weighing import reveal_due
from template.localnet.yuma import EpochInput, EpochResult, run_epoch

BLOCK_EMISSION = 10**9  # rao, both of TAO over all subnets and of alpha per subnet


def is_epoch_block(block: int, netuid: int, tempo: int) -> bool:
    """Epoch rule 1: the period is tempo + 1 blocks, shifted by netuid."""
    return (block + netuid + 1) % (tempo + 1) == tempo


def next_epoch_block(block: int, netuid: int, tempo: int) -> int:
    """First epoch block after ``block``."""
    ahead = (tempo - (block + 1 + netuid + 1)) % (tempo + 1)
    return block + 1 + ahead


def mint(state: ChainState) -> None:
    """One block's emission for every started subnet."""
    running = [s for s in state.subnets.values() if s.started_at is not None and not s.is_root]
    prices = sum(subnet.moving_price for subnet in running)
    for subnet in running:
        tao = int(BLOCK_EMISSION * subnet.moving_price / prices) if prices > 0 else 0
        price = (subnet.tao_in << BITS) // subnet.alpha_in if subnet.alpha_in else 0
        alpha = min((tao << BITS) // price, BLOCK_EMISSION) if price else 0
        if not subnet.params.registration_allowed:
            tao = 0
        subnet.tao_in += tao
        subnet.alpha_in += alpha
        subnet.alpha_out += BLOCK_EMISSION
        subnet.tao_in_emission, subnet.alpha_in_emission = tao, alpha
        subnet.alpha_out_emission = BLOCK_EMISSION
        state.total_issuance += tao
        # both parts are rounded down, so one rao is lost, as on the real chain
        cut = state.config.owner_cut if subnet.params.owner_cut else 0
        subnet.pending_owner_cut += BLOCK_EMISSION * cut // MAX_U16
        subnet.pending_emission += BLOCK_EMISSION * (MAX_U16 - cut) // MAX_U16
        _move_price(state, subnet)


def _move_price(state: ChainState, subnet: Subnet) -> None:
    """Moving price of at most 1, slow for a young subnet, as the real runtime has it."""
    age = max(state.block - (subnet.started_at or 0), 0)
    weight = mul(int(state.config.moving_price_alpha * ONE), (age << BITS) // (age + state.config.price_halving_blocks))
    before, price = int(subnet.moving_price * ONE), int(min(alpha_price(subnet), 1.0) * ONE)
    subnet.moving_price = (mul(weight, price) + mul(ONE - weight, before)) / ONE


def run_due_epochs(state: ChainState) -> list[int]:
    """Run the epoch of every subnet due at ``state.block``; returns their netuids."""
    due = [subnet for subnet in state.subnets.values() if not subnet.is_root and _is_due(state.block, subnet)]
    for subnet in due:
        run_subnet_epoch(state, subnet)
    return [subnet.netuid for subnet in due]


def _is_due(block: int, subnet: Subnet) -> bool:
    return block == subnet.pending_epoch_at or is_epoch_block(block, subnet.netuid, subnet.params.tempo)


def epoch_input(state: ChainState, subnet: Subnet) -> EpochInput:
    """What the epoch of ``subnet`` reads now."""
    params = subnet.params
    return EpochInput(
        block=state.block,
        tempo=params.tempo,
        kappa=params.kappa,
        bonds_moving_avg=params.bonds_moving_avg,
        bonds_penalty=params.bonds_penalty,
        activity_cutoff=params.activity_cutoff,
        max_validators=params.max_validators,
        stake_threshold=state.config.stake_threshold,
        tao_weight=state.config.tao_weight,
        owner_uid=subnet.uids.get(subnet.owner_hotkey),
        emission=subnet.pending_emission,
        alpha_stake=[counted_stake(state, subnet, hotkey, subnet.netuid) for hotkey in subnet.keys],
        root_stake=[counted_stake(state, subnet, hotkey, ROOT_NETUID) for hotkey in subnet.keys],
        last_update=subnet.last_update,
        block_at_registration=subnet.block_at_registration,
        validator_permit=subnet.validator_permit,
        weights=subnet.weights,
        bonds=subnet.bonds,
        yuma3=params.yuma3,
        liquid_alpha=params.liquid_alpha,
        alpha_low=params.alpha_low,
        alpha_high=params.alpha_high,
        alpha_sigmoid_steepness=params.alpha_sigmoid_steepness,
    )


def _store(subnet: Subnet, result: EpochResult) -> None:
    subnet.active = result.active
    subnet.validator_permit = result.validator_permit
    subnet.stake_weight = result.stake_weight
    subnet.consensus = result.consensus
    subnet.incentive = result.incentive
    subnet.dividends = result.dividends
    subnet.rank = result.rank
    subnet.trust = result.trust
    subnet.validator_trust = result.validator_trust
    subnet.pruning_scores = result.pruning_scores
    subnet.bonds = result.bonds
    subnet.emission = result.emission


def run_subnet_epoch(state: ChainState, subnet: Subnet) -> None:
    """Consensus, payout and reset of the pending amounts."""
    reveal_due(state, subnet)
    apply_pending(state, subnet)
    if subnet.size:
        result = run_epoch(epoch_input(state, subnet))
        _store(subnet, result)
        pay_neurons(state, subnet, result.server_emission, result.validator_emission)
    owner = state.owners.get(subnet.owner_hotkey, subnet.owner_coldkey)
    state.change_stake(subnet.owner_hotkey, owner, subnet.netuid, subnet.pending_owner_cut)
    subnet.pending_emission = 0
    subnet.pending_owner_cut = 0
    subnet.last_step_block = state.block
    subnet.epoch_index += 1
    subnet.pending_epoch_at = 0


def pay_neurons(state: ChainState, subnet: Subnet, server: list[int], validator: list[int]) -> None:
    """Pay emissions (rao of alpha per uid): incentive to the owner of the hotkey, dividends by :func:`pay_dividend`."""
    subnet.alpha_dividends = {}
    for uid, hotkey in enumerate(list(subnet.keys)):
        incentive = server[uid]
        if incentive and hotkey != subnet.owner_hotkey:  # the incentive of the owner is paid to nobody
            owner = state.owners[hotkey]
            state.change_stake(state.auto_stake.get((owner, subnet.netuid), hotkey), owner, subnet.netuid, incentive)
        for receiver, part in split_dividend(state, subnet, hotkey, validator[uid]) if validator[uid] else ():
            paid = pay_dividend(state, subnet.netuid, receiver, part)
            subnet.alpha_dividends[receiver] = subnet.alpha_dividends.get(receiver, 0) + paid


def pay_dividend(state: ChainState, netuid: int, hotkey: AccountId, amount: int) -> int:
    """Take to the owner first, the rest by share of stake including that take; returns the part without the take."""
    owner = state.owners[hotkey]
    take = amount * state.take_of(hotkey) // MAX_U16
    if take:
        state.change_stake(hotkey, owner, netuid, take)
    rest = amount - take
    holders = state.stakes.get((hotkey, netuid), {})
    total = sum(holders.values())
    if total == 0:
        state.change_stake(hotkey, owner, netuid, rest)
        return rest
    for coldkey, held in list(holders.items()):
        state.change_stake(hotkey, coldkey, netuid, rest * held // total)
    return rest
