"""Interface tables of the embedded chain, in the compact notation that :mod:`template.localnet.spec` reads."""

from template.localnet.tables.pallets import PALLETS
from template.localnet.tables.runtime_apis import RUNTIME_APIS
from template.localnet.tables.subtensor_calls import SUBTENSOR_CALLS
from template.localnet.tables.subtensor_storage import SUBTENSOR_STORAGE
from template.localnet.tables.types import TYPES

__all__ = ["PALLETS", "RUNTIME_APIS", "SUBTENSOR_CALLS", "SUBTENSOR_STORAGE", "TYPES"]
