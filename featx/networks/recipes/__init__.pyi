from .changes import (
    parse_changes as parse_changes,
)
from .files import (
    read_recipe as read_recipe,
    recipe_from_record as recipe_from_record,
    recipe_record as recipe_record,
    recipe_text as recipe_text,
    shipped_recipes as shipped_recipes,
    write_recipe as write_recipe,
)
from .head import (
    PREDICTIONS as PREDICTIONS,
    seed_sequence as seed_sequence,
)
from .network import (
    TunedNetwork as TunedNetwork,
    build_tuned_network as build_tuned_network,
    freeze_all_but as freeze_all_but,
    frozen_boundary as frozen_boundary,
    head_source as head_source,
    is_named_by as is_named_by,
    split_at as split_at,
    trainable_tail as trainable_tail,
    unfrozen_layers as unfrozen_layers,
)
from .schema import (
    Augmentation as Augmentation,
    Checked as Checked,
    Count as Count,
    Flatten as Flatten,
    HeadLayer as HeadLayer,
    Recipe as Recipe,
    Stage as Stage,
)
