from .batch_size import (
    AUTO as AUTO,
    DEFAULT as DEFAULT,
    LARGEST as LARGEST,
    is_out_of_memory as is_out_of_memory,
)
from .engines.base import (
    ENGINES as ENGINES,
    PRECISIONS as PRECISIONS,
)
from .network import (
    PooledNetwork as PooledNetwork,
    build_frozen as build_frozen,
    build_network as build_network,
    engines_record as engines_record,
    own_image_size as own_image_size,
    run_frozen as run_frozen,
)
from .options import (
    NetworkOptions as NetworkOptions,
)
from .pipeline import (
    PART_SIZE as PART_SIZE,
    Network as Network,
    compute_parts as compute_parts,
    find_gaps as find_gaps,
    run_network as run_network,
)
from .predict import (
    Predictor as Predictor,
    predict_images as predict_images,
    write_predictions as write_predictions,
)
from .rebuild import (
    build_recorded as build_recorded,
    check_known as check_known,
    rebuild_network as rebuild_network,
)
from .transformer import (
    DeepFeatures as DeepFeatures,
)
