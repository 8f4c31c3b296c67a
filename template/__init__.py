"""What any Bittensor subnet needs from the chain, free of any one subnet's idea.

Read in this order: `chain.py` (the port), `memory.py` (its twin for tests), `subtensor.py` (its real adapter),
`synapse.py` (signed requests and replies between neurons), `base/` (the run loop), `weights.py`, `settings.py`.
Nothing here imports the Bittensor SDK until a neuron truly talks to a chain or to a peer.
The layout follows the shape of opentensor/bittensor-subnet-template (MIT), rewritten.
"""
