import os

import pytest
import torch
from hypothesis import settings

settings.register_profile(
    "core",
    derandomize=True,
    deadline=None,
    database=None,
    # Mutation testing asks for fewer: it runs the tests a thousand times.
    max_examples=int(os.environ.get("MAX_EXAMPLES", "300")),
)
settings.load_profile("core")


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Keep torch from waking threads for arrays of a few numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
