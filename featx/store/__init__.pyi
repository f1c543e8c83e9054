from .checks import (
    Findings as Findings,
    check_file as check_file,
    probe as probe,
)
from .combine import (
    DigestIndex as DigestIndex,
    Outline as Outline,
    SplitFeatures as SplitFeatures,
    merge_rows as merge_rows,
    outline as outline,
    part_features as part_features,
)
from .describe import (
    format_summary as format_summary,
    summarize_store as summarize_store,
)
from .file import (
    DAMAGE as DAMAGE,
    StoredFeatures as StoredFeatures,
    opened as opened,
)
from .history import (
    add_run as add_run,
    read_history as read_history,
)
from .partial import (
    PartialStore as PartialStore,
    check_folder as check_folder,
)
from .parts import (
    Part as Part,
    PartFiles as PartFiles,
)
from .problems import (
    FEATURES_DIFFER as FEATURES_DIFFER,
    IMAGE_CHANGED as IMAGE_CHANGED,
    IMAGE_GONE as IMAGE_GONE,
    NO_DAMAGE as NO_DAMAGE,
    NO_SAMPLE as NO_SAMPLE,
    REPAIRABLE as REPAIRABLE,
    Problem as Problem,
    ranges_of as ranges_of,
    rows_in as rows_in,
)
from .reader import (
    Store as Store,
    open as open,
)
from .rows import (
    WITHOUT_GROUPS as WITHOUT_GROUPS,
    Fold as Fold,
    Rows as Rows,
    check_splits as check_splits,
    choose_features as choose_features,
    choose_stored_layers as choose_stored_layers,
    digest_rows as digest_rows,
    notes_on_choices as notes_on_choices,
    notes_on_identical as notes_on_identical,
    notes_on_splits as notes_on_splits,
    notes_on_weights as notes_on_weights,
    read_rows as read_rows,
    store_record as store_record,
)
from .settings import (
    STORE_DTYPES as STORE_DTYPES,
    Settings as Settings,
)
from .where import (
    check_expression as check_expression,
    describe_where as describe_where,
    select_rows as select_rows,
)
from .writer import (
    CHUNK_BYTES as CHUNK_BYTES,
    as_text as as_text,
    rewrite_store as rewrite_store,
    write_store as write_store,
)
