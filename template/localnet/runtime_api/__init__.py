"""Runtime APIs answered by ``state_call``."""

from template.localnet.runtime_api import metagraph, misc, neurons, stake, subnets
from template.localnet.runtime_api.registry import call_runtime_api, served_methods

__all__ = ["call_runtime_api", "metagraph", "misc", "neurons", "served_methods", "stake", "subnets"]
