"""Uids and the burn: who gets which uid, what registration costs, how subnets come to be.

Burn and pruning follow the registration rules 1-3 measured on subtensor spec 293.
"""

from __future__ import annotations

from dataclasses import replace

from template.localnet.errors import module_error
from template.localnet.state import MAX_U16, ROOT_NETUID, AccountId, ChainState, Hyperparameters, Subnet

_FIXED_BITS = 18
_SYMBOLS = "ταβγδεζηθικλμνξοπρστυφχψω"


def next_burn(burn: int, registrations: int, target: int, alpha_u64: int, low: int, high: int) -> int:
    """Burn after an adjustment interval with ``registrations`` of ``target`` (rao; ``alpha_u64`` is a / 2^64).

    New burn = a x old + (1 - a) x old x (registrations + target) / (2 x target), kept within ``low``..``high``.
    """
    keep = (alpha_u64 << _FIXED_BITS) // (2**64 - 1)  # the runtime's fixed point has 18 fraction bits
    moved = burn * (registrations + target) // (2 * target)
    mixed = (keep * burn + ((1 << _FIXED_BITS) - keep) * moved) >> _FIXED_BITS
    return max(low, min(high, mixed))


def adjust_burn(subnet: Subnet, block: int) -> None:
    """Start-of-block step: per-block counter, and once per interval the burn (rule 1)."""
    subnet.registrations_this_block = 0
    params = subnet.params
    if block - subnet.last_adjustment_block < params.adjustment_interval:
        return
    count, burned = subnet.registrations_this_interval, subnet.burn_registrations_this_interval
    if count > params.target_registrations or burned == 0:
        subnet.burn = next_burn(
            subnet.burn, count, params.target_registrations, params.adjustment_alpha, params.min_burn, params.max_burn
        )
    subnet.registrations_this_interval = 0
    subnet.burn_registrations_this_interval = 0
    subnet.last_adjustment_block = block


def prune_candidate(subnet: Subnet, block: int) -> int | None:
    """Uid that a full subnet gives away, None if it holds only its owner (rule 2).

    Lowest score among the non-immune (else among the immune), earliest registration on a tie, then lowest uid; the
    owner hotkey is skipped and permits protect nobody.
    """

    def order(uid: int) -> tuple[int, int, int]:
        return (subnet.pruning_scores[uid], subnet.block_at_registration[uid], uid)

    candidates = [uid for uid, hotkey in enumerate(subnet.keys) if hotkey != subnet.owner_hotkey]
    if not candidates:
        return None
    age_limit = subnet.params.immunity_period
    mortal = [uid for uid in candidates if block - subnet.block_at_registration[uid] >= age_limit]
    return min(mortal or candidates, key=order)


def _append(subnet: Subnet, hotkey: AccountId, block: int) -> int:
    uid = subnet.size
    subnet.keys.append(hotkey)
    subnet.uids[hotkey] = uid
    subnet.block_at_registration.append(block)
    subnet.last_update.append(block)
    subnet.active.append(True)
    subnet.validator_permit.append(False)
    for values in (subnet.consensus, subnet.incentive, subnet.dividends, subnet.emission, subnet.rank, subnet.trust):
        values.append(0)
    subnet.validator_trust.append(0)
    subnet.stake_weight.append(0)
    subnet.pruning_scores.append(MAX_U16)
    subnet.weights.append(())
    subnet.bonds.append(())
    return uid


def _replace(subnet: Subnet, uid: int, hotkey: AccountId, block: int) -> None:
    """Hand a uid over. Last update, permit, weights, rank and validator trust stay until the next epoch (rule 3)."""
    old = subnet.keys[uid]
    subnet.uids.pop(old)
    subnet.axons.pop(old, None)
    subnet.prometheus.pop(old, None)
    subnet.keys[uid] = hotkey
    subnet.uids[hotkey] = uid
    subnet.block_at_registration[uid] = block
    subnet.active[uid] = True
    for values in (subnet.consensus, subnet.incentive, subnet.dividends, subnet.emission, subnet.trust):
        values[uid] = 0
    subnet.pruning_scores[uid] = MAX_U16
    subnet.bonds[uid] = ()


def give_uid(subnet: Subnet, hotkey: AccountId, block: int) -> int | None:
    """Append or replace a neuron; None when a full subnet has nobody to replace (rule 3: the fee is still burned)."""
    if subnet.size < subnet.params.max_uids:
        return _append(subnet, hotkey, block)
    uid = prune_candidate(subnet, block)
    if uid is not None:
        _replace(subnet, uid, hotkey, block)
    return uid


def register_neuron(state: ChainState, coldkey: AccountId, netuid: int, hotkey: AccountId) -> int | None:
    """Burned registration of ``hotkey`` paid by ``coldkey``; returns the uid, or None as :func:`give_uid`.

    Raises DispatchFailure with the pallet error for every refused case.
    """
    if netuid == ROOT_NETUID:
        raise module_error("RegistrationNotPermittedOnRootSubnet")
    subnet = state.subnets.get(netuid)
    if subnet is None:
        raise module_error("SubnetNotExists")
    params = subnet.params
    if not params.registration_allowed:
        raise module_error("SubNetRegistrationDisabled")
    if subnet.registrations_this_block >= params.max_registrations_per_block:
        raise module_error("TooManyRegistrationsThisBlock")
    if subnet.registrations_this_interval >= 3 * params.target_registrations:
        raise module_error("TooManyRegistrationsThisInterval")
    if hotkey in subnet.uids:
        raise module_error("HotKeyAlreadyRegisteredInSubNet")
    if state.owners.get(hotkey, coldkey) != coldkey:
        raise module_error("NonAssociatedColdKey")
    if state.free(coldkey) < subnet.burn:
        raise module_error("NotEnoughBalanceToStake")
    if params.max_uids == 0:
        raise module_error("NoNeuronIdAvailable")
    state.associate(hotkey, coldkey)
    state.withdraw(coldkey, subnet.burn)
    state.total_issuance -= subnet.burn
    subnet.recycled += subnet.burn
    subnet.registrations_this_block += 1
    subnet.registrations_this_interval += 1
    subnet.burn_registrations_this_interval += 1
    return give_uid(subnet, hotkey, state.block)


def create_subnet(
    state: ChainState, coldkey: AccountId, hotkey: AccountId, identity: dict[str, bytes] | None
) -> Subnet:
    """Register a subnet: lock cost and seed fill its pool, the owner hotkey gets uid 0.

    Raises DispatchFailure NonAssociatedColdKey, NetworkTxRateLimitExceeded, CannotAffordLockCost or SubnetLimitReached.
    """
    config = state.config
    if state.owners.get(hotkey, coldkey) != coldkey:
        raise module_error("NonAssociatedColdKey")
    last = state.last_network_registration
    if last and state.block - last < config.network_rate_limit:
        raise module_error("NetworkTxRateLimitExceeded")
    if state.free(coldkey) < config.subnet_lock_cost:
        raise module_error("CannotAffordLockCost")
    netuid = next(number for number in range(1, len(state.subnets) + 1) if number not in state.subnets)
    if netuid > config.subnet_limit:
        raise module_error("SubnetLimitReached")
    state.associate(hotkey, coldkey)
    state.withdraw(coldkey, config.subnet_lock_cost)
    state.last_network_registration = state.block
    state.total_issuance += config.pool_seed
    depth = config.subnet_lock_cost + config.pool_seed
    subnet = Subnet(
        netuid=netuid,
        owner_coldkey=coldkey,
        owner_hotkey=hotkey,
        registered_at=state.block,
        params=Hyperparameters.genesis(config),
        burn=config.initial_burn,
        symbol=_SYMBOLS[netuid % len(_SYMBOLS)].encode(),
        tao_in=depth,
        alpha_in=depth,
        moving_price=1.0,
        last_adjustment_block=state.block,
        identity=identity,
    )
    _append(subnet, hotkey, state.block)
    state.subnets[netuid] = subnet
    return subnet


def create_root(state: ChainState, coldkey: AccountId) -> Subnet:
    """Netuid 0: it holds TAO stake, has no miners and runs no epochs."""
    params = replace(Hyperparameters.genesis(state.config), max_uids=64, registration_allowed=False)
    subnet = Subnet(
        netuid=ROOT_NETUID,
        owner_coldkey=coldkey,
        owner_hotkey=coldkey,
        registered_at=0,
        params=params,
        burn=state.config.min_burn,
        symbol=_SYMBOLS[0].encode(),
        moving_price=1.0,
        started_at=0,
    )
    state.subnets[ROOT_NETUID] = subnet
    return subnet


def register_root(state: ChainState, coldkey: AccountId, hotkey: AccountId) -> int:
    """Give ``hotkey`` a uid on root; a full root gives away the uid with the least TAO stake if that is less."""
    root = state.subnets[ROOT_NETUID]
    if hotkey in root.uids:
        raise module_error("HotKeyAlreadyRegisteredInSubNet")
    if hotkey not in state.owners:
        raise module_error("HotKeyNotRegisteredInNetwork")
    if state.owners[hotkey] != coldkey:
        raise module_error("NonAssociatedColdKey")
    if root.size < root.params.max_uids:
        return _append(root, hotkey, state.block)
    uid = min(range(root.size), key=lambda number: state.hotkey_stake(root.keys[number], ROOT_NETUID))
    if state.hotkey_stake(root.keys[uid], ROOT_NETUID) >= state.hotkey_stake(hotkey, ROOT_NETUID):
        raise module_error("StakeTooLowForRoot")
    _replace(root, uid, hotkey, state.block)
    return uid
