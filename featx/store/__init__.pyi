from .checks import (
    Findings as Findings,
)
from .checks import (
    check_file as check_file,
)
from .checks import (
    probe as probe,
)
from .combine import (
    DigestIndex as DigestIndex,
)
from .combine import (
    Outline as Outline,
)
from .combine import (
    SplitFeatures as SplitFeatures,
)
from .combine import (
    merge_rows as merge_rows,
)
from .combine import (
    outline as outline,
)
from .combine import (
    part_features as part_features,
)
from .describe import (
    format_summary as format_summary,
)
from .describe import (
    summarize_store as summarize_store,
)
from .file import (
    DAMAGE as DAMAGE,
)
from .file import (
    StoredFeatures as StoredFeatures,
)
from .file import (
    opened as opened,
)
from .history import (
    add_run as add_run,
)
from .history import (
    read_history as read_history,
)
from .partial import (
    PartialStore as PartialStore,
)
from .partial import (
    check_folder as check_folder,
)
from .parts import (
    Part as Part,
)
from .parts import (
    PartFiles as PartFiles,
)
from .problems import (
    FEATURES_DIFFER as FEATURES_DIFFER,
)
from .problems import (
    IMAGE_CHANGED as IMAGE_CHANGED,
)
from .problems import (
    IMAGE_GONE as IMAGE_GONE,
)
from .problems import (
    NO_DAMAGE as NO_DAMAGE,
)
from .problems import (
    NO_SAMPLE as NO_SAMPLE,
)
from .problems import (
    REPAIRABLE as REPAIRABLE,
)
from .problems import (
    Problem as Problem,
)
from .problems import (
    ranges_of as ranges_of,
)
from .problems import (
    rows_in as rows_in,
)
from .reader import (
    Store as Store,
)
from .reader import (
    open as open,
)
from .rows import (
    WITHOUT_GROUPS as WITHOUT_GROUPS,
)
from .rows import (
    Fold as Fold,
)
from .rows import (
    Rows as Rows,
)
from .rows import (
    check_splits as check_splits,
)
from .rows import (
    choose_features as choose_features,
)
from .rows import (
    choose_stored_layers as choose_stored_layers,
)
from .rows import (
    digest_rows as digest_rows,
)
from .rows import (
    notes_on_choices as notes_on_choices,
)
from .rows import (
    notes_on_identical as notes_on_identical,
)
from .rows import (
    notes_on_splits as notes_on_splits,
)
from .rows import (
    notes_on_weights as notes_on_weights,
)
from .rows import (
    read_rows as read_rows,
)
from .rows import (
    store_record as store_record,
)
from .settings import (
    STORE_DTYPES as STORE_DTYPES,
)
from .settings import (
    Settings as Settings,
)
from .where import (
    check_expression as check_expression,
)
from .where import (
    describe_where as describe_where,
)
from .where import (
    select_rows as select_rows,
)
from .writer import (
    CHUNK_BYTES as CHUNK_BYTES,
)
from .writer import (
    as_text as as_text,
)
from .writer import (
    rewrite_store as rewrite_store,
)
from .writer import (
    write_store as write_store,
)
