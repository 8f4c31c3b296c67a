"""How `make test` shares the tests among its workers.

Tests of one file stay together, since they share fixtures. All that start a whole subnet of processes stay together
too: two such subnets at once, on two cores, would measure each other's patience.
"""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        alone = item.get_closest_marker("e2e") is not None
        item.add_marker(pytest.mark.xdist_group("subnets" if alone else item.location[0]))
