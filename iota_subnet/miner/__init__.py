"""The miner: asks for a seat, installs a stage, works off leases, takes part in merges."""
