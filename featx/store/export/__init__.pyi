from .selection import (
    select as select,
)
from .write import (
    export_store as export_store,
)
