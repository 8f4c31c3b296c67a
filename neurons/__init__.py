"""Entry points that an operator runs: `python neurons/miner.py`, `python neurons/validator.py`."""
