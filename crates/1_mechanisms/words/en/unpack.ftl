# Archives, trees, downloads of bytes into them.
UNP001 = the archive is damaged ({ $what })
    .hint = fetch or make it again
UNP002 = the archive wants to write to { $path }, outside of its tree
    .hint = do not trust this archive; list it with tar --list
UNP003 = { $path } cannot be written
    .hint = df -h shows whether the disk is full; the tree must not be mounted read-only
UNP004 = the archive cannot be read
    .hint = check the disk or the connection it comes from, and try again
UNP005 = archives compressed with { $codec } cannot be read or written here
    .hint = use .tar, .tar.gz, .tar.zst, or (to read) .tar.xz
UNP006 = { $path } belongs to user { $uid } and group { $gid }, which do not exist in the namespace
    .hint = make the archive with owners below 65536
UNP007 = { $path } cannot be read while it is packed
    .hint = check that the file is there and may be read
UNP008 = { $path } is there already and is something else (a directory, a device, a pipe)
    .hint = choose another target, or remove it first
