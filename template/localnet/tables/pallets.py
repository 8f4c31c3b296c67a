"""Every served pallet but SubtensorModule (names, indices and types as in subtensor spec 424)."""

PALLETS = """
pallet System 0
storage Account (B AccountId32) -> AccountInfo
  = 0x0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000080
storage BlockHash (T u32) -> H256
storage Number -> u32
storage ParentHash -> H256
storage Events -> Vec<EventRecord>
const BlockHashCount u32 = 2400
const SS58Prefix u16 = 42
call remark 0 { remark: Vec<u8> }
event ExtrinsicSuccess 0 { dispatch_info: DispatchEventInfo }
event ExtrinsicFailed 1 { dispatch_error: DispatchError, dispatch_info: DispatchEventInfo }
event NewAccount 3 { account: AccountId32 }
event KilledAccount 4 { account: AccountId32 }
errors InvalidSpecName, SpecVersionNeedsToIncrease, FailedToExtractRuntimeVersion, NonDefaultComposite,
    NonZeroRefCount, CallFiltered, MultiBlockMigrationsOngoing, NothingAuthorized, Unauthorized

pallet Timestamp 2
storage Now -> u64
const MinimumPeriod u64 = 6000
call set 0 { now: Compact<u64> }

pallet Balances 5
storage TotalIssuance -> u64
const ExistentialDeposit u64 = 500
call transfer_allow_death 0 { dest: MultiAddress, value: Compact<u64> }
call transfer_keep_alive 3 { dest: MultiAddress, value: Compact<u64> }
call transfer_all 4 { dest: MultiAddress, keep_alive: bool }
call force_transfer 2 { source: MultiAddress, dest: MultiAddress, value: Compact<u64> }
event Endowed 0 { account: AccountId32, free_balance: u64 }
event Transfer 2 { from: AccountId32, to: AccountId32, amount: u64 }
event Deposit 7 { who: AccountId32, amount: u64 }
event Withdraw 8 { who: AccountId32, amount: u64 }
errors VestingBalance, LiquidityRestrictions, InsufficientBalance, ExistentialDeposit, Expendability,
    ExistingVestingSchedule, DeadAccount, TooManyReserves, TooManyHolds, TooManyFreezes, IssuanceDeactivated,
    DeltaZero

pallet TransactionPayment 6
event TransactionFeePaid 0 { who: AccountId32, actual_fee: u64, tip: u64 }

pallet Utility 11
const batched_calls_limit u32 = 10922
call batch 0 { calls: Vec<RuntimeCall> }
call batch_all 2 { calls: Vec<RuntimeCall> }
event BatchInterrupted 0 { index: u32, error: DispatchError }
event BatchCompleted 1 ()
event ItemCompleted 3 ()
errors TooManyCalls, InvalidDerivedAccount

pallet Sudo 12
storage Key -> AccountId32 ?
call sudo 0 { call: RuntimeCall }
event Sudid 0 { sudo_result: Result<(), DispatchError> }
errors RequireSudo

pallet Proxy 16
storage Proxies (T AccountId32) -> (BoundedVec<ProxyDefinition>, u64)
storage Announcements (T AccountId32) -> (BoundedVec<Announcement>, u64)
const ProxyDepositBase u64 = 60000000
const ProxyDepositFactor u64 = 33000000
const MaxProxies u32 = 20
const MaxPending u32 = 75
const AnnouncementDepositBase u64 = 36000000
const AnnouncementDepositFactor u64 = 68000000

pallet Commitments 18
storage CommitmentOf (I u16, T AccountId32) -> Registration ?
storage RevealedCommitments (I u16, T AccountId32) -> Vec<(Vec<u8>, u64)> ?
storage LastBondsReset (I u16, T AccountId32) -> u32 ?
call set_commitment 0 { netuid: u16, info: CommitmentInfo }
event Commitment 0 { netuid: u16, who: AccountId32 }
errors TooManyFieldsInCommitmentInfo, AccountNotAllowedCommit, SpaceLimitExceeded, UnexpectedUnreserveLeftover

pallet AdminUtils 19
call sudo_set_tempo 30 { netuid: u16, tempo: u16 }
call sudo_set_weights_set_rate_limit 7 { netuid: u16, weights_set_rate_limit: u64 }
call sudo_set_commit_reveal_weights_enabled 49 { netuid: u16, enabled: bool }
call sudo_set_immunity_period 13 { netuid: u16, immunity_period: u16 }
call sudo_set_max_allowed_uids 15 { netuid: u16, max_allowed_uids: u16 }
call sudo_set_min_burn 22 { netuid: u16, min_burn: u64 }
call sudo_set_max_burn 23 { netuid: u16, max_burn: u64 }
call sudo_set_activity_cutoff 18 { netuid: u16, activity_cutoff: u16 }
call sudo_set_kappa 16 { netuid: u16, kappa: u16 }
call sudo_set_serving_rate_limit 3 { netuid: u16, serving_rate_limit: u64 }
call sudo_set_min_allowed_weights 14 { netuid: u16, min_allowed_weights: u16 }
call sudo_set_weights_version_key 6 { netuid: u16, weights_version_key: u64 }
call sudo_set_max_allowed_validators 25 { netuid: u16, max_allowed_validators: u16 }
call sudo_set_bonds_moving_average 26 { netuid: u16, bonds_moving_average: u64 }
call sudo_set_target_registrations_per_interval 21 { netuid: u16, target_registrations_per_interval: u16 }
call sudo_set_max_registrations_per_block 27 { netuid: u16, max_registrations_per_block: u16 }
call sudo_set_network_registration_allowed 19 { netuid: u16, registration_allowed: bool }
call sudo_set_adjustment_interval 8 { netuid: u16, adjustment_interval: u16 }
call sudo_set_adjustment_alpha 9 { netuid: u16, adjustment_alpha: u64 }
call sudo_set_liquid_alpha_enabled 50 { netuid: u16, enabled: bool }
call sudo_set_alpha_values 51 { netuid: u16, alpha_low: u16, alpha_high: u16 }
call sudo_set_commit_reveal_weights_interval 57 { netuid: u16, interval: u64 }
call sudo_set_bonds_penalty 60 { netuid: u16, bonds_penalty: u16 }
call sudo_set_alpha_sigmoid_steepness 68 { netuid: u16, steepness: i16 }
call sudo_set_yuma3_enabled 69 { netuid: u16, enabled: bool }
call sudo_set_bonds_reset_enabled 70 { netuid: u16, enabled: bool }
call sudo_set_toggle_transfer 61 { netuid: u16, toggle: bool }
call sudo_set_sn_owner_hotkey 67 { netuid: u16, hotkey: AccountId32 }
call sudo_set_owner_cut_enabled 92 { netuid: u16, enabled: bool }
call sudo_set_rho 17 { netuid: u16, rho: u16 }
errors SubnetDoesNotExist, MaxValidatorsLargerThanMaxUIds, MaxAllowedUIdsLessThanCurrentUIds,
    BondsMovingAverageMaxReached, NegativeSigmoidSteepness, ValueNotInBounds, MinAllowedUidsGreaterThanCurrentUids,
    MinAllowedUidsGreaterThanMaxAllowedUids, MaxAllowedUidsLessThanMinAllowedUids,
    MaxAllowedUidsGreaterThanDefaultMaxAllowedUids, InvalidValue, NotPermittedOnRootSubnet, POWRegistrationDisabled,
    Deprecated

pallet Drand 26
storage LastStoredRound -> u64

pallet Swap 28

pallet MevShield 30
storage CurrentKey -> BoundedVec<u8> ?
storage NextKey -> BoundedVec<u8> ?
call submit_encrypted 1 { ciphertext: BoundedVec<u8> }
event EncryptedSubmitted 0 { id: H256, who: AccountId32 }
errors BadEncKeyLen, Unreachable, TooManyPendingExtrinsics, WeightExceedsAbsoluteMax

pallet Aura 3
const SlotDuration u64 = 12000
"""
