"""How the tests are spread over two workers."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep each file on one worker, and all tests that share a finished run; begin with the long ones."""
    for item in items:
        shared = "finished" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("finished run" if shared else item.path.stem))
    items.sort(key=lambda item: "workflow" not in item.path.parts)
