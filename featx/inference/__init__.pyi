from .batch_size import (
    AUTO as AUTO,
)
from .batch_size import (
    DEFAULT as DEFAULT,
)
from .batch_size import (
    LARGEST as LARGEST,
)
from .batch_size import (
    is_out_of_memory as is_out_of_memory,
)
from .engines.base import (
    ENGINES as ENGINES,
)
from .engines.base import (
    PRECISIONS as PRECISIONS,
)
from .network import (
    PooledNetwork as PooledNetwork,
)
from .network import (
    build_frozen as build_frozen,
)
from .network import (
    build_network as build_network,
)
from .network import (
    engines_record as engines_record,
)
from .network import (
    own_image_size as own_image_size,
)
from .network import (
    run_frozen as run_frozen,
)
from .options import (
    NetworkOptions as NetworkOptions,
)
from .pipeline import (
    PART_SIZE as PART_SIZE,
)
from .pipeline import (
    Network as Network,
)
from .pipeline import (
    compute_parts as compute_parts,
)
from .pipeline import (
    find_gaps as find_gaps,
)
from .pipeline import (
    run_network as run_network,
)
from .predict import (
    Predictor as Predictor,
)
from .predict import (
    predict_images as predict_images,
)
from .predict import (
    write_predictions as write_predictions,
)
from .rebuild import (
    build_recorded as build_recorded,
)
from .rebuild import (
    check_known as check_known,
)
from .rebuild import (
    rebuild_network as rebuild_network,
)
from .transformer import (
    DeepFeatures as DeepFeatures,
)
