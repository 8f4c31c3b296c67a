"""Packaging. Exact versions for localnet and CI are in requirements.lock; the ranges here are for everyone else."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (HERE / "iota_subnet/__init__.py").read_text(encoding="utf-8"))
assert VERSION is not None

setup(
    name="iota-subnet",
    version=VERSION.group(1),
    description="IOTA on Bittensor: permissionless, incentivised pipeline-parallel pretraining",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["template*", "iota_subnet*", "neurons*"]),
    package_data={"iota_subnet": ["py.typed"], "template": ["py.typed"], "template.localnet": ["README.md", "*.json"]},
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
        "rich>=13",
        "safetensors>=0.5",
        "tenacity>=9",
        "websockets>=14.1",
        "xxhash>=3",
    ],
    extras_require={
        "btcli": ["bittensor-cli>=9.22,<10"],
        "dev": [
            "hypothesis",
            "import-linter",
            "mypy",
            "pytest",
            "pytest-asyncio",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
        ],
    },
    entry_points={"console_scripts": ["iota = iota_subnet.cli:main"]},
)
