from .applications import (
    build_application as build_application,
)
from .applications import (
    named_outputs as named_outputs,
)
from .backbone import (
    FrozenBackbone as FrozenBackbone,
)
from .backbone import (
    build_backbone as build_backbone,
)
from .backbone import (
    give_weights as give_weights,
)
from .backbone import (
    verify_weights as verify_weights,
)
from .backend import (
    choose_constants as choose_constants,
)
from .backend import (
    compile_model as compile_model,
)
from .backend import (
    format_device as format_device,
)
from .backend import (
    load_keras as load_keras,
)
from .describe import (
    summarize_backbones as summarize_backbones,
)
from .describe import (
    summarize_layers as summarize_layers,
)
from .pooling import (
    WHOLE as WHOLE,
)
from .pooling import (
    choose_poolings as choose_poolings,
)
from .pooling import (
    layer_of as layer_of,
)
from .pooling import (
    name_features as name_features,
)
from .pooling import (
    plan_features as plan_features,
)
from .pooling import (
    pool as pool,
)
from .preprocessing import (
    BGR as BGR,
)
from .preprocessing import (
    PREPROCESSINGS as PREPROCESSINGS,
)
from .preprocessing import (
    preprocess as preprocess,
)
from .registry import (
    BACKBONES as BACKBONES,
)
from .registry import (
    Backbone as Backbone,
)
from .registry import (
    choose_layers as choose_layers,
)
from .registry import (
    expand_layers as expand_layers,
)
from .registry import (
    find_backbone as find_backbone,
)
from .topology import (
    Call as Call,
)
from .topology import (
    UnsupportedError as UnsupportedError,
)
from .topology import (
    activation_of as activation_of,
)
from .topology import (
    read_topology as read_topology,
)
from .weights import (
    SOURCES as SOURCES,
)
from .weights import (
    Weights as Weights,
)
from .weights import (
    find_download as find_download,
)
from .weights import (
    is_file_name as is_file_name,
)
from .weights import (
    is_source as is_source,
)
from .weights import (
    load_weights as load_weights,
)
from .weights import (
    where_found as where_found,
)
from .weights_keras import (
    read_network_file as read_network_file,
)
