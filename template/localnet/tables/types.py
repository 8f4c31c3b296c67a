"""Named SCALE types of the served interface (names and shapes as in subtensor spec 424)."""

TYPES = """
AccountData = pallet_balances::types::AccountData { free: u64, reserved: u64, frozen: u64, flags: ExtraFlags }
AccountId32 = sp_core::crypto::AccountId32 ([u8; 32])
AccountInfo = frame_system::AccountInfo { nonce: u32, consumers: u32, providers: u32, sufficients: u32,
    data: AccountData }
Announcement = pallet_subtensor_proxy::Announcement { real: AccountId32, call_hash: H256, height: u32 }
ArithmeticError = sp_arithmetic::ArithmeticError [ Underflow, Overflow, DivisionByZero ]
AxonInfo = pallet_subtensor::pallet::AxonInfo { block: u64, version: u32, ip: u128, port: u16, ip_type: u8,
    protocol: u8, placeholder1: u8, placeholder2: u8 }
ChainIdentityV2 = pallet_subtensor::pallet::ChainIdentityV2 { name: Vec<u8>, url: Vec<u8>, github_repo: Vec<u8>,
    image: Vec<u8>, discord: Vec<u8>, description: Vec<u8>, additional: Vec<u8> }
CheckMetadataHashMode = frame_metadata_hash_extension::Mode [ Disabled, Enabled ]
CommitmentInfo = pallet_commitments::types::CommitmentInfo { fields: BoundedVec<Data> }
DelegateInfo = pallet_subtensor::rpc_info::delegate_info::DelegateInfo { delegate_ss58: AccountId32,
    take: Compact<u16>, nominators: Vec<(AccountId32, Vec<(Compact<u16>, Compact<u64>)>)>, owner_ss58: AccountId32,
    registrations: Vec<Compact<u16>>, validator_permits: Vec<Compact<u16>>, return_per_1000: Compact<u64>,
    total_daily_return: Compact<u64> }
Digest = sp_runtime::generic::digest::Digest { logs: Vec<DigestItem> }
DigestItem = sp_runtime::generic::digest::DigestItem [ Other(Vec<u8>), Consensus@4([u8; 4], Vec<u8>), Seal([u8; 4],
    Vec<u8>), PreRuntime([u8; 4], Vec<u8>), RuntimeEnvironmentUpdated@8 ]
DispatchClass = frame_support::dispatch::DispatchClass [ Normal, Operational, Mandatory ]
DispatchError = sp_runtime::DispatchError [ Other, CannotLookup, BadOrigin, Module(ModuleError), ConsumerRemaining,
    NoProviders, TooManyConsumers, Token(TokenError), Arithmetic(ArithmeticError),
    Transactional(TransactionalError), Exhausted, Corruption, Unavailable, RootNotAllowed, Trie(TrieError) ]
DispatchEventInfo = frame_system::DispatchEventInfo { weight: Weight, class: DispatchClass, pays_fee: Pays }
DynamicInfo = pallet_subtensor::rpc_info::dynamic_info::DynamicInfo { netuid: Compact<u16>,
    owner_hotkey: AccountId32, owner_coldkey: AccountId32, subnet_name: Vec<Compact<u8>>,
    token_symbol: Vec<Compact<u8>>, tempo: Compact<u16>, last_step: Compact<u64>,
    blocks_since_last_step: Compact<u64>, emission: Compact<u64>, alpha_in: Compact<u64>, alpha_out: Compact<u64>,
    tao_in: Compact<u64>, alpha_out_emission: Compact<u64>, alpha_in_emission: Compact<u64>,
    tao_in_emission: Compact<u64>, pending_alpha_emission: Compact<u64>, pending_root_emission: Compact<u64>,
    subnet_volume: Compact<u128>, network_registered_at: Compact<u64>, subnet_identity: Option<SubnetIdentityV3>,
    moving_price: I96F32 }
EventRecord = frame_system::EventRecord { phase: Phase, event: RuntimeEvent, topics: Vec<H256> }
ExtraFlags = pallet_balances::types::ExtraFlags (u128)
FixedI64 = substrate_fixed::FixedI64 { bits: i64 }
H256 = primitive_types::H256 ([u8; 32])
HyperparamEntry = pallet_subtensor::rpc_info::subnet_info::HyperparamEntry { name: Vec<u8>, value: HyperparamValue }
HyperparamValue = pallet_subtensor::rpc_info::subnet_info::HyperparamValue [ Bool(bool), U16(Compact<u16>),
    U32(Compact<u32>), U64(Compact<u64>), U128(Compact<u128>), TaoBalance(Compact<u64>), I32F32(FixedI64),
    U64F64(U64F64) ]
I64F64 = substrate_fixed::FixedI128 { bits: i128 }
I96F32 = substrate_fixed::FixedI128 { bits: i128 }
LockState = pallet_subtensor::staking::lock::LockState { locked_mass: u64, conviction: U64F64, last_update: u64 }
Metagraph = pallet_subtensor::rpc_info::metagraph::Metagraph { netuid: Compact<u16>, name: Vec<Compact<u8>>,
    symbol: Vec<Compact<u8>>, identity: Option<SubnetIdentityV3>, network_registered_at: Compact<u64>,
    owner_hotkey: AccountId32, owner_coldkey: AccountId32, block: Compact<u64>, tempo: Compact<u16>,
    last_step: Compact<u64>, blocks_since_last_step: Compact<u64>, subnet_emission: Compact<u64>,
    alpha_in: Compact<u64>, alpha_out: Compact<u64>, tao_in: Compact<u64>, alpha_out_emission: Compact<u64>,
    alpha_in_emission: Compact<u64>, tao_in_emission: Compact<u64>, pending_alpha_emission: Compact<u64>,
    pending_root_emission: Compact<u64>, subnet_volume: Compact<u128>, moving_price: I96F32, rho: Compact<u16>,
    kappa: Compact<u16>, min_allowed_weights: Compact<u16>, max_weights_limit: Compact<u16>,
    weights_version: Compact<u64>, weights_rate_limit: Compact<u64>, activity_cutoff: Compact<u64>,
    max_validators: Compact<u16>, num_uids: Compact<u16>, max_uids: Compact<u16>, burn: Compact<u64>,
    difficulty: Compact<u64>, registration_allowed: bool, pow_registration_allowed: bool,
    immunity_period: Compact<u16>, min_difficulty: Compact<u64>, max_difficulty: Compact<u64>,
    min_burn: Compact<u64>, max_burn: Compact<u64>, adjustment_alpha: Compact<u64>,
    adjustment_interval: Compact<u16>, target_regs_per_interval: Compact<u16>, max_regs_per_block: Compact<u16>,
    serving_rate_limit: Compact<u64>, commit_reveal_weights_enabled: bool, commit_reveal_period: Compact<u64>,
    liquid_alpha_enabled: bool, alpha_high: Compact<u16>, alpha_low: Compact<u16>, bonds_moving_avg: Compact<u64>,
    hotkeys: Vec<AccountId32>, coldkeys: Vec<AccountId32>, identities: Vec<Option<ChainIdentityV2>>,
    axons: Vec<AxonInfo>, active: Vec<bool>, validator_permit: Vec<bool>, pruning_score: Vec<Compact<u16>>,
    last_update: Vec<Compact<u64>>, emission: Vec<Compact<u64>>, dividends: Vec<Compact<u16>>,
    incentives: Vec<Compact<u16>>, consensus: Vec<Compact<u16>>, trust: Vec<Compact<u16>>, rank: Vec<Compact<u16>>,
    block_at_registration: Vec<Compact<u64>>, alpha_stake: Vec<Compact<u64>>, tao_stake: Vec<Compact<u64>>,
    total_stake: Vec<Compact<u64>>, tao_dividends_per_hotkey: Vec<(AccountId32, Compact<u64>)>,
    alpha_dividends_per_hotkey: Vec<(AccountId32, Compact<u64>)> }
ModuleError = sp_runtime::ModuleError { index: u8, error: [u8; 4] }
MultiAddress<AccountId: AccountId32, AccountIndex: ()> = sp_runtime::multiaddress::MultiAddress [ Id(AccountId32),
    Index(Compact<()>), Raw(Vec<u8>), Address32([u8; 32]), Address20([u8; 20]) ]
MultiSignature = sp_runtime::MultiSignature [ Ed25519([u8; 64]), Sr25519([u8; 64]), Ecdsa([u8; 65]) ]
NeuronCertificate = pallet_subtensor::pallet::NeuronCertificate { public_key: BoundedVec<u8>, algorithm: u8 }
NeuronInfo = pallet_subtensor::rpc_info::neuron_info::NeuronInfo { hotkey: AccountId32, coldkey: AccountId32,
    uid: Compact<u16>, netuid: Compact<u16>, active: bool, axon_info: AxonInfo, prometheus_info: PrometheusInfo,
    stake: Vec<(AccountId32, Compact<u64>)>, rank: Compact<u16>, emission: Compact<u64>, incentive: Compact<u16>,
    consensus: Compact<u16>, trust: Compact<u16>, validator_trust: Compact<u16>, dividends: Compact<u16>,
    last_update: Compact<u64>, validator_permit: bool, weights: Vec<(Compact<u16>, Compact<u16>)>,
    bonds: Vec<(Compact<u16>, Compact<u16>)>, pruning_score: Compact<u16> }
NeuronInfoLite = pallet_subtensor::rpc_info::neuron_info::NeuronInfoLite { hotkey: AccountId32,
    coldkey: AccountId32, uid: Compact<u16>, netuid: Compact<u16>, active: bool, axon_info: AxonInfo,
    prometheus_info: PrometheusInfo, stake: Vec<(AccountId32, Compact<u64>)>, rank: Compact<u16>,
    emission: Compact<u64>, incentive: Compact<u16>, consensus: Compact<u16>, trust: Compact<u16>,
    validator_trust: Compact<u16>, dividends: Compact<u16>, last_update: Compact<u64>, validator_permit: bool,
    pruning_score: Compact<u16> }
OpaqueMetadata = sp_core::OpaqueMetadata (Vec<u8>)
Pays = frame_support::dispatch::Pays [ Yes, No ]
Phase = frame_system::Phase [ ApplyExtrinsic(u32), Finalization, Initialization ]
PrometheusInfo = pallet_subtensor::pallet::PrometheusInfo { block: u64, version: u32, ip: u128, port: u16,
    ip_type: u8 }
ProxyDefinition = pallet_subtensor_proxy::ProxyDefinition { delegate: AccountId32, proxy_type: ProxyType, delay: u32
    }
ProxyType = subtensor_runtime_common::ProxyType [ Any, Owner, NonCritical, NonTransfer, Senate, NonFungible,
    Triumvirate, Governance, Staking, Registration, Transfer, SmallTransfer, RootWeights, ChildKeys,
    SudoUncheckedSetCode, SwapHotkey, SubnetLeaseBeneficiary, RootClaim ]
Registration = pallet_commitments::types::Registration { deposit: u64, block: u32, info: CommitmentInfo }
RootClaimTypeEnum = pallet_subtensor::pallet::RootClaimTypeEnum [ Swap, Keep, KeepSubnets { subnets: BTreeSet<u16> }
    ]
RuntimeDispatchInfo = pallet_transaction_payment::types::RuntimeDispatchInfo { weight: Weight, class: DispatchClass,
    partial_fee: u64 }
Runtime = node_subtensor_runtime::Runtime ()
SafeFloat = share_pool::SafeFloat { mantissa: u128, exponent: i64 }
SelectiveMetagraph = pallet_subtensor::rpc_info::metagraph::SelectiveMetagraph { netuid: Compact<u16>,
    name: Option<Vec<Compact<u8>>>, symbol: Option<Vec<Compact<u8>>>, identity: Option<Option<SubnetIdentityV3>>,
    network_registered_at: Option<Compact<u64>>, owner_hotkey: Option<AccountId32>,
    owner_coldkey: Option<AccountId32>, block: Option<Compact<u64>>, tempo: Option<Compact<u16>>,
    last_step: Option<Compact<u64>>, blocks_since_last_step: Option<Compact<u64>>,
    subnet_emission: Option<Compact<u64>>, alpha_in: Option<Compact<u64>>, alpha_out: Option<Compact<u64>>,
    tao_in: Option<Compact<u64>>, alpha_out_emission: Option<Compact<u64>>, alpha_in_emission: Option<Compact<u64>>,
    tao_in_emission: Option<Compact<u64>>, pending_alpha_emission: Option<Compact<u64>>,
    pending_root_emission: Option<Compact<u64>>, subnet_volume: Option<Compact<u128>>, moving_price: Option<I96F32>,
    rho: Option<Compact<u16>>, kappa: Option<Compact<u16>>, min_allowed_weights: Option<Compact<u16>>,
    max_weights_limit: Option<Compact<u16>>, weights_version: Option<Compact<u64>>,
    weights_rate_limit: Option<Compact<u64>>, activity_cutoff: Option<Compact<u64>>,
    max_validators: Option<Compact<u16>>, num_uids: Option<Compact<u16>>, max_uids: Option<Compact<u16>>,
    burn: Option<Compact<u64>>, difficulty: Option<Compact<u64>>, registration_allowed: Option<bool>,
    pow_registration_allowed: Option<bool>, immunity_period: Option<Compact<u16>>,
    min_difficulty: Option<Compact<u64>>, max_difficulty: Option<Compact<u64>>, min_burn: Option<Compact<u64>>,
    max_burn: Option<Compact<u64>>, adjustment_alpha: Option<Compact<u64>>,
    adjustment_interval: Option<Compact<u16>>, target_regs_per_interval: Option<Compact<u16>>,
    max_regs_per_block: Option<Compact<u16>>, serving_rate_limit: Option<Compact<u64>>,
    commit_reveal_weights_enabled: Option<bool>, commit_reveal_period: Option<Compact<u64>>,
    liquid_alpha_enabled: Option<bool>, alpha_high: Option<Compact<u16>>, alpha_low: Option<Compact<u16>>,
    bonds_moving_avg: Option<Compact<u64>>, hotkeys: Option<Vec<AccountId32>>, coldkeys: Option<Vec<AccountId32>>,
    identities: Option<Vec<Option<ChainIdentityV2>>>, axons: Option<Vec<AxonInfo>>, active: Option<Vec<bool>>,
    validator_permit: Option<Vec<bool>>, pruning_score: Option<Vec<Compact<u16>>>,
    last_update: Option<Vec<Compact<u64>>>, emission: Option<Vec<Compact<u64>>>,
    dividends: Option<Vec<Compact<u16>>>, incentives: Option<Vec<Compact<u16>>>,
    consensus: Option<Vec<Compact<u16>>>, trust: Option<Vec<Compact<u16>>>, rank: Option<Vec<Compact<u16>>>,
    block_at_registration: Option<Vec<Compact<u64>>>, alpha_stake: Option<Vec<Compact<u64>>>,
    tao_stake: Option<Vec<Compact<u64>>>, total_stake: Option<Vec<Compact<u64>>>,
    tao_dividends_per_hotkey: Option<Vec<(AccountId32, Compact<u64>)>>,
    alpha_dividends_per_hotkey: Option<Vec<(AccountId32, Compact<u64>)>>, validators: Option<Vec<Compact<u16>>>,
    commitments: Option<Vec<(AccountId32, Vec<Compact<u8>>)>> }
SimSwapResult = pallet_subtensor_swap_runtime_api::SimSwapResult { tao_amount: u64, alpha_amount: u64, tao_fee: u64,
    alpha_fee: u64, tao_slippage: u64, alpha_slippage: u64 }
StakeAvailability = pallet_subtensor::rpc_info::stake_info::StakeAvailability { total: Compact<u64>,
    locked: Compact<u64>, available: Compact<u64> }
StakeInfo = pallet_subtensor::rpc_info::stake_info::StakeInfo { hotkey: AccountId32, coldkey: AccountId32,
    netuid: Compact<u16>, stake: Compact<u64>, locked: Compact<u64>, emission: Compact<u64>,
    tao_emission: Compact<u64>, drain: Compact<u64>, is_registered: bool }
SubnetHyperparamsV2 = pallet_subtensor::rpc_info::subnet_info::SubnetHyperparamsV2 { rho: Compact<u16>,
    kappa: Compact<u16>, immunity_period: Compact<u16>, min_allowed_weights: Compact<u16>,
    max_weights_limit: Compact<u16>, tempo: Compact<u16>, min_difficulty: Compact<u64>,
    max_difficulty: Compact<u64>, weights_version: Compact<u64>, weights_rate_limit: Compact<u64>,
    adjustment_interval: Compact<u16>, activity_cutoff: Compact<u64>, registration_allowed: bool,
    target_regs_per_interval: Compact<u16>, min_burn: Compact<u64>, max_burn: Compact<u64>,
    bonds_moving_avg: Compact<u64>, max_regs_per_block: Compact<u16>, serving_rate_limit: Compact<u64>,
    max_validators: Compact<u16>, adjustment_alpha: Compact<u64>, difficulty: Compact<u64>,
    commit_reveal_period: Compact<u64>, commit_reveal_weights_enabled: bool, alpha_high: Compact<u16>,
    alpha_low: Compact<u16>, liquid_alpha_enabled: bool, alpha_sigmoid_steepness: FixedI64,
    yuma_version: Compact<u16>, subnet_is_active: bool, transfers_enabled: bool, bonds_reset_enabled: bool,
    user_liquidity_enabled: bool }
SubnetIdentityV3 = pallet_subtensor::pallet::SubnetIdentityV3 { subnet_name: Vec<u8>, github_repo: Vec<u8>,
    subnet_contact: Vec<u8>, subnet_url: Vec<u8>, discord: Vec<u8>, description: Vec<u8>, logo_url: Vec<u8>,
    additional: Vec<u8> }
SubnetInfov2 = pallet_subtensor::rpc_info::subnet_info::SubnetInfov2 { netuid: Compact<u16>, rho: Compact<u16>,
    kappa: Compact<u16>, difficulty: Compact<u64>, immunity_period: Compact<u16>,
    max_allowed_validators: Compact<u16>, min_allowed_weights: Compact<u16>, max_weights_limit: Compact<u16>,
    scaling_law_power: Compact<u16>, subnetwork_n: Compact<u16>, max_allowed_uids: Compact<u16>,
    blocks_since_last_step: Compact<u64>, tempo: Compact<u16>, network_modality: Compact<u16>,
    network_connect: Vec<[u16; 2]>, emission_value: Compact<u64>, burn: Compact<u64>, owner: AccountId32,
    identity: Option<SubnetIdentityV3> }
SubnetPrice = pallet_subtensor_swap_runtime_api::SubnetPrice { netuid: u16, price: u64 }
SubnetState = pallet_subtensor::rpc_info::show_subnet::SubnetState { netuid: Compact<u16>,
    hotkeys: Vec<AccountId32>, coldkeys: Vec<AccountId32>, active: Vec<bool>, validator_permit: Vec<bool>,
    pruning_score: Vec<Compact<u16>>, last_update: Vec<Compact<u64>>, emission: Vec<Compact<u64>>,
    dividends: Vec<Compact<u16>>, incentives: Vec<Compact<u16>>, consensus: Vec<Compact<u16>>,
    trust: Vec<Compact<u16>>, rank: Vec<Compact<u16>>, block_at_registration: Vec<Compact<u64>>,
    alpha_stake: Vec<Compact<u64>>, tao_stake: Vec<Compact<u64>>, total_stake: Vec<Compact<u64>>,
    emission_history: Vec<Vec<Compact<u64>>> }
TokenError = sp_runtime::TokenError [ FundsUnavailable, OnlyProvider, BelowMinimum, CannotCreate, UnknownAsset,
    Frozen, Unsupported, CannotCreateHold, NotExpendable, Blocked ]
TransactionalError = sp_runtime::TransactionalError [ LimitReached, NoLayer ]
TrieError = sp_runtime::proving_trie::TrieError [ InvalidStateRoot, IncompleteDatabase, ValueAtIncompleteKey,
    DecoderError, InvalidHash, DuplicateKey, ExtraneousNode, ExtraneousValue, ExtraneousHashReference,
    InvalidChildReference, ValueMismatch, IncompleteProof, RootMismatch, DecodeError ]
U64F64 = substrate_fixed::FixedU128 { bits: u128 }
UncheckedExtrinsic<Address: MultiAddress, Call: RuntimeCall, Signature: MultiSignature,
    Extra: ()> = sp_runtime::generic::unchecked_extrinsic::UncheckedExtrinsic (Vec<u8>)
Weight = sp_weights::weight_v2::Weight { ref_time: Compact<u64>, proof_size: Compact<u64> }
"""
