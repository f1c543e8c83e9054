"""The command line: options, one library call, one output per command. Imports everything below."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
