# The command line: what it says, what it asks, what went wrong. The help of the verbs is in verbs.ftl.

# Helping words around faults.
cli-cause = cause:
cli-try = try:
cli-yes-no = [y/N]

# Progress of long work.
cli-progress-of = { $done } of { $total }
cli-progress-left = { $seconds } s left
cli-interrupted-once = Leaving it to go on by itself; press Ctrl-C again now to cancel it.
cli-cancelling = Cancelling; what was done is being undone.
cli-daemon-starting = Starting the Posada daemon (log: { $log }).
cli-detached = Operation { $operation } goes on by itself; posada operation show { $operation } --follow comes back to it.

# What verbs have done.
cli-started = { $name } is running
cli-stopped = { $name } is stopped
cli-restarted = { $name } is running again
cli-paused = { $name } is paused
cli-resumed = { $name } goes on
cli-renamed = { $name } is called { $new } now
cli-removed = { $name } is removed
cli-removed-hint = It is kept for 7 days: posada trash restore { $name }
cli-purged = { $name } is gone for good
cli-restored = { $name } is back
cli-changed = { $name } is changed
cli-password-set = password set in { $name }
cli-image-removed = image { $name } is removed
cli-pruned = images removed: { $removed }
cli-unpublished = { $port } is no longer published
cli-operation-cancelled = operation { $id } will end at its next safe point
cli-trash-is-empty = The trash is empty.
cli-trash-emptied = { $count ->
    [one] One guest is gone for good
   *[other] { $count } guests are gone for good
}
cli-bootstrapped = { $target } is ready: { $packages } packages, { $size } ({ $fetched } fetched)
cli-man-written = { $count } manual pages written to { $dir }
cli-console-entered = Console of { $name }. Ctrl-a x leaves it, Ctrl-a a sends Ctrl-a.
cli-console-left = {"\u000D"}Left the console; the guest goes on.

# The end of launch.
cli-launched-at = { $name } ({ $image }) is running at { $address }
cli-launched = { $name } ({ $image }) is running
cli-launched-not-running = { $name } is { $state }
cli-launched-port = Port { $host } of this host ({ $at }) leads to port { $guest }.
cli-unenforced = This host cannot enforce the limit { $limit }: { $reason }
cli-next-system =
    Next:
      posada shell { $name }          a root shell inside
      posada exec { $name } -- CMD    run one command
      posada logs -f { $name }        its console
cli-launched-processor = { $by }
cli-by-kvm = It runs on the host's processor, by KVM.
cli-by-software = It runs on the software CPU.
cli-by-software-because = It runs on the software CPU: { $why }.
cli-next-machine =
    Next:
      posada console { $name }        its serial console (Ctrl-a x leaves it)
      posada shell { $name }          a root shell inside, once its system is up
      posada vnc { $name }            its screen
cli-vnc-address = Address   { $address }
cli-vnc-password = Password  { $password }
screenshot-kept = What the screen shows is in { $file }
cli-next-command =
    Next:
      posada logs -f { $name }        its output
      posada shell { $name }          a shell beside it

# Questions.
cli-ask-purge = { $count ->
    [one] Delete { $names } for good, with all its data?
   *[other] Delete these { $count } guests for good, with all their data: { $names }?
}
cli-ask-remove = { $count ->
    [one] Remove { $names }?
   *[other] Remove these { $count } guests: { $names }?
}
cli-ask-stop = { $count ->
    [one] { $names } is running: stop and remove it?
   *[other] { $names } are running: stop and remove them?
}
cli-ask-prune = Remove every image that no guest stands on?
cli-password = New password of { $user }:
cli-password-again = Once more:

# Empty listings.
cli-no-guests = No guests yet. Make one: posada launch debian/12 web
cli-no-images = No images yet. The first launch makes one: posada launch debian/12 web

# States.
cli-phase-defined = defined
cli-phase-starting = starting
cli-phase-running = running
cli-phase-paused = paused
cli-phase-saved = saved
cli-phase-stopping = stopping
cli-phase-stopped = stopped
cli-phase-failed = failed
cli-since = for { $age }
cli-ago = { $age } ago
cli-exit-code = exited with status { $code }
cli-exit-signal = killed by signal { $signal }
cli-exit-poweroff = powered itself off
cli-exit-reboot = rebooted

# The page of show.
cli-show-name = Name
cli-show-id = Id
cli-show-state = State
cli-show-reason = Reason
cli-show-exit = Last end
cli-show-restarts = Restarts
cli-show-created = Created
cli-show-kind = Kind
cli-kind-container = container
cli-kind-machine = machine
cli-show-processor = Runs by
cli-show-processors = Processors
cli-show-disks = Disks
cli-show-iso = CD-ROM
cli-show-kernel = Kernel
cli-show-initrd = Initrd
cli-show-append = Command line
cli-show-keymap = Keymap
cli-show-image = Image
cli-show-digest = Digest
cli-show-command = Command
cli-show-env = Environment
cli-show-hostname = Host name
cli-show-network = Network
cli-show-ports = Ports
cli-show-limits = Limits
cli-show-mounts = Mounts
cli-show-autostart = Autostart
cli-show-policies = Policies
cli-show-flags = Flags
cli-show-ids = Host ids
cli-show-labels = Labels
cli-show-pid = Process 1
cli-not-enforced = not enforced here: { $reason }
cli-autostart = order { $order }, { $delay } s before the next
cli-flag-protect = protected
cli-flag-privileged = privileged
cli-flag-nesting = nesting
cli-flag-ephemeral = removed when it stops
cli-flag-firmware = starts by firmware
cli-flag-headless = no screen
cli-flag-discard-writes = what it writes is thrown away when it stops
cli-explain-commands = The same by hand

# Networks.
cli-network-mode = Mode
cli-network-bridge = Bridge
cli-network-gateway = Gateway
cli-network-gateway6 = Gateway (IPv6)
cli-network-domain = Domain
cli-network-serving = DHCP and DNS
cli-network-lease = Lease

# top, doctor, version.
cli-top-head = posada top · guests: { $count } · sorted by { $column }
cli-top-keys = c cpu  m memory  p pids  n name  s state  r/t network  d/w disk  a all  q quit
cli-verdict-good = good
cli-verdict-limited = limited
cli-verdict-bad = bad
cli-version-daemon = daemon { $version } (interface { $api }, process { $pid })
cli-version-no-daemon = no daemon is running

cli-exit-statuses =
    Exit statuses of posada:

      0    it worked
      1    it failed, or it failed for some of several guests
      2    the command line is wrong
      3    the daemon cannot be reached
      125  exec, shell, launch --rm: Posada failed before the command could run
      126  exec: the command cannot be executed
      127  exec: the command was not found
      128+n  the command was killed by signal n
      130  left with Ctrl-C; the work goes on
      else  exec, shell, launch --rm, jail: the status of the command itself

# Faults.
CLI001 = there is no verb "{ $verb }"
    .hint = { $meant ->
        [none] posada help lists all verbs
       *[other] posada { $meant }
    }
CLI002 = there is no option "{ $option }" here
    .hint = { $meant ->
        [none] usage: { $usage }
       *[other] did you mean { $meant }?
    }
CLI003 = something is missing: { $argument }
    .hint = usage: { $usage }
CLI004 = "{ $value }" is not a value of { $option }
    .hint = { $allowed ->
        [none] posada help tells what it takes
       *[other] one of: { $allowed }
    }
CLI005 = { $option } and { $other } exclude each other
    .hint = leave one of them out
CLI006 = the command line is wrong
    .hint = usage: { $usage }
CLI007 = "{ $text }" is not a port to publish
    .hint = write [IP:]HOST:GUEST[/udp], as in 8000:80, 127.0.0.1:2200:22 or 53:53/udp
CLI008 = "{ $text }" is not a mount
    .hint = write HOST:GUEST[:ro] with an absolute path in the guest, as in ./www:/srv/www:ro
CLI009 = "{ $text }" is not of the form key=value
    .hint = as in tier=front
CLI010 = no guest is called { $selector }
    .hint = posada ls shows the guests there are
CLI011 = no guest was named
    .hint = name guests (patterns such as 'web-*' are fine), or use --label KEY=VALUE or --all
CLI012 = nothing was done, because nobody said yes
    .hint = give --yes to do it without asking
CLI013 = { $path } cannot be read or written
    .hint = check the path and its permissions: ls -ld { $path }
CLI014 = { $name } has no address
    .hint = posada wait { $name } ip --timeout 30 waits for one; posada show { $name } tells its state
CLI015 = the program { $program } cannot be run
    .hint = install it: apt-get install { $package }
CLI016 = no usable password was given
    .hint = it must not be empty, and must be typed the same twice; scripts use --password-stdin
CLI017 = the Posada daemon did not come up
    .hint = its log tells why: tail { $log }
CLI018 = there is no setting "{ $key }"
    .hint = settings: { $keys }
CLI019 = cp copies between this host and one guest
    .hint = one side is NAME:PATH, as in posada cp web:/etc/hosts . or posada cp ./site web:/srv
CLI020 = no error has the code { $code }
    .hint = codes are three letters and three digits, as in NET014
CLI021 = { $failed } of { $total } failed
    .hint = what failed is told above
CLI022 = Left. The work goes on as operation { $operation }.
    .hint = posada operation show { $operation } --follow comes back to it, posada operation cancel { $operation } ends it
CLI023 = this needs a terminal
    .hint = leave -t out, or run it from a terminal
CLI024 = nobody reads the output
    .hint = give the command again
CLI025 = there is no column "{ $column }"
    .hint = columns: { $columns }; or any field of the record by its path, as in status.phase
CLI026 = the session broke off
    .hint = posada show NAME tells whether the guest still runs
CLI027 = { $path } is not a directory
    .hint = make it first: mkdir -p { $path }
CLI028 = there is nothing to change
    .hint = posada set NAME KEY=VALUE, posada publish NAME 8000:80, posada publish NAME --remove 8000:80
CLI029 = several removed guests were called { $name }
    .hint = give the id of one: { $ids }
CLI030 = nothing called { $name } is in the trash
    .hint = posada trash ls shows what is
CLI031 = "{ $text }" is not a number that { $option } takes
    .hint = write digits, as in 2; a time may have a unit, as in 90s or 2m
CLI032 = { $path } is not a root tree
    .hint = make one: posada bootstrap debian/12 { $path }
CLI033 = this needs root
    .hint = put sudo before the command
CLI034 = guest { $name } has ended already: { $exit }
    .hint = posada logs { $name } shows what it said; posada events tells whether memory was short
CLI035 = { $option } is for machines
    .hint = add --vm
