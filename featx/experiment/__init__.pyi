from .demo import (
    demo_table as demo_table,
)
from .demo import (
    run_demo as run_demo,
)
from .file import (
    EXAMPLE as EXAMPLE,
)
from .file import (
    read_experiment as read_experiment,
)
from .plan import (
    ExperimentPlan as ExperimentPlan,
)
from .plan import (
    format_plan as format_plan,
)
from .plan import (
    plan_experiment as plan_experiment,
)
from .plan import (
    plan_table as plan_table,
)
from .run import (
    ExperimentRun as ExperimentRun,
)
from .run import (
    run_experiment as run_experiment,
)
from .schema import (
    Experiment as Experiment,
)
