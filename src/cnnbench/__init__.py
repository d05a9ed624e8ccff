"""cnnbench: train, measure and compare convolutional networks on real images.

    import cnnbench as cb

    run = cb.train(model="lenet5", data="mnist", **{"trainer.epochs": 5})

The names of `__all__` are imported when they are first used, so that importing the package takes no time.
"""

import importlib

__version__ = "0.1.0"
__all__ = [
    "DataRefused",
    "Error",
    "Evaluation",
    "FileError",
    "InvalidRequest",
    "Prediction",
    "Report",
    "Run",
    "RunFailed",
    "Sweep",
    "compare",
    "load",
    "load_plugins",
    "load_sweep",
    "sweep",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("cnnbench.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
