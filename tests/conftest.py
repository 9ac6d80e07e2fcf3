"""How the tests are spread over two workers: each file on one of them, the long ones first."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the runs of the workflow: they are the longest, and the short tests fill the other worker."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)
