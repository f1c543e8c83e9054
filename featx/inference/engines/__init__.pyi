from .base import (
    ENGINES as ENGINES,
    PRECISIONS as PRECISIONS,
    Engine as Engine,
)
