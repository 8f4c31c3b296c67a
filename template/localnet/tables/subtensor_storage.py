"""SubtensorModule: storage and constants (names, hashers and types as in subtensor spec 424)."""

SUBTENSOR_STORAGE = """
pallet SubtensorModule 7
storage AdminFreezeWindow -> u16 = 10
storage OwnerHyperparamRateLimit -> u16 = 2
storage Owner (B AccountId32) -> AccountId32
storage Delegates (B AccountId32) -> u16 = 11796
storage ChildkeyTake (B AccountId32, I u16) -> u16
storage PendingChildKeys (I u16, B AccountId32) -> (Vec<(u64, AccountId32)>, u64)
storage ChildKeys (B AccountId32, I u16) -> Vec<(u64, AccountId32)>
storage ParentKeys (B AccountId32, I u16) -> Vec<(u64, AccountId32)>
storage PendingChildKeyCooldown -> u64 = 7200
storage MinChildkeyTake -> u16
storage MaxChildkeyTake -> u16 = 11796
storage TransferToggle (I u16) -> bool = True
storage OwnerCutEnabled (I u16) -> bool = True
storage MaxEpochsPerBlock -> u8 = 2
storage NetworkPowRegistrationAllowed (I u16) -> bool = True
storage CommitRevealWeightsVersion -> u16 = 4
storage TotalIssuance -> u64
storage TotalStake -> u64
storage TaoWeight -> u64 = 971718665099567868
storage StakingHotkeys (B AccountId32) -> Vec<AccountId32>
storage OwnedHotkeys (B AccountId32) -> Vec<AccountId32>
storage AutoStakeDestination (B AccountId32, I u16) -> AccountId32 ?
storage ColdkeySwapAnnouncementDelay -> u32 = 36000
storage ColdkeySwapReannouncementDelay -> u32 = 7200
storage ColdkeySwapAnnouncements (T AccountId32) -> (u32, H256) ?
storage ColdkeySwapDisputes (T AccountId32) -> u32 ?
storage TotalHotkeyAlpha (B AccountId32, I u16) -> u64
storage TotalHotkeyShares (B AccountId32, I u16) -> U64F64
storage Alpha (B AccountId32, B AccountId32, I u16) -> U64F64
storage AlphaV2 (B AccountId32, B AccountId32, I u16) -> SafeFloat
storage TotalHotkeySharesV2 (B AccountId32, I u16) -> SafeFloat
storage Lock (B AccountId32, I u16, B AccountId32) -> LockState ?
storage DecayingLock (B AccountId32, I u16) -> bool ?
storage HotkeyLock (I u16, B AccountId32) -> LockState ?
storage DecayingHotkeyLock (I u16, B AccountId32) -> LockState ?
storage OwnerLock (I u16) -> LockState ?
storage DecayingOwnerLock (I u16) -> LockState ?
storage MaturityRate -> u64 = 934866
storage UnlockRate -> u64 = 934866
storage SubnetEmaTaoFlow (I u16) -> (u64, I64F64) ?
storage TotalNetworks -> u16
storage StartCallDelay -> u64
storage NominatorMinRequiredStake -> u64
storage Tempo (I u16) -> u16 = 360
storage LastEpochBlock (I u16) -> u64
storage PendingEpochAt (I u16) -> u64
storage SubnetEpochIndex (I u16) -> u64
storage ActivityCutoffFactorMilli (I u16) -> u32 = 13889
storage ActivityCutoff (I u16) -> u16 = 5000
storage FirstEmissionBlockNumber (I u16) -> u64 ?
storage SubnetworkN (I u16) -> u16
storage NetworksAdded (I u16) -> bool
storage IsNetworkMember (B AccountId32, I u16) -> bool
storage NetworkRegistrationAllowed (I u16) -> bool = True
storage NetworkRegisteredAt (I u16) -> u64
storage BlocksSinceLastStep (I u16) -> u64
storage LastMechansimStepBlock (I u16) -> u64
storage SubnetOwner (I u16) -> AccountId32
storage SubnetOwnerHotkey (I u16) -> AccountId32
storage RegistrationsThisInterval (I u16) -> u16
storage RegistrationsThisBlock (I u16) -> u16
storage BurnRegistrationsThisInterval (I u16) -> u16
storage ImmunityPeriod (I u16) -> u16 = 4096
storage MaxAllowedUids (I u16) -> u16 = 256
storage MaxAllowedValidators (I u16) -> u16 = 128
storage MaxWeightsLimit (I u16) -> u16 = 65535
storage MinAllowedWeights (I u16) -> u16 = 1024
storage AdjustmentInterval (I u16) -> u16 = 100
storage AdjustmentAlpha (I u16) -> u64
storage WeightsSetRateLimit (I u16) -> u64 = 100
storage WeightsVersionKey (I u16) -> u64
storage TargetRegistrationsPerInterval (I u16) -> u16 = 2
storage MaxRegistrationsPerBlock (I u16) -> u16 = 1
storage CommitRevealWeightsEnabled (I u16) -> bool = True
storage Burn (I u16) -> u64 = 100000000
storage MinBurn (I u16) -> u64 = 500000
storage MaxBurn (I u16) -> u64 = 100000000000
storage Difficulty (I u16) -> u64 = 10000000
storage LastAdjustmentBlock (I u16) -> u64
storage Kappa (I u16) -> u16 = 32767
storage Rho (I u16) -> u16 = 10
storage BondsMovingAverage (I u16) -> u64 = 900000
storage BondsPenalty (I u16) -> u16 = 65535
storage ServingRateLimit (I u16) -> u64 = 50
storage TxRateLimit -> u64 = 1000
storage NetworkRateLimit -> u64 = 7200
storage Uids (I u16, B AccountId32) -> u16 ?
storage Keys (I u16, I u16) -> AccountId32
storage Active (I u16) -> Vec<bool>
storage Consensus (I u16) -> Vec<u16>
storage Incentive (I u16) -> Vec<u16>
storage Dividends (I u16) -> Vec<u16>
storage Emission (I u16) -> Vec<u64>
storage LastUpdate (I u16) -> Vec<u64>
storage ValidatorPermit (I u16) -> Vec<bool>
storage ValidatorTrust (I u16) -> Vec<u16>
storage StakeWeight (I u16) -> Vec<u16>
storage Weights (I u16, I u16) -> Vec<(u16, u16)>
storage Bonds (I u16, I u16) -> Vec<(u16, u16)>
storage BlockAtRegistration (I u16, I u16) -> u64
storage Axons (I u16, B AccountId32) -> AxonInfo ?
storage Prometheus (I u16, B AccountId32) -> PrometheusInfo ?
storage NeuronCertificates (I u16, B AccountId32) -> NeuronCertificate ?
storage IdentitiesV2 (B AccountId32) -> ChainIdentityV2 ?
storage SubnetIdentitiesV3 (B u16) -> SubnetIdentityV3 ?
storage TimelockedWeightCommits (T u16, T u64) -> Vec<(AccountId32, u64, BoundedVec<u8>, u64)>
storage WeightCommits (T u16, T AccountId32) -> Vec<(H256, u64, u64, u64)> ?
storage CRV3WeightCommitsV2 (T u16, T u64) -> Vec<(AccountId32, u64, BoundedVec<u8>, u64)>
storage RevealPeriodEpochs (T u16) -> u64 = 1
storage RootClaimable (B AccountId32) -> BTreeMap<u16, I96F32>
storage RootClaimed (I u16, B AccountId32, B AccountId32) -> u128
storage RootClaimType (B AccountId32) -> RootClaimTypeEnum
storage MechanismCountCurrent (T u16) -> u8 = 1
storage MechanismEmissionSplit (T u16) -> Vec<u16> ?
storage SubnetTAO (I u16) -> u64
storage SubnetAlphaIn (I u16) -> u64
storage SubnetAlphaOut (I u16) -> u64
storage SubnetTaoInEmission (I u16) -> u64
storage SubnetAlphaInEmission (I u16) -> u64
storage SubnetAlphaOutEmission (I u16) -> u64
storage SubnetVolume (I u16) -> u128
storage SubnetMechanism (I u16) -> u16
storage SubnetMovingPrice (I u16) -> I96F32
storage SubtokenEnabled (I u16) -> bool
storage TokenSymbol (I u16) -> Vec<u8> = 0x10f09d9c8f
storage PendingServerEmission (I u16) -> u64
storage PendingValidatorEmission (I u16) -> u64
storage PendingOwnerCut (I u16) -> u64
storage StakeThreshold -> u64
storage SubnetLimit -> u16 = 128
storage NetworkMinLockCost -> u64 = 1000000000000
storage NetworkLastLockCost -> u64 = 1000000000000
storage MinDelegateTake -> u16
storage MaxDelegateTake -> u16 = 11796
storage RAORecycledForRegistration (I u16) -> u64
storage Yuma3On (B u16) -> bool
storage LiquidAlphaOn (B u16) -> bool
storage BurnHalfLife (I u16) -> u16 = 360
storage BurnIncreaseMult (I u16) -> U64F64 = 23242897532874035200
const MinTempo u16 = 360
const MaxTempo u16 = 50400
const MinActivityCutoffFactorMilli u32 = 1000
const MaxActivityCutoffFactorMilli u32 = 50000
const KeySwapCost u64 = 100000000
const InitialStartCallDelay u64 = 0
const InitialTempo u16 = 360
"""
