# The store of the daemon.
STO001 = the store { $path } cannot be read or written
    .hint = check the disk with `df -h` and `dmesg`; a copy of the file can be put back while the daemon is stopped
STO002 = { $key } was changed by somebody else at the same time
    .hint = try again
STO003 = another daemon has the store { $path } open
    .hint = posada version
STO004 = the store { $path } was written by a newer Posada (layout { $format })
    .hint = install that version, or put back the copy that it made beside the store (*.format*)
STO005 = the record { $key } in the store does not read
    .hint = posada doctor
