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
from .run_data import (
    read_accuracies as read_accuracies,
)
from .run_data import (
    read_confusion as read_confusion,
)
from .run_data import (
    read_curves as read_curves,
)
from .run_data import (
    read_grid as read_grid,
)
from .run_data import (
    read_layer_figures as read_layer_figures,
)
from .run_data import (
    read_scores as read_scores,
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
from .style import (
    ending_of as ending_of,
)
from .style import (
    save as save,
)
