from .data import (
    gather as gather,
)
from .write import (
    write_page as write_page,
)
from .write import (
    write_report as write_report,
)
