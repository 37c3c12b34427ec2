"""torchvision's models, without torchvision's compiled operators.

A wheel of torchvision installed beside a torch that it was not built for
cannot load its operators, and `import torchvision` raises. The definitions of
the models need no operator: they import once a torchvision that was found but
not executed stands in `sys.modules`.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def _stand_in(name: str, spec: ModuleSpec | None) -> None:
    if name not in sys.modules:
        if spec is None:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)
        sys.modules[name] = importlib.util.module_from_spec(spec)


def torchvision_model(path: str, **options: Any) -> Any:
    """Build `torchvision.models.<path>`, such as `resnet.resnet18`.

    Raise `ModuleNotFoundError` where torchvision is not installed.
    """
    find = importlib.util.find_spec
    _stand_in("torchvision", find("torchvision"))
    _stand_in("torchvision.models", find("torchvision.models"))
    module, _, name = path.partition(".")
    models: ModuleType = importlib.import_module(f"torchvision.models.{module}")
    return getattr(models, name)(**options)
