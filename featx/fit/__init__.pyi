from .cells import (
    choose_model as choose_model,
)
from .choose import (
    choose_among as choose_among,
)
from .grid import (
    check_grid as check_grid,
)
from .grid import (
    fit_grid as fit_grid,
)
from .grid import (
    fit_share as fit_share,
)
from .models import (
    DISCRETIZATIONS as DISCRETIZATIONS,
)
from .models import (
    MODELS as MODELS,
)
from .models import (
    make_estimator as make_estimator,
)
from .models import (
    plan_cells as plan_cells,
)
from .options import (
    AXES as AXES,
)
from .options import (
    GRIDS as GRIDS,
)
from .options import (
    OF_ONE_SPLIT as OF_ONE_SPLIT,
)
from .options import (
    OF_REPEATS as OF_REPEATS,
)
from .options import (
    FitOptions as FitOptions,
)
from .options import (
    GridOptions as GridOptions,
)
from .options import (
    RepeatOptions as RepeatOptions,
)
from .repeats import (
    check_repeats as check_repeats,
)
from .repeats import (
    fit_repeats as fit_repeats,
)
from .repeats import (
    repeat_share as repeat_share,
)
from .scoring import (
    CHOOSE_BY as CHOOSE_BY,
)
from .scoring import (
    check_choice as check_choice,
)
from .splits import (
    read_strata as read_strata,
)
