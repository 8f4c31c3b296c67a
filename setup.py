"""Packaging. Exact versions for localnet and CI are in requirements.lock; the ranges here are for everyone else."""

import os
import re
from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (HERE / "iota_subnet/__init__.py").read_text(encoding="utf-8"))
assert VERSION is not None

#: What every event passes through. The rest of the core is called once an epoch, or only by checks.
HOT = (
    "core/audits", "core/cards", "core/choice", "core/deadlines", "core/facts",
    "core/flow", "core/index", "core/lapses", "core/merge", "core/orchestrator", "core/phases", "core/receipts",
    "core/routing", "core/sampler", "core/speed", "core/trust",
)  # fmt: skip


def compiled() -> list[Extension]:
    """With IOTA_COMPILE=1 the core's hot part as machine code, by mypyc, from the same sources (`make compile`)."""
    if os.environ.get("IOTA_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    paths = [f"iota_subnet/{name}.py" for name in HOT]
    found: list[Extension] = mypycify(paths, group_name="iota_subnet.core.compiled", opt_level="3")
    return found


setup(
    name="iota-subnet",
    version=VERSION.group(1),
    description="IOTA on Bittensor: permissionless, incentivised pipeline-parallel pretraining",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    ext_modules=compiled(),
    packages=find_packages(include=["template*", "iota_subnet*", "neurons*"]),
    package_data={
        "iota_subnet": ["py.typed"],
        "iota_subnet.dashboard": ["static/*"],
        "template": ["py.typed"],
        "template.localnet": ["README.md", "*.json"],
    },
    install_requires=[
        # 11 removed axon, dendrite and synapse; 10.5 is the last line that has them.
        "bittensor>=10.5,<11",
        "bittensor-wallet>=4.1,<4.1.1",
        "cyscale==0.5.0",
        "torch>=2.5",
        "transformers>=5",
        "datasets>=4",
        "aiohttp>=3.11",
        "loguru>=0.7",
        "pydantic-settings>=2.8",
        "blake3>=1",
        "msgspec>=0.19",
        "numpy>=2",
        "prometheus-client>=0.20",
        "rich>=13",
        "safetensors>=0.5",
        "tenacity>=9",
        "websockets>=15",
        "xxhash>=3",
    ],
    extras_require={
        "btcli": ["bittensor-cli>=9.22,<10"],
        "trackio": ["trackio"],
        "wandb": ["wandb"],
        "s3": ["obstore>=0.6"],
        "dev": [
            # moto[server] would bring every service of AWS; its S3 behind a server needs these.
            "flask",
            "flask-cors",
            "hypothesis",
            "import-linter",
            "moto[s3]>=5",
            "mypy",
            "obstore>=0.6",
            "pytest",
            "pytest-asyncio",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
        ],
    },
    entry_points={"console_scripts": ["iota = iota_subnet.cli:main"]},
)
