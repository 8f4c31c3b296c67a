"""The bytes' ways; no decisions.

* `tickets`: leave to read one blob, signed by the orchestrator.
* `blobs`: content-addressed bytes: where they lie (`store`), who hands them out (`server`), who gets them (`fetch`).
* `channel`: one signed, numbered websocket per miner for leases and receipts.
* `stats`: how many bytes of what kind went by.

Signing, time and chance are injected. Nothing a stranger sends is parsed before its size, its signature and its place
in the sequence were checked; every queue, body and wait has a limit; every refusal has a name.
"""
