NET001 = the kernel refused: { $what } { $link }
    .hint = posada doctor
NET002 = the program nft is missing
    .hint = apt-get install nftables
NET003 = nft refused our packet filter
    .hint = posada doctor; nft 1.0.6 or newer and a kernel with nf_tables are needed
NET004 = the kernel setting { $key } could not be set to { $value }
    .hint = posada doctor
NET005 = the guest's network namespace cannot be entered
    .hint = the guest may have ended just now; posada show NAME
NET006 = { $mac } is no hardware address for a guest
    .hint = write six pairs of hexadecimal digits, the first one even, as 02:1a:2b:3c:4d:5e
NET007 = { $subnet } is no subnet
    .hint = write an IPv4 subnet as 10.77.0.0/24 and an IPv6 prefix as fd12:3456:789a:1::/64
NET010 = there is no network { $network }
    .hint = posada network ls
NET011 = the address { $ip } belongs to guest { $holder }
    .hint = choose another one, or leave --ip out
NET012 = { $ip } is no address for guests of { $subnet }
    .hint = choose one of { $subnet }, neither its first two nor its last, or leave --ip out
NET013 = every address of { $subnet } is taken
    .hint = posada ls; remove guests that are not needed any more
NET014 = port { $port }{ $transport ->
        [udp] /udp
       *[tcp] {""}
    } is taken { $kind ->
        [guest] by guest { $holder }
        [process] by { $holder }
       *[unknown] by another program
    }
    .hint = posada launch … --publish { $other }:80
NET015 = { $ip } is no address of this host
    .hint = ip address; or publish on all addresses by leaving the address out
NET016 = no subnet 10.x.y.0/24 is free of the host's routes
    .hint = ip route show table all; name one: posada network create --subnet
NET017 = the subnet { $subnet } collides with { $by }, which the host uses
    .hint = ip route show table all; choose another one
NET018 = the network process of { $network } does not answer
    .hint = read net.log in the network's run directory; posada doctor
NET019 = { $path } cannot be read or written
    .hint = check that its file system has room and is sound: df -h { $path }
NET020 = guest { $guest } has no network card
    .hint = launch it without --no-network to publish its ports
NET021 = port { $port }/{ $transport } of the network's gateway is taken by { $holder }
    .hint = let that program listen on its own addresses only: ss -lnp sport = :{ $port }
NET022 = the hardware address { $mac } belongs to guest { $holder }
    .hint = choose another one, or leave --mac out
NET023 = guest { $holder } is still in network { $network }
    .hint = posada rm { $holder }
NET024 = the host refused a socket: { $what }
    .hint = posada doctor

doctor-nft = packet filter program
doctor-bridge = bridges
doctor-uplink = way outside
doctor-ipv6 = IPv6
doctor-ufw = ufw drops what guests send outside
doctor-docker = Docker drops what guests send outside
doctor-forward-drop = a packet filter drops what guests send outside
doctor-input-drop = a packet filter may keep guests from DHCP and DNS
doctor-firewalld = firewalld guards the bridge
