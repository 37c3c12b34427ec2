import os

import pytest
import torch
from hypothesis import settings

from agree import WORST

# Mutation testing asks for fewer: it runs the tests a thousand times.
EXAMPLES = int(os.environ.get("MAX_EXAMPLES", "300"))
settings.register_profile(
    "same",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=EXAMPLES,
)
# New examples each time, for the scheduled run; a failure prints its seed.
settings.register_profile(
    "random", deadline=None, print_blob=True, max_examples=EXAMPLES
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Keep torch from waking threads for arrays of a few numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter):
    for (test, tolerance), worst in sorted(WORST.items()):
        ratio = tolerance / worst if worst else float("inf")
        terminalreporter.write_line(
            f"{test}: worst {worst:.1e}, allowed {tolerance:.0e}, "
            f"{ratio:.1f} times"
        )
