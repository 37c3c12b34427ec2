"""The oracle that the tests of networks and of modules share."""

import os

import pytest


@pytest.fixture(scope="session")
def torchvision():
    """Give a module such as `models.resnet`, or skip where it is missing."""
    from oracle import torchvision_module

    def give(path):
        try:
            return torchvision_module(path)
        except ModuleNotFoundError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"the oracle is missing: {error}")

    return give
