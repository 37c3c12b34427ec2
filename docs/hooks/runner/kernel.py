"""Prepare the kernel that a lab runs in; imported there, nowhere else."""

from __future__ import annotations

from typing import Any

from runner.figures import to_svgs, use_style
from runner.languages import LANGUAGES


def prepare() -> None:
    """Show every figure, as the site draws it, when its cell has run."""
    from IPython import get_ipython

    use_style()
    shell: Any = get_ipython()
    shell.events.register("post_execute", _show_figures)


def _show_figures() -> None:
    import matplotlib.pyplot as plt
    from IPython.display import display

    try:
        for number in plt.get_fignums():
            for language in LANGUAGES:
                wide, _, narrow = to_svgs(
                    plt.figure(number), language
                ).partition("\n\n")
                display(  # type: ignore[no-untyped-call]
                    {"image/svg+xml": wide},
                    metadata={"language": language, "narrow": narrow},
                    raw=True,
                )
    finally:
        plt.close("all")
