from .open import (
    open_cluster as open_cluster,
)
from .settings import (
    Address as Address,
    parse_address as parse_address,
    read_settings as read_settings,
)
from .tasks import (
    Cluster as Cluster,
    KilledError as KilledError,
    keep_on_worker as keep_on_worker,
)
from .worker import (
    TaskResult as TaskResult,
    wait_for_lock as wait_for_lock,
)
