from .decode import (
    INTERPOLATIONS as INTERPOLATIONS,
)
from .decode import (
    JPEGS as JPEGS,
)
from .decode import (
    RESIZES as RESIZES,
)
from .decode import (
    Picture as Picture,
)
from .decode import (
    read_picture as read_picture,
)
from .decode import (
    read_size as read_size,
)
from .decode import (
    read_unchanged as read_unchanged,
)
from .elpv import (
    read_elpv as read_elpv,
)
from .files import (
    digest_of as digest_of,
)
from .folders import (
    list_paths as list_paths,
)
from .icc import (
    ICCS as ICCS,
)
from .labels import (
    as_label as as_label,
)
from .labels import (
    as_labels as as_labels,
)
from .labels import (
    as_number as as_number,
)
from .labels import (
    note_look_alikes as note_look_alikes,
)
from .labels import (
    sort_labels as sort_labels,
)
from .labels import (
    text_of as text_of,
)
from .listing import (
    list_sources as list_sources,
)
from .manifest import (
    SPLITS as SPLITS,
)
from .manifest import (
    Manifest as Manifest,
)
from .manifest import (
    digest_paths as digest_paths,
)
from .manifest import (
    read_source as read_source,
)
from .options import (
    ImageOptions as ImageOptions,
)
from .options import (
    SourceOptions as SourceOptions,
)
from .read_ahead import (
    PictureNotes as PictureNotes,
)
from .read_ahead import (
    n_decoders as n_decoders,
)
from .splits import (
    divide_groups as divide_groups,
)
from .splits import (
    draw_by_class as draw_by_class,
)
from .splits import (
    group_of_each as group_of_each,
)
from .splits import (
    make_count_splits as make_count_splits,
)
from .splits import (
    make_splits as make_splits,
)
from .tables import (
    write_table as write_table,
)
from .views import (
    FLIPS as FLIPS,
)
from .views import (
    VIEWS as VIEWS,
)
from .views import (
    flip as flip,
)
from .views import (
    make_views as make_views,
)
from .views import (
    n_views as n_views,
)
