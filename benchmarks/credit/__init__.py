"""The parts of `benchmarks/credit.py`."""

import os

# Before torch is imported, here and in every worker: threads that wait for each other must not spin, or a swarm in
# which some miners have two threads takes five times as long on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Audits multiply vectors of a few thousand numbers: threads of numpy's library would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
