from .answers import (
    plot_confusion as plot_confusion,
)
from .answers import (
    plot_reliability as plot_reliability,
)
from .answers import (
    plot_roc as plot_roc,
)
from .data import (
    plot_class_counts as plot_class_counts,
)
from .grid import (
    list_grid_axes as list_grid_axes,
)
from .grid import (
    plot_grid as plot_grid,
)
from .registry import (
    FIGURES as FIGURES,
)
from .registry import (
    FigureKind as FigureKind,
)
from .registry import (
    Panel as Panel,
)
from .run_figures import (
    draw_accuracies as draw_accuracies,
)
from .run_figures import (
    draw_confusion as draw_confusion,
)
from .run_figures import (
    draw_curves as draw_curves,
)
from .run_figures import (
    draw_grid as draw_grid,
)
from .run_figures import (
    draw_layers as draw_layers,
)
from .run_figures import (
    draw_reliability as draw_reliability,
)
from .run_figures import (
    draw_roc as draw_roc,
)
from .runs import (
    CLASSICAL as CLASSICAL,
)
from .runs import (
    FINE_TUNED as FINE_TUNED,
)
from .runs import (
    plot_accuracies as plot_accuracies,
)
from .runs import (
    plot_curves as plot_curves,
)
from .runs import (
    plot_layers as plot_layers,
)
from .store_data import (
    read_pictures as read_pictures,
)
from .store_figures import (
    N_CLOSER as N_CLOSER,
)
from .store_figures import (
    draw_classes as draw_classes,
)
from .store_figures import (
    draw_correlation as draw_correlation,
)
from .store_figures import (
    draw_dead as draw_dead,
)
from .store_figures import (
    draw_embedding as draw_embedding,
)
from .store_figures import (
    draw_filters as draw_filters,
)
from .store_figures import (
    draw_top_images as draw_top_images,
)
from .store_figures import (
    summary_figures as summary_figures,
)
from .style import (
    ending_of as ending_of,
)
from .style import (
    save as save,
)
from .style import (
    short_name as short_name,
)
from .style import (
    style as style,
)
from .style import (
    to_svg as to_svg,
)
