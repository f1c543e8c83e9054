"""A whole study from one file: schema, checks, plan, run, record; the demo is one. Imports all but `cli`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
