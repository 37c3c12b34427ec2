import importlib
import os
import sys
from importlib.util import find_spec, module_from_spec

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Keep torch from waking threads for tensors of a few numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def torchvision():
    """Give a module such as `models.resnet`, or skip where it is missing.

    The packages around it are found but not executed: a torchvision beside a
    torch that it was not built for cannot load its operators.
    """

    def give(name):
        package, _ = name.split(".")
        try:
            for parent in ("torchvision", f"torchvision.{package}"):
                if parent not in sys.modules:
                    spec = find_spec(parent)
                    if spec is None:
                        raise ModuleNotFoundError(f"{parent} is not installed")
                    sys.modules[parent] = module_from_spec(spec)
            return importlib.import_module(f"torchvision.{name}")
        except ModuleNotFoundError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"the oracle is missing: {error}")

    return give
