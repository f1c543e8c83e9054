"""featx: frozen deep features and classical classifiers, measured honestly next to a fine-tuned network.

Importing featx loads neither Keras nor scikit-learn; a public name is loaded when it is first used. `__init__.pyi`
lists the names and where they come from, here and in each package.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]


def __dir__() -> list[str]:
    return sorted(__all__)
