"""Images through a frozen network, in memory. Imports `store`, `results` and what lies below them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
