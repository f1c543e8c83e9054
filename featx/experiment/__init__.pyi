from .demo import (
    demo_table as demo_table,
    run_demo as run_demo,
)
from .file import (
    EXAMPLE as EXAMPLE,
    read_experiment as read_experiment,
)
from .plan import (
    ExperimentPlan as ExperimentPlan,
    format_plan as format_plan,
    plan_experiment as plan_experiment,
    plan_table as plan_table,
)
from .run import (
    ExperimentRun as ExperimentRun,
    run_experiment as run_experiment,
)
from .schema import (
    Experiment as Experiment,
)
