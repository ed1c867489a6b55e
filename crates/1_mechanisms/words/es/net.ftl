NET001 = el núcleo se negó: { $what } { $link }
    .hint = posada doctor
NET002 = falta el programa nft
    .hint = apt-get install nftables
NET003 = nft rechazó nuestro filtro de paquetes
    .hint = posada doctor; hacen falta nft 1.0.6 o posterior y un núcleo con nf_tables
NET004 = no se pudo poner a { $value } el ajuste del núcleo { $key }
    .hint = posada doctor
NET005 = no se puede entrar en el espacio de red del huésped
    .hint = quizá el huésped acaba de terminar; posada show NOMBRE
NET006 = { $mac } no es una dirección física para un huésped
    .hint = escriba seis pares de cifras hexadecimales, el primero par, como 02:1a:2b:3c:4d:5e
NET007 = { $subnet } no es una subred
    .hint = escriba una subred IPv4 como 10.77.0.0/24 y un prefijo IPv6 como fd12:3456:789a:1::/64
NET010 = no hay ninguna red { $network }
    .hint = posada network ls
NET011 = la dirección { $ip } es del huésped { $holder }
    .hint = elija otra o prescinda de --ip
NET012 = { $ip } no es una dirección para huéspedes de { $subnet }
    .hint = elija una de { $subnet }, salvo las dos primeras y la última, o prescinda de --ip
NET013 = todas las direcciones de { $subnet } están ocupadas
    .hint = posada ls; borre los huéspedes que ya no necesite
NET014 = el puerto { $port }{ $transport ->
        [udp] /udp
       *[tcp] {""}
    } está ocupado por { $kind ->
        [guest] el huésped { $holder }
        [process] { $holder }
       *[unknown] otro programa
    }
    .hint = posada launch … --publish { $other }:80
NET015 = { $ip } no es una dirección de este anfitrión
    .hint = ip address; o publique en todas las direcciones omitiendo la dirección
NET016 = ninguna subred 10.x.y.0/24 está libre de las rutas del anfitrión
    .hint = ip route show table all; indique una: posada network create --subnet
NET017 = la subred { $subnet } choca con { $by }, que el anfitrión usa
    .hint = ip route show table all; elija otra
NET018 = el proceso de la red { $network } no responde
    .hint = lea net.log en el directorio de ejecución de la red; posada doctor
NET019 = no se puede leer o escribir { $path }
    .hint = compruebe que su sistema de ficheros tiene sitio y está sano: df -h { $path }
NET020 = el huésped { $guest } no tiene tarjeta de red
    .hint = láncelo sin --no-network para publicar sus puertos
NET021 = el puerto { $port }/{ $transport } de la pasarela de la red está ocupado por { $holder }
    .hint = haga que ese programa escuche solo en sus propias direcciones: ss -lnp sport = :{ $port }
NET022 = la dirección física { $mac } es del huésped { $holder }
    .hint = elija otra o prescinda de --mac
NET023 = el huésped { $holder } sigue en la red { $network }
    .hint = posada rm { $holder }
NET024 = el anfitrión negó un socket: { $what }
    .hint = posada doctor

doctor-nft = programa del filtro de paquetes
doctor-bridge = puentes
doctor-uplink = salida al exterior
doctor-ipv6 = IPv6
doctor-ufw = ufw descarta lo que los huéspedes envían fuera
doctor-docker = Docker descarta lo que los huéspedes envían fuera
doctor-forward-drop = un filtro de paquetes descarta lo que los huéspedes envían fuera
doctor-input-drop = un filtro de paquetes puede privar a los huéspedes de DHCP y DNS
doctor-firewalld = firewalld vigila el puente
