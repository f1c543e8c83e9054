from .files import (
    cache_dir as cache_dir,
)
from .files import (
    check_free_files as check_free_files,
)
from .files import (
    check_writable as check_writable,
)
from .files import (
    is_file as is_file,
)
from .files import (
    is_folder as is_folder,
)
from .files import (
    put_folder_back as put_folder_back,
)
from .files import (
    sha256_of as sha256_of,
)
from .files import (
    sync_file as sync_file,
)
from .files import (
    sync_folder as sync_folder,
)
from .files import (
    whole_file as whole_file,
)
from .files import (
    whole_files as whole_files,
)
from .files import (
    whole_folder as whole_folder,
)
from .locks import (
    hold as hold,
)
from .locks import (
    is_lock_file as is_lock_file,
)
from .locks import (
    make_lock as make_lock,
)
from .machine import (
    SHARED_BY as SHARED_BY,
)
from .machine import (
    available_cores as available_cores,
)
from .machine import (
    available_memory as available_memory,
)
from .machine import (
    format_command as format_command,
)
from .machine import (
    format_machine as format_machine,
)
from .machine import (
    now as now,
)
from .machine import (
    peak_memory as peak_memory,
)
from .machine import (
    sharing_processes as sharing_processes,
)
from .machine import (
    total_memory as total_memory,
)
from .machine import (
    versions_record as versions_record,
)
from .mistakes import (
    Location as Location,
)
from .mistakes import (
    Problems as Problems,
)
from .mistakes import (
    check_problems as check_problems,
)
from .mistakes import (
    close_names as close_names,
)
from .mistakes import (
    format_mistake as format_mistake,
)
from .mistakes import (
    join_location as join_location,
)
from .mistakes import (
    show_value as show_value,
)
from .options import (
    Joined as Joined,
)
from .options import (
    Names as Names,
)
from .options import (
    Option as Option,
)
from .options import (
    Options as Options,
)
from .options import (
    Range as Range,
)
from .options import (
    Seed as Seed,
)
from .options import (
    Values as Values,
)
from .options import (
    WrongValue as WrongValue,
)
from .options import (
    option as option,
)
from .options import (
    options_of as options_of,
)
from .options import (
    read_record as read_record,
)
from .options import (
    takes as takes,
)
from .progress import (
    RunLog as RunLog,
)
from .progress import (
    Tally as Tally,
)
from .progress import (
    progress_bar as progress_bar,
)
from .shards import (
    Shard as Shard,
)
from .shards import (
    parse_shard as parse_shard,
)
from .signals import (
    Terminated as Terminated,
)
from .signals import (
    finish_first as finish_first,
)
from .signals import (
    stop_on_sigterm as stop_on_sigterm,
)
from .yaml import (
    parse_yaml as parse_yaml,
)
from .yaml import (
    read_yaml as read_yaml,
)
from .yaml import (
    to_yaml as to_yaml,
)
from .yaml import (
    without_numpy as without_numpy,
)
