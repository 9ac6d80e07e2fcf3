"""How the tests are spread over two workers: each file on one of them, the long ones first; and that none is timed."""

from __future__ import annotations

import pytest
from hypothesis import settings

# On a busy machine any example may take long.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the runs of the workflow: they are the longest, and the short tests fill the other worker."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)
