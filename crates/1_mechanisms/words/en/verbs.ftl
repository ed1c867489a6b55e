# The help of every verb: what it does, its examples, its arguments (as attributes of the same name).

cli = Posada, an inn for guests: containers and machines on this host.
    .examples =
        posada launch debian/12 web --publish 8000:80    make a guest and start it
        posada shell web                                 be inside
        posada exec web -- apt-get install -y nginx      run one command inside
        posada ls                                        see all guests
        posada stop web                                  stop it
        posada rm web                                    remove it (kept in the trash for 7 days)
cli-footer =
    posada VERB --help explains one verb, posada help CODE an error, posada help exit the exit statuses.
    Guests are selected by names, patterns ('web-*'), --label KEY=VALUE or --all.

cli-heading-examples = Examples:
cli-heading-usage = Usage:
cli-heading-verbs = Verbs:
cli-heading-arguments = Arguments:
cli-heading-options = Options:
cli-heading-everywhere = Options of every verb:
cli-one-of = { $help } ({ $values })
cli-usage-options = [OPTIONS]
cli-usage-verb = VERB
cli-group-life = From first to last:
cli-group-look = Look:
cli-group-inside = Be inside:
cli-group-change = Change:
cli-group-nouns = Images, networks, operations:
cli-group-host = This host, this program:

cli-value = placeholders
    .name = NAME
    .new = NEW
    .file = FILE
    .path = PATH
    .dir = DIR
    .user = USER
    .time = TIME
    .size = SIZE
    .number = NUMBER
    .seconds = SECONDS
    .lines = LINES
    .ports = PORTS
    .image = IMAGE
    .column = COLUMN
    .format = FORMAT
    .language = LANGUAGE
    .when = WHEN
    .address = ADDRESS
    .zone = ZONE
    .list = LIST
    .reaction = REACTION
    .signal = SIGNAL
    .engine = ENGINE
    .condition = CONDITION
    .topic = TOPIC
    .source = SOURCE
    .target = TARGET
    .key-value = KEY=VALUE
    .cmd = CMD
    .dir-file = DIR|FILE
    .size-file = SIZE|FILE
    .text = TEXT
    .flavour = FLAVOUR
    .keymap = KEYMAP
    .host-guest--ro- = HOST:GUEST[:ro]
    .locale = LOCALE
    .arch = ARCH
    .variant = VARIANT
    .revision = REVISION
    .shell = SHELL

cli-common = Arguments that mean the same everywhere
    .guest = Names or patterns of guests
    .label = Only guests with this label; may be given several times
    .all = All guests
    .yes = Do not ask
    .columns = Columns to show, or fields of the record by their paths (status.phase)
    .filter = Only entries of which this column or field has this value; patterns are allowed
    .sort = Order by this column; -COLUMN for descending
    .watch = Show it again every so many seconds (2 unless told otherwise)
    .socket = Socket of the daemon; also POSADA_SOCKET
    .project = Project of the guests
    .quiet = Only data: names and ids, no words
    .format = How data is written
    .color = When to colour
    .lang = Language of the words
    .help = Show this help
    .version = Show the version
    .memory = Most memory, as in 512M or 4G; of a machine all that it has
    .swap = Most swap beside the memory
    .cpus = Processors' worth of time, as in 0.5 or 2; of a machine its processors, a whole number
    .cpu-weight = Share of processor time among contenders, 1 to 10000; 100 is usual
    .cpu-pin = Processors it may run on, as in 0-3,8
    .pids = Most processes and threads
    .follow = Go on with what comes
    .image = A release (debian/12), a file (file:rootfs.tar.zst), a directory (./tree), a digest (sha256:…), or none for a machine that starts from something else
    .dry-run = Only show what would be done

cli-launch = Make a guest from an image and start it
    .examples =
        posada launch debian/12 web --publish 8000:80
        posada launch debian/12 srv --include openssh-server --user ana --ssh-key k.pub --publish 2200:22
        posada launch debian/12 db --memory 512M --cpus 1.5 --mount ./data:/srv/data
        posada launch --rm debian/12 job -- sh -c 'echo hello'
        posada launch debian/12 box --vm --memory 512M --disk 4G
        posada launch --vm --iso installer.iso --disk 8G --firmware box
    .name = Name of the guest; a pleasant one is made up when absent
    .command = Run this instead of the distribution's init: an application container
    .publish = Hand a port of this host on to the guest: [IP:]HOST:GUEST[/udp]; may be given several times
    .user = Make this user inside, with sudo where the image has it
    .ssh-key = Public key of that user (of root without --user)
    .password-stdin = Read the password of that user (of root without --user) from standard input
    .hostname = Host name inside; the guest's name when absent
    .network = Plug it into this network; may be given several times
    .ip = IPv4 address
    .mac = MAC address
    .nameserver = Name server instead of the network's own
    .no-network = No network card
    .locale = Locale inside, as in es_ES.UTF-8
    .timezone = Time zone inside, as in Europe/Madrid
    .include = More packages, separated by commas
    .mount = Show a directory of this host in the guest: HOST:GUEST[:ro]
    .proxy = Proxy inside: host (this host's), none, or a URL
    .env = Variable of the command; KEY alone takes the value from here
    .interactive = Hand standard input on to the command
    .tty = Give the command a terminal
    .no-tty = Give the command no terminal
    .env-file = Variables of the command, one KEY=VALUE a line
    .workdir = Working directory of the command
    .privileged = The rights of this host's root inside; only for guests you trust fully
    .nesting = Let containers be made inside
    .rm = Remove it when it stops; with a command, run it in the foreground
    .no-start = Make it without starting it
    .label = Label for selectors; may be given several times
    .autostart = Start it with the host
    .autostart-order = Lower numbers start first
    .autostart-delay = Seconds before the next guest starts
    .on-poweroff = What follows when it powers itself off
    .on-reboot = What follows when it reboots itself
    .on-crash = What follows when it crashes
    .stop-signal = Signal of a graceful stop, as in SIGTERM
    .protect = Refuse to stop or remove it
    .vm = A machine with its own kernel instead of a container
    .disk = Size of the disk made from the image (4G unless told), or of an empty one; or a raw or qcow2 file of this host, with :ro behind it for reading only; may be given several times
    .iso = CD-ROM image of this host, which starts
    .kernel = Kernel of this host instead of the disk's own
    .initrd = Initrd of that kernel
    .append = Added to the kernel's command line; with --kernel all of it
    .kernel-flavour = Which of the distribution's kernels the disk gets
    .firmware = Start by firmware (SeaBIOS) and the disk's own boot loader
    .headless = No screen and keyboard
    .keymap = Keyboard of who types at its screen
    .ephemeral = Throw away what it writes to its disks when it stops
    .engine = How it is virtualized
    .detach = Do not wait until it runs

cli-start = Start guests
    .examples =
        posada start web
        posada start 'web-*'

cli-stop = Stop guests: ask, and kill after a while
    .examples =
        posada stop web
        posada stop --all --timeout 10s
    .force = Kill at once
    .timeout = How long to wait before killing; 30s unless told otherwise

cli-restart = Stop and start guests
    .examples =
        posada restart web
    .force = Kill at once
    .timeout = How long to wait before killing; 30s unless told otherwise

cli-pause = Freeze guests: they use no processor time until resumed
    .examples =
        posada pause web

cli-resume = Let paused guests go on
    .examples =
        posada resume web

cli-rename = Give a guest another name
    .examples =
        posada rename web www
    .guest = Its name
    .new = Its new name

cli-rm = Remove guests; they stay in the trash for 7 days
    .examples =
        posada rm web
        posada rm --force --purge 'test-*'
    .force = Kill it first if it runs, and do not ask
    .purge = Delete it for good instead of keeping it in the trash

cli-trash = See removed guests, bring them back, or delete them for good
    .examples =
        posada trash ls
        posada trash restore web
        posada trash empty --yes
cli-trash-ls = List removed guests
cli-trash-restore = Bring removed guests back
    .entry = Name or id
cli-trash-empty = Delete all of them for good

cli-ls = List guests
    .examples =
        posada ls
        posada ls --filter state=running --sort -memory
        posada ls --format json
        posada ls --columns name,address,status.pid --watch
    .running = Only those that run

cli-show = Show everything about guests
    .examples =
        posada show web
        posada show web --format yaml

cli-top = Show live what every guest uses
    .examples =
        posada top
        posada top --once --format json
        posada top --sort -memory
    .interval = Seconds between two looks; 2 unless told otherwise
    .once = Print it once and end
    .all = Also guests that do not run

cli-logs = Show what a guest wrote to its console
    .examples =
        posada logs web
        posada logs -f --tail 20 web
    .guest = Its name
    .tail = Only the last lines, so many
    .firmware = What a machine's firmware said instead

cli-events = Show what happened
    .examples =
        posada events
        posada events --follow --filter 'target=guests/web'
    .since = Only events after this revision

cli-wait = Wait until a guest runs, has an address, or has stopped
    .examples =
        posada wait web ip --timeout 30s
        posada start job && posada wait job stopped
    .guest = Its name
    .condition = What to wait for
    .timeout = How long at most

cli-explain = Show the mechanism under a guest, and how to do it by hand
    .examples =
        posada explain web
    .guest = Its name

cli-ip = Print the address of guests
    .examples =
        posada ip web
        ping $(posada ip web)
    .ipv6 = The IPv6 address

cli-shell = Open a shell in a guest
    .examples =
        posada shell web
        posada shell web --user ana
    .guest = Its name
    .user = User inside; root unless told otherwise
    .workdir = Directory to begin in

cli-exec = Run a command in a guest
    .examples =
        posada exec web -- apt-get install -y nginx
        posada exec web -u www-data -w /srv -e A=1 -- id
        tar c . | posada exec -i web -- tar x -C /srv
    .guest = Its name
    .command = The command and its arguments
    .interactive = Hand standard input on even when it is a terminal
    .tty = Give it a terminal
    .no-tty = Give it no terminal
    .env = Variable of the command; KEY alone takes the value from here
    .workdir = Working directory
    .user = User inside, as in ana or 33:33; root unless told otherwise

cli-console = Attach to the console of a guest; Ctrl-a x leaves it
    .examples =
        posada console web
    .guest = Its name

cli-vnc = Show where the screen of a machine is served, and the password for it
    .examples =
        posada vnc db
        posada vnc db --format json
    .guest = Its name

cli-screenshot = Show what is on the screen of a machine, as a picture or as text
    .examples =
        posada screenshot db
        posada screenshot db --text
        posada screenshot db db.png
    .guest = Its name
    .file = File for it; NAME.png for a picture unless told, - for standard output
    .text = As text

cli-ssh = Connect to a guest by ssh, whatever its address is
    .examples =
        posada ssh web
        posada ssh ana@web -- uptime
    .guest = Its name, and the user before it
    .user = User inside; the one made at launch, else root
    .command = Command to run instead of a shell

cli-cp = Copy files between this host and a guest
    .examples =
        posada cp web:/etc/nginx/nginx.conf .
        posada cp ./site web:/srv
        posada cp web:/var/log - | tar t
    .source = What to copy: a path of this host, NAME:PATH, or - for a tar stream
    .target = Where to: the same

cli-set = Change settings of a guest, also while it runs
    .examples =
        posada set web memory=1G cpus=2
        posada set web protect=true label.tier=front
        posada set web --memory none
        posada set db --iso none
    .guest = Its name
    .setting = Settings; the value none takes one away
    .label = Label to set; an empty value takes it away
    .iso = CD-ROM image for a machine's drive; none ejects it
    .append = What is added to the command line of a machine's kernel

cli-publish = Hand ports of this host on to a guest
    .examples =
        posada publish web 2300:23
        posada publish web 127.0.0.1:8080:80 53:53/udp
        posada publish web --remove 2300
        posada publish web
    .guest = Its name
    .ports = Ports as [IP:]HOST:GUEST[/udp]; without any, what is published is shown
    .remove = Take a port back

cli-passwd = Set a password in a guest
    .examples =
        posada passwd web ana
        printf secret | posada passwd web --password-stdin
    .guest = Its name
    .user = User inside; root unless told otherwise
    .password-stdin = Read it from standard input

cli-image = See, remove and tidy images
    .examples =
        posada image ls
        posada image show debian/12
        posada image prune --yes
cli-image-ls = List images
cli-image-show = Show everything about images
cli-image-rm = Remove images
cli-image-prune = Remove the images that no guest stands on

cli-network = See networks
    .examples =
        posada network ls
        posada network show default
cli-network-ls = List networks
cli-network-show = Show a network and the addresses it has handed out
    .network = Its name

cli-operation = See long work, come back to it, cancel it
    .examples =
        posada operation ls
        posada operation show 3f2a --follow
        posada operation cancel 3f2a
cli-operation-ls = List operations of the last hour and those under way
    .all = All that are stored
cli-operation-show = Show one operation
    .operation = Its id, or the beginning of it
cli-operation-cancel = Cancel operations; what they had done is undone
    .operation = Their ids, or the beginnings of them

cli-bootstrap = Make a root tree from a signed Debian archive, without the daemon
    .examples =
        posada bootstrap debian/12 ./tree
        posada bootstrap debian/13 rootfs.tar.zst --include vim,less
    .target = A directory that is new or empty, or a file .tar, .tar.gz or .tar.zst
    .arch = Architecture, as Debian names it
    .variant = How much of the release
    .include = More packages, separated by commas
    .exclude = Packages to leave out
    .mirror = Address of the archive
    .components = Components of the archive; main unless told otherwise
    .keyring = Keyring that must have signed the archive
    .cache-dir = Where downloads are kept

cli-jail = Run a program in a root tree, in namespaces of its own, without the daemon
    .examples =
        posada jail ./tree
        posada jail ./tree --own net --mount ./src:/src -- make -C /src
    .dir = The root tree
    .command = The program and its arguments; a login shell without any
    .share = Namespaces shared with this host, beside the network: pid, uts, ipc
    .own = Namespaces of its own beyond pid, uts and ipc: net, cgroup
    .hostname = Host name inside; this host's unless told otherwise
    .workdir = Directory to begin in
    .mount = Show a directory of this host inside: HOST:GUEST[:ro]
    .env = Variable inside
    .user = User inside; root unless told otherwise

cli-doctor = Tell what this host can and cannot do, and how to mend it
    .examples =
        posada doctor

cli-version = Show the versions of this program and of the daemon
    .examples =
        posada version --format json

cli-completion = Print a script that completes verbs, options and live names
    .examples =
        posada completion bash > /etc/bash_completion.d/posada
        posada completion zsh > "$fpath[1]/_posada"
        posada completion fish > ~/.config/fish/completions/posada.fish
    .shell = The shell

cli-help = Explain a verb, an error code, or the exit statuses
    .examples =
        posada help launch
        posada help NET014
        posada help exit
    .topic = A verb, a code such as NET014, or exit

cli-man = Write the manual pages into a directory
    .dir = The directory
