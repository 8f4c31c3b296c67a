"""A merge of real replicas under the real core, on one machine: what `benchmarks/butterfly.py` times."""
