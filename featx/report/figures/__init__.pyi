from .answers import (
    plot_confusion as plot_confusion,
    plot_reliability as plot_reliability,
    plot_roc as plot_roc,
)
from .data import (
    plot_class_counts as plot_class_counts,
)
from .grid import (
    list_grid_axes as list_grid_axes,
    plot_grid as plot_grid,
)
from .registry import (
    FIGURES as FIGURES,
    FigureKind as FigureKind,
    Panel as Panel,
)
from .run_figures import (
    draw_accuracies as draw_accuracies,
    draw_confusion as draw_confusion,
    draw_curves as draw_curves,
    draw_grid as draw_grid,
    draw_layers as draw_layers,
    draw_reliability as draw_reliability,
    draw_roc as draw_roc,
)
from .runs import (
    CLASSICAL as CLASSICAL,
    FINE_TUNED as FINE_TUNED,
    plot_accuracies as plot_accuracies,
    plot_curves as plot_curves,
    plot_layers as plot_layers,
)
from .store_data import (
    read_pictures as read_pictures,
)
from .store_figures import (
    N_CLOSER as N_CLOSER,
    draw_classes as draw_classes,
    draw_correlation as draw_correlation,
    draw_dead as draw_dead,
    draw_embedding as draw_embedding,
    draw_filters as draw_filters,
    draw_top_images as draw_top_images,
    summary_figures as summary_figures,
)
from .style import (
    ending_of as ending_of,
    save as save,
    short_name as short_name,
    style as style,
    to_svg as to_svg,
)
