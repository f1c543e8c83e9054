from .decode import (
    INTERPOLATIONS as INTERPOLATIONS,
    JPEGS as JPEGS,
    RESIZES as RESIZES,
    Picture as Picture,
    read_picture as read_picture,
    read_size as read_size,
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
    as_labels as as_labels,
    as_number as as_number,
    note_look_alikes as note_look_alikes,
    sort_labels as sort_labels,
    text_of as text_of,
)
from .listing import (
    list_sources as list_sources,
)
from .manifest import (
    SPLITS as SPLITS,
    Manifest as Manifest,
    digest_paths as digest_paths,
    read_source as read_source,
)
from .options import (
    ImageOptions as ImageOptions,
    SourceOptions as SourceOptions,
)
from .read_ahead import (
    PictureNotes as PictureNotes,
    n_decoders as n_decoders,
)
from .splits import (
    divide_groups as divide_groups,
    draw_by_class as draw_by_class,
    group_of_each as group_of_each,
    make_count_splits as make_count_splits,
    make_splits as make_splits,
)
from .tables import (
    write_table as write_table,
)
from .views import (
    FLIPS as FLIPS,
    VIEWS as VIEWS,
    flip as flip,
    make_views as make_views,
    n_views as n_views,
)
