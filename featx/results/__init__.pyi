from .compare import (
    ComparedRun as ComparedRun,
    Pair as Pair,
    are_repeats as are_repeats,
    cells_of_runs as cells_of_runs,
    check_same_classes as check_same_classes,
    compare_repeats as compare_repeats,
    compare_runs as compare_runs,
    compared_repeats_table as compared_repeats_table,
    comparison_table as comparison_table,
    list_unused_classes as list_unused_classes,
    majority_rate as majority_rate,
    name_runs as name_runs,
    note_other_measure as note_other_measure,
    pair_runs as pair_runs,
    summarize_run as summarize_run,
)
from .folder import (
    NETWORK_FILE as NETWORK_FILE,
    check_free as check_free,
    put_back as put_back,
    read_run as read_run,
    write_run as write_run,
)
from .metrics import (
    METRICS as METRICS,
    accuracy_interval as accuracy_interval,
    count_confusion as count_confusion,
    gather_answers as gather_answers,
    predict_scores as predict_scores,
    report_classes as report_classes,
    score as score,
    signed_score as signed_score,
)
from .model import (
    load_model as load_model,
)
from .network import (
    FineTuned as FineTuned,
    build_from_run as build_from_run,
    is_run as is_run,
    read_finetuned as read_finetuned,
)
from .predictions import (
    Scores as Scores,
    align_predictions as align_predictions,
    read_predictions as read_predictions,
    read_scores as read_scores,
    score_columns as score_columns,
)
from .record import (
    FINETUNE as FINETUNE,
    Cell as Cell,
    Run as Run,
)
from .repeats import (
    RECORD as RECORD,
    Repeat as Repeat,
    RepeatedRun as RepeatedRun,
    format_repeats as format_repeats,
    read_repeats as read_repeats,
    repeats_table as repeats_table,
    summarize_repeats as summarize_repeats,
    write_repeats as write_repeats,
)
from .saved import (
    SavedRun as SavedRun,
)
from .tables import (
    cells_table as cells_table,
    format_params as format_params,
    format_table as format_table,
    format_test as format_test,
    format_validation as format_validation,
    format_weight as format_weight,
    layers_table as layers_table,
)
