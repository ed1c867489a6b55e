CGR001 = the kernel refuses { $value } in { $path }
    .hint = posada doctor tells which controllers this host has
CGR002 = no cgroup hierarchy is mounted
    .hint = mount -t cgroup2 cgroup2 /sys/fs/cgroup
CGR003 = the cgroup { $path } cannot be made
    .hint = posada doctor; inside a container, cgroups have to be delegated to it
CGR004 = the cgroup { $path } cannot be removed: processes are left in it
    .hint = cat { $path }/cgroup.procs
CGR005 = the kernel refuses the limit { $limit } = { $value }
    .hint = choose a value within what the host has (processors: nproc; memory: more than the guest uses now)
CGR006 = the processes in { $path } cannot be frozen
    .hint = posada doctor tells whether this host has a freezer
CGR007 = processes in { $path } survive being killed
    .hint = they hang in the kernel, often on a dead disk or network mount; dmesg may tell
CGR008 = { $path } is no path of a cgroup
    .hint = a path such as posada/guests/NAME, without .. and leading slash
