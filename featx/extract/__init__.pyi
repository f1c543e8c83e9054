from .add import (
    check_same_images as check_same_images,
    find_lost_images as find_lost_images,
    is_same_table as is_same_table,
    read_existing as read_existing,
)
from .features import (
    extract_features as extract_features,
)
from .forecast import (
    Forecast as Forecast,
    forecast_extraction as forecast_extraction,
    format_forecast as format_forecast,
)
from .merge import (
    merge_shards as merge_shards,
)
from .options import (
    ExtractOptions as ExtractOptions,
)
from .plan import (
    ExistingStore as ExistingStore,
)
from .repair import (
    repair_store as repair_store,
)
from .run import (
    Extraction as Extraction,
)
from .shards import (
    take_shard as take_shard,
)
from .verify import (
    verify_store as verify_store,
)
