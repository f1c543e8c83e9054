from .open import (
    open_cluster as open_cluster,
)
from .settings import (
    Address as Address,
)
from .settings import (
    parse_address as parse_address,
)
from .settings import (
    read_settings as read_settings,
)
from .tasks import (
    Cluster as Cluster,
)
from .tasks import (
    KilledError as KilledError,
)
from .tasks import (
    keep_on_worker as keep_on_worker,
)
from .worker import (
    TaskResult as TaskResult,
)
from .worker import (
    wait_for_lock as wait_for_lock,
)
