"""Files to manifest to pixels: sources, splits, decoding, views. Imports `system` and `errors`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
