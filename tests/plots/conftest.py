from collections.abc import Iterator

import matplotlib
import pytest


@pytest.fixture(autouse=True)
def drawn_as_a_reader_draws() -> Iterator[None]:
    """Other tests of this process may have left the site's style behind."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.use("agg")
        yield
