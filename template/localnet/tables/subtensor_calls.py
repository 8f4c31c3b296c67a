"""SubtensorModule: calls, events and errors (names and indices as in subtensor spec 424)."""

SUBTENSOR_CALLS = """
call set_weights 0 { netuid: u16, dests: Vec<u16>, weights: Vec<u16>, version_key: u64 }
call commit_timelocked_weights 113 { netuid: u16, commit: BoundedVec<u8>, reveal_round: u64,
    commit_reveal_version: u16 }
call commit_timelocked_mechanism_weights 118 { netuid: u16, mecid: u8, commit: BoundedVec<u8>, reveal_round: u64,
    commit_reveal_version: u16 }
call set_mechanism_weights 119 { netuid: u16, mecid: u8, dests: Vec<u16>, weights: Vec<u16>, version_key: u64 }
call commit_weights 96 { netuid: u16, commit_hash: H256 }
call reveal_weights 97 { netuid: u16, uids: Vec<u16>, values: Vec<u16>, salt: Vec<u16>, version_key: u64 }
call batch_reveal_weights 98 { netuid: u16, uids_list: Vec<Vec<u16>>, values_list: Vec<Vec<u16>>,
    salts_list: Vec<Vec<u16>>, version_keys: Vec<u64> }
call batch_set_weights 80 { netuids: Vec<Compact<u16>>, weights: Vec<Vec<(Compact<u16>, Compact<u16>)>>,
    version_keys: Vec<Compact<u64>> }
call batch_commit_weights 100 { netuids: Vec<Compact<u16>>, commit_hashes: Vec<H256> }
call commit_mechanism_weights 115 { netuid: u16, mecid: u8, commit_hash: H256 }
call reveal_mechanism_weights 116 { netuid: u16, mecid: u8, uids: Vec<u16>, values: Vec<u16>, salt: Vec<u16>,
    version_key: u64 }
call add_stake 2 { hotkey: AccountId32, netuid: u16, amount_staked: u64 }
call remove_stake 3 { hotkey: AccountId32, netuid: u16, amount_unstaked: u64 }
call serve_axon 4 { netuid: u16, version: u32, ip: u128, port: u16, ip_type: u8, protocol: u8, placeholder1: u8,
    placeholder2: u8 }
call serve_prometheus 5 { netuid: u16, version: u32, ip: u128, port: u16, ip_type: u8 }
call serve_axon_tls 40 { netuid: u16, version: u32, ip: u128, port: u16, ip_type: u8, protocol: u8, placeholder1: u8,
    placeholder2: u8, certificate: Vec<u8> }
call register 6 { netuid: u16, block_number: u64, nonce: u64, work: Vec<u8>, hotkey: AccountId32,
    coldkey: AccountId32 }
call burned_register 7 { netuid: u16, hotkey: AccountId32 }
call register_network 59 { hotkey: AccountId32 }
call register_network_with_identity 79 { hotkey: AccountId32, identity: Option<SubnetIdentityV3> }
call root_register 62 { hotkey: AccountId32 }
call decrease_take 65 { hotkey: AccountId32, take: u16 }
call increase_take 66 { hotkey: AccountId32, take: u16 }
call unstake_all 83 { hotkey: AccountId32 }
call unstake_all_alpha 84 { hotkey: AccountId32 }
call set_children 67 { hotkey: AccountId32, netuid: u16, children: Vec<(u64, AccountId32)> }
call set_childkey_take 75 { hotkey: AccountId32, netuid: u16, take: u16 }
call set_pending_childkey_cooldown 109 { cooldown: u64 }
call set_coldkey_auto_stake_hotkey 114 { netuid: u16, hotkey: AccountId32 }
call move_stake 85 { origin_hotkey: AccountId32, destination_hotkey: AccountId32, origin_netuid: u16,
    destination_netuid: u16, alpha_amount: u64 }
call transfer_stake 86 { destination_coldkey: AccountId32, hotkey: AccountId32, origin_netuid: u16,
    destination_netuid: u16, alpha_amount: u64 }
call swap_stake 87 { hotkey: AccountId32, origin_netuid: u16, destination_netuid: u16, alpha_amount: u64 }
call add_stake_limit 88 { hotkey: AccountId32, netuid: u16, amount_staked: u64, limit_price: u64,
    allow_partial: bool }
call remove_stake_limit 89 { hotkey: AccountId32, netuid: u16, amount_unstaked: u64, limit_price: u64,
    allow_partial: bool }
call remove_stake_full_limit 103 { hotkey: AccountId32, netuid: u16, limit_price: Option<u64> }
call swap_stake_limit 90 { hotkey: AccountId32, origin_netuid: u16, destination_netuid: u16, alpha_amount: u64,
    limit_price: u64, allow_partial: bool }
call try_associate_hotkey 91 { hotkey: AccountId32 }
call start_call 92 { netuid: u16 }
call register_limit 134 { netuid: u16, hotkey: AccountId32, limit_price: u64 }
call set_tempo 139 { netuid: u16, tempo: u16 }
call set_activity_cutoff_factor 140 { netuid: u16, factor_milli: u32 }
call trigger_epoch 141 { netuid: u16 }
call set_subnet_identity 78 { netuid: u16, subnet_name: Vec<u8>, github_repo: Vec<u8>, subnet_contact: Vec<u8>,
    subnet_url: Vec<u8>, discord: Vec<u8>, description: Vec<u8>, logo_url: Vec<u8>, additional: Vec<u8> }
call set_identity 68 { name: Vec<u8>, url: Vec<u8>, github_repo: Vec<u8>, image: Vec<u8>, discord: Vec<u8>,
    description: Vec<u8>, additional: Vec<u8> }
event NetworkAdded 0 (u16, u16)
event StakeAdded 2 (AccountId32, AccountId32, u64, u64, u16, u64)
event StakeRemoved 3 (AccountId32, AccountId32, u64, u64, u16, u64)
event WeightsCommitted 85 (AccountId32, u16, H256)
event WeightsRevealed 86 (AccountId32, u16, H256)
event WeightsBatchRevealed 87 (AccountId32, u16, Vec<H256>)
event BatchWeightsCompleted 88 (Vec<Compact<u16>>, AccountId32)
event BatchCompletedWithErrors 89 ()
event BatchWeightItemFailed 90 (u16, DispatchError)
event ChildKeyTakeSet 48 (AccountId32, u16)
event SetChildrenScheduled 75 (AccountId32, u16, u64, Vec<(u64, AccountId32)>)
event SetChildren 76 (AccountId32, u16, Vec<(u64, AccountId32)>)
event AutoStakeDestinationSet 112 { coldkey: AccountId32, netuid: u16, hotkey: AccountId32 }
event TransferToggle 93 (u16, bool)
event SubnetOwnerHotkeySet 94 (u16, AccountId32)
event TimelockedWeightsCommitted 107 (AccountId32, u16, H256, u64)
event TimelockedWeightsRevealed 108 (u16, AccountId32)
event WeightsSet 5 (u16, u16)
event NeuronRegistered 6 (u16, u16, AccountId32)
event BulkNeuronsRegistered 7 (u16, u16)
event AxonServed 28 (u16, AccountId32)
event PrometheusServed 29 (u16, AccountId32)
event TakeDecreased 64 (AccountId32, AccountId32, u16)
event TakeIncreased 65 (AccountId32, AccountId32, u16)
event StakeMoved 4 (AccountId32, AccountId32, u16, AccountId32, u16, u64)
event StakeTransferred 91 (AccountId32, AccountId32, AccountId32, u16, u16, u64)
event StakeSwapped 92 (AccountId32, AccountId32, u16, u16, u64)
event FirstEmissionBlockNumberSet 95 (u16, u64)
event SubnetIdentitySet 78 (u16)
event ChainIdentitySet 77 (AccountId32)
event TempoSet 52 (u16, u16)
event WeightsSetRateLimitSet 22 (u16, u64)
event ActivityCutoffFactorMilliSet 130 { netuid: u16, factor_milli: u32 }
event EpochTriggered 131 { netuid: u16, by: AccountId32, fires_at: u64 }
errors RootNetworkDoesNotExist, InvalidIpType, InvalidIpAddress, InvalidPort, HotKeyNotRegisteredInSubNet,
    HotKeyAccountNotExists, HotKeyNotRegisteredInNetwork, NonAssociatedColdKey, NotEnoughStake,
    NotEnoughStakeToWithdraw, NotEnoughStakeToSetWeights, NotEnoughStakeToSetChildkeys, NotEnoughBalanceToStake,
    BalanceWithdrawalError, ZeroBalanceAfterWithdrawn, NeuronNoValidatorPermit, WeightVecNotEqualSize,
    DuplicateUids, UidVecContainInvalidOne, WeightVecLengthIsLow, TooManyRegistrationsThisBlock,
    HotKeyAlreadyRegisteredInSubNet, NewHotKeyIsSameWithOld, NewHotKeyNotCleanForRootSwap, InvalidWorkBlock,
    InvalidDifficulty, InvalidSeal, MaxWeightExceeded, HotKeyAlreadyDelegate, SettingWeightsTooFast,
    IncorrectWeightVersionKey, ServingRateLimitExceeded, UidsLengthExceedUidsInSubNet, NetworkTxRateLimitExceeded,
    DelegateTxRateLimitExceeded, HotKeySetTxRateLimitExceeded, StakingRateLimitExceeded, SubNetRegistrationDisabled,
    TooManyRegistrationsThisInterval, TransactorAccountShouldBeHotKey, FaucetDisabled, NotSubnetOwner,
    RegistrationNotPermittedOnRootSubnet, StakeTooLowForRoot, AllNetworksInImmunity,
    NotEnoughBalanceToPaySwapHotKey, NotRootSubnet, CanNotSetRootNetworkWeights, NoNeuronIdAvailable,
    DelegateTakeTooLow, DelegateTakeTooHigh, NoWeightsCommitFound, InvalidRevealCommitHashNotMatch,
    CommitRevealEnabled, CommitRevealDisabled, LiquidAlphaDisabled, AlphaHighTooLow, AlphaLowOutOfRange,
    ColdKeyAlreadyAssociated, NotEnoughBalanceToPaySwapColdKey, InvalidChild, DuplicateChild, ProportionOverflow,
    TooManyChildren, TxRateLimitExceeded, ColdkeySwapAnnouncementNotFound, ColdkeySwapTooEarly,
    ColdkeySwapReannouncedTooEarly, AnnouncedColdkeyHashDoesNotMatch, ColdkeySwapAlreadyDisputed,
    NewColdKeyIsHotkey, InvalidChildkeyTake, TxChildkeyTakeRateLimitExceeded, InvalidIdentity,
    MechanismDoesNotExist, StakeUnavailable, SubnetNotExists, TooManyUnrevealedCommits, ExpiredWeightCommit,
    RevealTooEarly, InputLengthsUnequal, CommittingWeightsTooFast, AmountTooLow, InsufficientLiquidity,
    SlippageTooHigh, TransferDisallowed, ActivityCutoffTooLow, CallDisabled, FirstEmissionBlockNumberAlreadySet,
    NeedWaitingMoreBlocksToStarCall, NotEnoughAlphaOutToRecycle, CannotBurnOrRecycleOnRootSubnet,
    UnableToRecoverPublicKey, InvalidRecoveredPublicKey, SubtokenDisabled, HotKeySwapOnSubnetIntervalNotPassed,
    SameNetuid, InsufficientBalance, InvalidLeaseBeneficiary, LeaseCannotEndInThePast, LeaseNetuidNotFound,
    LeaseDoesNotExist, LeaseHasNoEndBlock, LeaseHasNotEnded, Overflow, BeneficiaryDoesNotOwnHotkey,
    ExpectedBeneficiaryOrigin, AdminActionProhibitedDuringWeightsWindow, SymbolDoesNotExist, SymbolAlreadyInUse,
    IncorrectCommitRevealVersion, InvalidRevealRound, RevealPeriodTooLarge, RevealPeriodTooSmall, InvalidValue,
    SubnetLimitReached, CannotAffordLockCost, EvmKeyAssociateRateLimitExceeded, SameAutoStakeHotkeyAlreadySet,
    UidMapCouldNotBeCleared, TrimmingWouldExceedMaxImmunePercentage, ChildParentInconsistency, InvalidNumRootClaim,
    InvalidRootClaimThreshold, InvalidSubnetNumber, TooManyUIDsPerMechanism, VotingPowerTrackingNotEnabled,
    InvalidVotingPowerEmaAlpha, Deprecated, AddStakeBurnRateLimitExceeded, ColdkeySwapAnnounced,
    ColdkeySwapDisputed, ColdkeySwapClearTooEarly, DisabledTemporarily, RegistrationPriceLimitExceeded,
    LockHotkeyMismatch, InsufficientStakeForLock, NoExistingLock, ActiveLockExists, CannotUseSystemAccount,
    UnlockAmountTooHigh, TempoOutOfBounds, ActivityCutoffFactorMilliOutOfBounds, EpochTriggerAlreadyPending,
    AutoEpochAlreadyImminent, DynamicTempoBlockedByCommitReveal, AccountRejectsLockedAlpha
"""
