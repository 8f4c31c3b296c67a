"""Importing this makes `AutoConfig` and `AutoModelForCausalLM` of transformers know the model type `iota`.

Without it, or without this package, `trust_remote_code=True` does the same from the exported files.
"""

from transformers import AutoConfig, AutoModelForCausalLM

from iota_subnet.model.modeling_iota import IotaConfig, IotaForCausalLM

__all__ = ["IotaConfig", "IotaForCausalLM"]

AutoConfig.register("iota", IotaConfig, exist_ok=True)
AutoModelForCausalLM.register(IotaConfig, IotaForCausalLM, exist_ok=True)
