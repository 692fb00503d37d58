"""Packages whose public names are loaded when they are first used.

The package lazy_loader does the same, but not for a name that differs from its module's (`agl_ref.conv` is engine/ops),
and comparing a dump with a stored case would then need more than NumPy.
"""

import sys
from importlib import import_module
from types import ModuleType


def attach(package, names, modules=None):
    """`__getattr__`, `__dir__` and `__all__` of a package that loads its names when they are first used.

    A name that is also that of a submodule stays what it is here when Python imports the submodule and wants to bind it:
    `agl_ref.oracle.identify` is the function, whoever imports `agl_ref.oracle.identify.search`.

    Parameters
    ----------
    package : str
        The package's `__name__`.
    names : {module, relative to the package: names that it defines}
    modules : {name: module, relative to the package}, optional
        Names that are modules themselves.

    Examples
    --------
    >>> from agl_ref import train
    >>> train.Trainer.__module__
    'agl_ref.train.trainer'
    """
    home = {name: module for module, listed in names.items() for name in listed}
    modules = modules or {}

    class Package(ModuleType):
        def __setattr__(self, name, value):
            if not (name in home and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    def load(name):
        if name in home:
            value = getattr(import_module(f"{package}.{home[name]}"), name)
        elif name in modules:
            value = import_module(f"{package}.{modules[name]}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        vars(sys.modules[package])[name] = value
        return value

    public = [*home, *modules]
    sys.modules[package].__class__ = Package
    return load, lambda: public, public
