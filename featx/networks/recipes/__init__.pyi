from .changes import (
    parse_changes as parse_changes,
)
from .files import (
    read_recipe as read_recipe,
)
from .files import (
    recipe_from_record as recipe_from_record,
)
from .files import (
    recipe_record as recipe_record,
)
from .files import (
    recipe_text as recipe_text,
)
from .files import (
    shipped_recipes as shipped_recipes,
)
from .files import (
    write_recipe as write_recipe,
)
from .head import (
    PREDICTIONS as PREDICTIONS,
)
from .head import (
    seed_sequence as seed_sequence,
)
from .network import (
    TunedNetwork as TunedNetwork,
)
from .network import (
    build_tuned_network as build_tuned_network,
)
from .network import (
    freeze_all_but as freeze_all_but,
)
from .network import (
    frozen_boundary as frozen_boundary,
)
from .network import (
    head_source as head_source,
)
from .network import (
    is_named_by as is_named_by,
)
from .network import (
    split_at as split_at,
)
from .network import (
    trainable_tail as trainable_tail,
)
from .network import (
    unfrozen_layers as unfrozen_layers,
)
from .schema import (
    Augmentation as Augmentation,
)
from .schema import (
    Checked as Checked,
)
from .schema import (
    Count as Count,
)
from .schema import (
    Flatten as Flatten,
)
from .schema import (
    HeadLayer as HeadLayer,
)
from .schema import (
    Recipe as Recipe,
)
from .schema import (
    Stage as Stage,
)
