"""Comparisons of training procedures: which runs answer a question, and what they say.

The package can be called: `mtl.compare(tasks=[...])` is `mtl.compare.api.compare`.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl.compare.api import Comparison


class _CallablePackage(ModuleType):
    """A package that compares when it is called."""

    def __call__(self, *args: Any, **kwargs: Any) -> "Comparison":
        # Imported here, so that a table can be read without torch.
        from mtl.compare.api import compare

        return compare(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
