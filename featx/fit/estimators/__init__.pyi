from .forest import (
    PrefixForestClassifier as PrefixForestClassifier,
)
from .gram import (
    SharedGram as SharedGram,
)
from .large_svm import (
    LargeSVC as LargeSVC,
)
from .svm import (
    GramSVC as GramSVC,
)
from .ternary import (
    TernaryDiscretizer as TernaryDiscretizer,
)
