from .data import (
    gather as gather,
)
from .write import (
    write_page as write_page,
    write_report as write_report,
)
