from .files import (
    cache_dir as cache_dir,
    check_free_files as check_free_files,
    check_writable as check_writable,
    is_file as is_file,
    is_folder as is_folder,
    put_folder_back as put_folder_back,
    sha256_of as sha256_of,
    sync_file as sync_file,
    sync_folder as sync_folder,
    whole_file as whole_file,
    whole_files as whole_files,
    whole_folder as whole_folder,
)
from .locks import (
    hold as hold,
    is_lock_file as is_lock_file,
    make_lock as make_lock,
)
from .machine import (
    SHARED_BY as SHARED_BY,
    available_cores as available_cores,
    available_memory as available_memory,
    format_command as format_command,
    format_machine as format_machine,
    now as now,
    peak_memory as peak_memory,
    sharing_processes as sharing_processes,
    total_memory as total_memory,
    versions_record as versions_record,
)
from .mistakes import (
    Location as Location,
    Problems as Problems,
    check_problems as check_problems,
    close_names as close_names,
    format_mistake as format_mistake,
    join_location as join_location,
    show_value as show_value,
)
from .options import (
    Joined as Joined,
    Names as Names,
    Option as Option,
    Options as Options,
    Range as Range,
    Seed as Seed,
    Values as Values,
    WrongValue as WrongValue,
    option as option,
    options_of as options_of,
    read_record as read_record,
    takes as takes,
)
from .progress import (
    RunLog as RunLog,
    Tally as Tally,
    progress_bar as progress_bar,
)
from .shards import (
    Shard as Shard,
    parse_shard as parse_shard,
)
from .signals import (
    Terminated as Terminated,
    finish_first as finish_first,
    stop_on_sigterm as stop_on_sigterm,
)
from .yaml import (
    parse_yaml as parse_yaml,
    read_yaml as read_yaml,
    to_yaml as to_yaml,
    without_numpy as without_numpy,
)
