from .cells import (
    choose_model as choose_model,
)
from .choose import (
    choose_among as choose_among,
)
from .grid import (
    check_grid as check_grid,
    fit_grid as fit_grid,
    fit_share as fit_share,
)
from .models import (
    DISCRETIZATIONS as DISCRETIZATIONS,
    MODELS as MODELS,
    make_estimator as make_estimator,
    plan_cells as plan_cells,
)
from .options import (
    AXES as AXES,
    GRIDS as GRIDS,
    OF_ONE_SPLIT as OF_ONE_SPLIT,
    OF_REPEATS as OF_REPEATS,
    FitOptions as FitOptions,
    GridOptions as GridOptions,
    RepeatOptions as RepeatOptions,
)
from .repeats import (
    check_repeats as check_repeats,
    fit_repeats as fit_repeats,
    repeat_share as repeat_share,
)
from .scoring import (
    CHOOSE_BY as CHOOSE_BY,
    check_choice as check_choice,
)
from .splits import (
    read_strata as read_strata,
)
