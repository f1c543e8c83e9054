from .options import (
    TuneOptions as TuneOptions,
)
from .sweep import (
    fine_tune_all as fine_tune_all,
)
from .sweep import (
    name_runs as name_runs,
)
from .task import (
    PlannedStore as PlannedStore,
)
from .task import (
    check_task as check_task,
)
from .task import (
    read_task as read_task,
)
from .tune import (
    fine_tune as fine_tune,
)
