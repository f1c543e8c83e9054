from .errors import (
    FeatxError as FeatxError,
)
from .experiment.file import (
    read_experiment as read_experiment,
)
from .experiment.run import (
    run_experiment as run_experiment,
)
from .extract.features import (
    extract_features as extract_features,
)
from .extract.merge import (
    merge_shards as merge_shards,
)
from .extract.repair import (
    repair_store as repair_store,
)
from .extract.verify import (
    verify_store as verify_store,
)
from .finetune.tune import (
    fine_tune as fine_tune,
)
from .fit.choose import (
    choose_among as choose_among,
)
from .fit.estimators.forest import (
    PrefixForestClassifier as PrefixForestClassifier,
)
from .fit.estimators.large_svm import (
    LargeSVC as LargeSVC,
)
from .fit.estimators.svm import (
    GramSVC as GramSVC,
)
from .fit.estimators.ternary import (
    TernaryDiscretizer as TernaryDiscretizer,
)
from .fit.grid import (
    fit_grid as fit_grid,
    fit_share as fit_share,
)
from .fit.repeats import (
    fit_repeats as fit_repeats,
    repeat_share as repeat_share,
)
from .images.manifest import (
    Manifest as Manifest,
    read_source as read_source,
)
from .images.splits import (
    make_count_splits as make_count_splits,
    make_splits as make_splits,
)
from .inference.predict import (
    Predictor as Predictor,
    predict_images as predict_images,
)
from .inference.transformer import (
    DeepFeatures as DeepFeatures,
)
from .results.compare import (
    compare_runs as compare_runs,
)
from .results.folder import (
    read_run as read_run,
)
from .store.export.write import (
    export_store as export_store,
)
from .store.reader import (
    Store as Store,
    open as open,
)

__version__: str
