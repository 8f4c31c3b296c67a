"""Runtime APIs answered by state_call (names and types as in subtensor spec 424)."""

RUNTIME_APIS = """
api Metadata 2
method metadata_at_version (version: u32) -> Option<OpaqueMetadata>
method metadata_versions () -> Vec<u32>
api AccountNonceApi 1
method account_nonce (account: AccountId32) -> u32
api TransactionPaymentApi 4
method query_info (uxt: UncheckedExtrinsic, len: u32) -> RuntimeDispatchInfo
api DelegateInfoRuntimeApi 1
method get_delegates () -> Vec<DelegateInfo>
method get_delegate (delegate_account: AccountId32) -> Option<DelegateInfo>
method get_delegated (delegatee_account: AccountId32) -> Vec<(DelegateInfo, (Compact<u16>, Compact<u64>))>
api NeuronInfoRuntimeApi 1
method get_neurons (netuid: u16) -> Vec<NeuronInfo>
method get_neuron (netuid: u16, uid: u16) -> Option<NeuronInfo>
method get_neurons_lite (netuid: u16) -> Vec<NeuronInfoLite>
method get_neuron_lite (netuid: u16, uid: u16) -> Option<NeuronInfoLite>
api SubnetInfoRuntimeApi 2
method get_subnet_info_v2 (netuid: u16) -> Option<SubnetInfov2>
method get_subnets_info_v2 () -> Vec<Option<SubnetInfov2>>
method get_subnet_hyperparams_v2 (netuid: u16) -> Option<SubnetHyperparamsV2>
method get_subnet_hyperparams_v3 (netuid: u16) -> Option<Vec<HyperparamEntry>>
method get_all_dynamic_info () -> Vec<Option<DynamicInfo>>
method get_dynamic_info (netuid: u16) -> Option<DynamicInfo>
method get_all_metagraphs () -> Vec<Option<Metagraph>>
method get_metagraph (netuid: u16) -> Option<Metagraph>
method get_all_mechagraphs () -> Vec<Option<Metagraph>>
method get_mechagraph (netuid: u16, mecid: u8) -> Option<Metagraph>
method get_subnet_state (netuid: u16) -> Option<SubnetState>
method get_selective_metagraph (netuid: u16, metagraph_indexes: Vec<u16>) -> Option<SelectiveMetagraph>
method get_selective_mechagraph (netuid: u16, subid: u8, metagraph_indexes: Vec<u16>) -> Option<SelectiveMetagraph>
method get_coldkey_auto_stake_hotkey (coldkey: AccountId32, netuid: u16) -> Option<AccountId32>
method get_next_epoch_start_block (netuid: u16) -> Option<u64>
method get_subnet_to_prune () -> Option<u16>
api StakeInfoRuntimeApi 1
method get_stake_info_for_coldkey (coldkey_account: AccountId32) -> Vec<StakeInfo>
method get_stake_info_for_coldkeys (coldkey_accounts: Vec<AccountId32>) -> Vec<(AccountId32, Vec<StakeInfo>)>
method get_stake_info_for_hotkey_coldkey_netuid (hotkey_account: AccountId32, coldkey_account: AccountId32,
    netuid: u16) -> Option<StakeInfo>
method get_stake_availability_for_coldkeys (coldkey_accounts: Vec<AccountId32>, netuids: Option<Vec<u16>>) ->
    BTreeMap<AccountId32, BTreeMap<u16, StakeAvailability>>
method get_stake_fee (origin: Option<(AccountId32, u16)>, origin_coldkey_account: AccountId32,
    destination: Option<(AccountId32, u16)>, destination_coldkey_account: AccountId32, amount: u64) -> u64
method get_coldkey_lock (coldkey: AccountId32, netuid: u16) -> Option<LockState>
method get_hotkey_conviction (hotkey: AccountId32, netuid: u16) -> U64F64
method get_most_convicted_hotkey_on_subnet (netuid: u16) -> Option<AccountId32>
api SubnetRegistrationRuntimeApi 1
method get_network_registration_cost () -> u64
api SwapRuntimeApi 1
method current_alpha_price (netuid: u16) -> u64
method current_alpha_price_all () -> Vec<SubnetPrice>
method sim_swap_tao_for_alpha (netuid: u16, tao: u64) -> SimSwapResult
method sim_swap_alpha_for_tao (netuid: u16, alpha: u64) -> SimSwapResult
"""
