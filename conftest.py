"""What all tests share, those of the pages' blocks included."""

import sys

import pytest


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Close the figures of a test: the next block must not inherit them."""
    if plt := sys.modules.get("matplotlib.pyplot"):
        plt.close("all")
