from .compare import (
    ComparedRun as ComparedRun,
)
from .compare import (
    Pair as Pair,
)
from .compare import (
    are_repeats as are_repeats,
)
from .compare import (
    cells_of_runs as cells_of_runs,
)
from .compare import (
    check_same_classes as check_same_classes,
)
from .compare import (
    compare_repeats as compare_repeats,
)
from .compare import (
    compare_runs as compare_runs,
)
from .compare import (
    compared_repeats_table as compared_repeats_table,
)
from .compare import (
    comparison_table as comparison_table,
)
from .compare import (
    list_unused_classes as list_unused_classes,
)
from .compare import (
    majority_rate as majority_rate,
)
from .compare import (
    name_runs as name_runs,
)
from .compare import (
    note_other_measure as note_other_measure,
)
from .compare import (
    pair_runs as pair_runs,
)
from .compare import (
    summarize_run as summarize_run,
)
from .folder import (
    NETWORK_FILE as NETWORK_FILE,
)
from .folder import (
    check_free as check_free,
)
from .folder import (
    put_back as put_back,
)
from .folder import (
    read_run as read_run,
)
from .folder import (
    write_run as write_run,
)
from .metrics import (
    METRICS as METRICS,
)
from .metrics import (
    accuracy_interval as accuracy_interval,
)
from .metrics import (
    count_confusion as count_confusion,
)
from .metrics import (
    gather_answers as gather_answers,
)
from .metrics import (
    predict_scores as predict_scores,
)
from .metrics import (
    report_classes as report_classes,
)
from .metrics import (
    score as score,
)
from .metrics import (
    signed_score as signed_score,
)
from .model import (
    load_model as load_model,
)
from .network import (
    FineTuned as FineTuned,
)
from .network import (
    build_from_run as build_from_run,
)
from .network import (
    is_run as is_run,
)
from .network import (
    read_finetuned as read_finetuned,
)
from .predictions import (
    Scores as Scores,
)
from .predictions import (
    align_predictions as align_predictions,
)
from .predictions import (
    read_predictions as read_predictions,
)
from .predictions import (
    read_scores as read_scores,
)
from .predictions import (
    score_columns as score_columns,
)
from .record import (
    FINETUNE as FINETUNE,
)
from .record import (
    Cell as Cell,
)
from .record import (
    Run as Run,
)
from .repeats import (
    RECORD as RECORD,
)
from .repeats import (
    Repeat as Repeat,
)
from .repeats import (
    RepeatedRun as RepeatedRun,
)
from .repeats import (
    format_repeats as format_repeats,
)
from .repeats import (
    read_repeats as read_repeats,
)
from .repeats import (
    repeats_table as repeats_table,
)
from .repeats import (
    summarize_repeats as summarize_repeats,
)
from .repeats import (
    write_repeats as write_repeats,
)
from .saved import (
    SavedRun as SavedRun,
)
from .tables import (
    cells_table as cells_table,
)
from .tables import (
    format_params as format_params,
)
from .tables import (
    format_table as format_table,
)
from .tables import (
    format_test as format_test,
)
from .tables import (
    format_validation as format_validation,
)
from .tables import (
    format_weight as format_weight,
)
from .tables import (
    layers_table as layers_table,
)
