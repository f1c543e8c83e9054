from .base import (
    ENGINES as ENGINES,
)
from .base import (
    PRECISIONS as PRECISIONS,
)
from .base import (
    Engine as Engine,
)
