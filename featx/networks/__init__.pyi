from .applications import (
    build_application as build_application,
    named_outputs as named_outputs,
)
from .backbone import (
    FrozenBackbone as FrozenBackbone,
    build_backbone as build_backbone,
    give_weights as give_weights,
    verify_weights as verify_weights,
)
from .backend import (
    choose_constants as choose_constants,
    compile_model as compile_model,
    format_device as format_device,
    load_keras as load_keras,
)
from .describe import (
    summarize_backbones as summarize_backbones,
    summarize_layers as summarize_layers,
)
from .pooling import (
    WHOLE as WHOLE,
    choose_poolings as choose_poolings,
    layer_of as layer_of,
    name_features as name_features,
    plan_features as plan_features,
    pool as pool,
)
from .preprocessing import (
    BGR as BGR,
    PREPROCESSINGS as PREPROCESSINGS,
    preprocess as preprocess,
)
from .registry import (
    BACKBONES as BACKBONES,
    Backbone as Backbone,
    choose_layers as choose_layers,
    expand_layers as expand_layers,
    find_backbone as find_backbone,
)
from .topology import (
    Call as Call,
    UnsupportedError as UnsupportedError,
    activation_of as activation_of,
    read_topology as read_topology,
)
from .weights import (
    SOURCES as SOURCES,
    Weights as Weights,
    find_download as find_download,
    is_file_name as is_file_name,
    is_source as is_source,
    load_weights as load_weights,
    where_found as where_found,
)
from .weights_keras import (
    read_network_file as read_network_file,
)
