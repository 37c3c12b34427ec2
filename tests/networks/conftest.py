import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def oracle(monkeypatch):
    """Build one of torchvision's models, or skip where it is missing."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from oracle import torchvision_model

    def build(path, **options):
        try:
            return torchvision_model(path, **options)
        except ModuleNotFoundError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"the oracle is missing: {error}")

    return build
