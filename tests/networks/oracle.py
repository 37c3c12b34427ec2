"""torchvision's Python, without torchvision's compiled operators.

A wheel of torchvision installed beside a torch that it was not built for
cannot load its operators, and `import torchvision` raises. The definitions of
models need no operator: they import once the packages around them stand in
`sys.modules`, found but not executed.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

PACKAGES = "torchvision", "torchvision.models", "torchvision.models.detection"


def torchvision_module(path: str) -> ModuleType:
    """Import `torchvision.<path>`, such as `ops.boxes`.

    Raise `ModuleNotFoundError` where torchvision is not installed.
    """
    for name in PACKAGES:
        if name not in sys.modules:
            spec = importlib.util.find_spec(name)
            if spec is None:
                message = f"{name} is not installed"
                raise ModuleNotFoundError(message, name=name)
            sys.modules[name] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"torchvision.{path}")


def torchvision_model(path: str, **options: Any) -> Any:
    """Build `torchvision.models.<path>`, such as `resnet.resnet18`."""
    module, _, name = path.partition(".")
    return getattr(torchvision_module(f"models.{module}"), name)(**options)
