import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Leave the other cores to the other workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def oracle(torchvision):
    """Build one of torchvision's models, or skip where it is missing."""

    def build(path, **options):
        module, _, name = path.partition(".")
        return getattr(torchvision(f"models.{module}"), name)(**options)

    return build
