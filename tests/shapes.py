"""Shapes and dtypes of arrays, checked in each call of a function whose annotations say them.

jaxtyping's own import hook wraps every function, and nested ones at each definition, which takes a third of the time in which a model is
built. Here are wrapped, as a module is imported, its functions and the methods of its classes that take or return arrays.
"""

import inspect
import sys
from collections.abc import Collection
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import jax
from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped

CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for type checkers


def check(modules: Collection[str]) -> None:
    """Checks calls of these modules, and of those inside of them, from their import on. Raises AssertionError if it is too late."""
    late = [name for name in sys.modules if _inside(name, modules)]
    assert not late, f"imported before their shapes could be checked: {late}"
    sys.meta_path.insert(0, _Finder(modules))


class _Finder(MetaPathFinder):
    def __init__(self, modules: Collection[str]):
        self.modules = modules

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if not _inside(name, self.modules):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Any):
        self.loader = loader

    def __getattr__(self, name: str) -> Any:  # what reads source or resources asks for it
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        tables = [
            value for name, value in vars(module).items() if isinstance(value, dict) and not name.startswith("__")
        ]
        own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
        for place in (module, *filter(inspect.isclass, own)):
            for name, value in list(vars(place).items()):
                checked = _checked(value, module.__name__)
                if checked is not value:
                    setattr(place, name, checked)
                    for table in tables:  # which may have the function too
                        table.update({key: checked for key, entry in table.items() if entry is value})


def _checked(value: Any, module: str) -> Any:
    """What checks its calls, of a function, a property or a `custom_vjp` of this module whose annotations say shapes; else the value."""
    if isinstance(value, property):
        getter = _checked(value.fget, module)
        return value if getter is value.fget else property(getter, value.fset, value.fdel)
    if isinstance(value, jax.custom_vjp):
        value.fun = _checked(value.fun, module)
    elif inspect.isfunction(value) and value.__module__ == module and _says_shapes(value):
        return jaxtyped(typechecker=CHECK)(value)
    return value


def _says_shapes(function: Any) -> bool:
    return any("jaxtyping" in repr(annotation) for annotation in function.__annotations__.values())


def _inside(name: str, modules: Collection[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)
