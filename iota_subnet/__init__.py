"""IOTA on Bittensor: strangers' machines train one language model, and are paid for what they add.

Importing this package loads nothing heavy; torch and the chain SDK are imported by the parts that need them.
"""

__version__ = "0.1.0"

#: What a miner and a validator must share to work together. Raised whenever a message, a codec or the
#: arithmetic of a merge changes its meaning; a `Join` with another number is refused with a clear reason.
SPEC_VERSION = 1
