"""Prometheus metrics of a validator and of a miner, read from what they know at the moment of the scrape.

Law: nothing is counted for metrics alone: a scrape reads the state, so metrics, page, status and ledger agree. Names
and units follow prometheus.io/docs/practices/naming: base units, `_total` for what only grows.
"""
