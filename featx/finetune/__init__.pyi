from .options import (
    TuneOptions as TuneOptions,
)
from .sweep import (
    fine_tune_all as fine_tune_all,
    name_runs as name_runs,
)
from .task import (
    PlannedStore as PlannedStore,
    check_task as check_task,
    read_task as read_task,
)
from .tune import (
    fine_tune as fine_tune,
)
