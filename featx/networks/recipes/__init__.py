"""Recipes of fine-tuning: a head, stages, training settings. Shipped recipes are YAML files here."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
