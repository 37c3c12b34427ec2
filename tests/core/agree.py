"""Compare arrays, and keep the worst error of each test.

No tolerance is more than five times the worst error seen. To see it again:
`WORST=1 MAX_EXAMPLES=3000 HYPOTHESIS_PROFILE=random pytest tests/core`.
"""

import os
from typing import Any

import numpy as np
from hypothesis import strategies as st

WORST: dict[tuple[str, float], float] = {}
LAYOUTS = st.sampled_from(["plain", "reversed", "transposed", "read-only"])


def laid_out(a, layout):
    """Return the same values as a view that is not contiguous, or read-only."""
    if layout == "reversed":
        return a[..., ::-1, ::-1].copy()[..., ::-1, ::-1]
    if layout == "transposed":
        return a.swapaxes(0, -1).copy().swapaxes(0, -1)
    if layout == "read-only":
        a = a.copy()
        a.flags.writeable = False
    return a


def close(ours: Any, theirs: Any, tolerance: float, size: Any = None) -> None:
    """Check type and shape, and the error relative to `size`.

    By default that is the size of the number itself, or 1 if it is smaller.
    """
    if hasattr(theirs, "detach"):
        theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    ours, theirs = np.float64(ours), np.float64(theirs)
    if size is None:
        size = np.maximum(1, np.abs(theirs))
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs))
    finite = np.isfinite(theirs) & (size > 0)
    np.testing.assert_array_equal(ours[~finite], theirs[~finite])
    size = np.broadcast_to(size, theirs.shape)[finite]
    error = np.abs(ours[finite] - theirs[finite]) / size
    worst = error.max(initial=0)
    if "WORST" in os.environ:
        name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]
        WORST[name, tolerance] = max(worst, WORST.get((name, tolerance), 0))
    assert worst <= tolerance
